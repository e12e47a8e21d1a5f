//! The HTTP API: webhooks and events in, everything that a person or a program asks of a running hub.
//!
//! What lives here: [`router`] (routes, limits, the checks at the door), [`serve`] (the accept loop with its time-outs),
//! [`ApiOptions`]. Handlers read a request, call one method of [`crossdock_engine::Hub`] or one store port, and write
//! the answer; they decide nothing.
//!
//! What it must never know: SQL, broker clients, connector names, wire formats of events (an
//! [`Envelope`](crossdock_core::Envelope) is handed in).
//!
//! ```text
//! serve ─► front: request id · Host and Origin · token ─► handler ─► Hub
//!            ◄── problem+json, security headers, panics caught ◄──┘
//! ```
//!
//! Every error is `application/problem+json` (RFC 9457) with a stable `urn:crossdock:problem:…` type; lists are
//! `{"items": […], "next": cursor or null}` with `?limit=` (1 to 1,000, default 50) and `?cursor=`.

mod options;
mod router;
mod serve;
mod stalled;
mod starting;

mod front;
mod guard;

mod connections;
mod dead_letters;
mod events;
mod failure_groups;
mod flows;
mod health;
mod home;
mod intake;
mod moments;
mod outbox;
mod replay_plans;
mod replays;

mod act;
mod body;
mod budget;
mod id;
mod inflate;
mod json;
mod payload;
mod problem;
mod query;
mod rate;
mod selection;

pub use options::{ApiOptions, Serves, Worker};
pub use router::router;
pub use serve::serve;
pub use starting::{Doors, starting};

pub(crate) use problem::Problem;
pub(crate) use router::{Answer, Api};
