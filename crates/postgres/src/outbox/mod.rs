//! The outbox: what comes in, what the relay reads, and what people see of it.

mod append;
mod copy;
mod cursor;
mod holders;
mod intake;
mod log;
mod office;
mod pages;
mod partitions;
mod reader;
mod row;
mod scan;

pub(crate) use intake::Intake;
pub use scan::Reading;
