//! The API over real sockets, on ports that are held in memory so that they can be busy, full or away at will.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests; these are their helpers")]

mod fake;
mod harness;

mod door;
mod durable;
mod health;
mod intake;
mod limits;
mod live;
mod resources;
mod roles;
mod shutdown;
