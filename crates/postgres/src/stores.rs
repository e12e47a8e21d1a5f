//! The stores of the engine: what deliveries leave behind, and what workers share.
//!
//! ```text
//! settle ─► fence: the owner's epoch, held until the commit
//!        ─► held rows: removed, kept again, added        one statement each, whatever the size of the batch
//!        ─► what it means for replays and letters: worked out in memory, in order, from rows that are locked
//!        ─► letters, groups, items, replays              one statement each
//! ```
//!
//! Rows are locked in one order everywhere: place, held, replay, items, letters by number, groups by number. Where two
//! transactions get in each other's way all the same, the one that Postgres refused is done again.

mod audit;
mod checkpoints;
mod connections;
mod cursor;
mod dead_letters;
mod event_log;
mod held;
mod leases;
mod letter;
mod maintain;
mod places;
mod replays;
mod rows;
mod selection;
mod settle;
mod transaction;

pub(crate) use places::Places;
