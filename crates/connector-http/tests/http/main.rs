//! The connector over real sockets.

mod answers;
mod common;
#[path = "../../../../tests/oracles/oracle.rs"]
mod oracle;
mod requests;
mod standard_webhooks;
