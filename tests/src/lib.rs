//! Scenarios over the real binary: this crate starts `crossdock` as a process, talks to it over HTTP and compares what
//! went in with what came out, from outside.
//!
//! Scenarios live in `tests/scenarios`, checks of the source tree in `tests/architecture.rs`, benchmarks in `src/bin/bench`.

mod database;
mod hub;
mod terminal;
mod writer;

pub use database::Database;
pub use hub::{Hub, Setup, TRACKER_SECRET, crossdock, workspace};
pub use terminal::Terminal;
pub use writer::{Accepted, Writer};
