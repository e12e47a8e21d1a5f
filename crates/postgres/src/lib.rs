//! Postgres behind every store port, and the outbox that applications write to.
//!
//! ```text
//! application ── INSERT INTO crossdock.outbox ─┐             ┌─► reader: gap-tracking cursor, lease, epoch ─► relay
//! intake ─► writer: one commit for all ────────┴─► outbox ───┤
//!                                                            └─► partitions, made ahead and dropped behind
//! engine ─► pools by purpose ─► held events, dead letters, replays, connections, leases, checkpoints
//! ```
//!
//! **Durability**: what is answered is committed with the server's `synchronous_commit`; only the relay's cursor is made durable
//! a little later. **Time**: every time-out runs on both sides, and a connection whose call timed out is closed. **Errors**: a
//! server that is away, a full disk, a failover: nothing is settled and nothing is accepted until it is back. Several workers
//! share one database; leases and epochs live there.
//!
//! What it must never know: HTTP, brokers, connectors.

mod check;
mod errors;
mod findings;
mod migrate;
mod open;
mod options;
mod outbox;
mod pool;
mod publish;
mod stores;

pub use errors::{Failure, within};
pub use migrate::{MigrateError, Migrated};
pub use open::{OpenError, Postgres};
pub use options::{OptionError, PostgresOptions};
#[doc(hidden)]
pub use outbox::Reading;
pub use outbox::{OutboxGaps, OutboxHolder, OutboxRowId, RefusedRow};
pub use pool::Purpose;
pub use publish::{OutboxMessage, publish};
