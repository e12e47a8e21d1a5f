//! The outbox: what comes in, what the relay reads, and what people see of it.

mod acts;
mod append;
mod copy;
mod cursor;
mod expiry;
mod holders;
mod inspect;
mod intake;
mod log;
mod office;
mod pages;
mod partitions;
mod reader;
mod row;
mod scan;

pub use acts::RefusedRow;
pub(crate) use append::row_id;
pub(crate) use cursor::stored_set_back as set_back;
pub use inspect::{OutboxGaps, OutboxHolder, OutboxRowId};
pub(crate) use intake::Intake;
pub(crate) use row::{COLUMNS, DATA, Decoder, Fields, NAMES, Read};
pub use scan::Reading;
