//! The `http` connector: calls any HTTP API, and signs what it sends by Standard Webhooks.
//!
//! Every call carries a `webhook-id` that stays the same over tries and replays, so that the receiver can drop what it has
//! already. What an answer means is the sdk's table; redirects are not followed; addresses go through the sdk's guard.
//!
//! It must never know the engine, or any one vendor: those are manifests.

mod action;
mod auth;
mod connector;
mod fields;
mod target;

pub use connector::Http;
