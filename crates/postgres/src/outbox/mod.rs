//! The outbox: what comes in, what the relay reads, and what people see of it.

mod intake;

pub(crate) use intake::Intake;
