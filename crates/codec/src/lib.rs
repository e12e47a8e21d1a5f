//! Wire formats ⇄ [`crossdock_core::Event`].
//!
//! What lives here: [`CloudEvents`], the CloudEvents 1.0 HTTP binding in its structured, batch and binary modes. The
//! data of an event is never re-written: it is a slice of the bytes that came in, and only text or base64 that the
//! JSON form makes necessary is taken off.
//!
//! What it must never know: brokers, connectors, stores, HTTP types. A request is a list of headers and a body.
//!
//! Everything is refused at the door that would make trouble later: what is accepted can be stored, mapped, shown and
//! sent. Each refusal names the place (a JSON pointer) and what is allowed there.

mod attributes;
mod binary;
mod cloudevents;
mod encode;
mod items;
mod json;
mod media;
mod members;
mod refusal;
mod scan;
mod structured;

pub use cloudevents::CloudEvents;
