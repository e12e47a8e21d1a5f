//! The connector over real sockets.

#![allow(clippy::unwrap_used, reason = "what cannot go on fails the test")]

mod answers;
mod common;
#[path = "../../../../tests/oracles/oracle.rs"]
mod oracle;
mod requests;
mod standard_webhooks;
