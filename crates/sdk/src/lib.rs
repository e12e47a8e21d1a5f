//! The connector author's desk: everything that a connector needs, so that it depends on this crate alone.
//!
//! - [`signature`]: webhook signatures as data, verified and made;
//! - [`http`]: the way out: one guarded client, deadlines, capped bodies, checked headers and paths;
//! - [`classify`] and [`Redactor`]: what an answer means, and what of it people may see;
//! - [`manifest`] and [`Declarative`]: a connector that is a YAML file.
//!
//! It must never know the engine, a store or a broker: a connector is told what to call and says what came of it; when,
//! how often and how fast is decided elsewhere. The ports it implements are those of `crossdock-core`, re-exported here.

pub mod http;
pub mod manifest;
pub mod signature;

mod classify;
mod declarative;
mod redact;

pub use classify::classify;
pub use crossdock_core::{
    Action, ActionSpec, Body, Class, Connection, ConnectionName, Connector, ConnectorError, ConnectorSpec,
    Environment, Event, Fault, Field, FieldKind, Inbound, Inbox, Item, Output, Refusal, Setting, Settings,
    Wait, Webhook, WrittenField,
};
pub use declarative::{CheckFailure, Declarative};
pub use redact::Redactor;
pub use secrecy::{ExposeSecret, SecretString};
