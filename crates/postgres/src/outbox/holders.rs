//! Who may still commit a number that was missed.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};

/// The transactions that hold the lock of an `INSERT` on the outbox.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// By their names, whether they are prepared: then no process is behind them. A prepared transaction keeps its name, `backend/number`,
    /// until the server starts again, and is `-1/number` from then on; before Postgres 14.4 it is that from the beginning.
    pub(crate) prepared: HashMap<String, bool>,
    /// The last number that was given out.
    pub(crate) last_number: i64,
}

/// `pg_locks` shows locks on the fast path too, and needs no right. An insert holds the lock on the table that it names and on the
/// partition that it leads to; both are asked for, since somebody may insert into a partition. Locks that are
/// waited for are no harm: their transactions have taken no number yet, or hold one already.
const HOLDERS: &str = "
    SELECT (SELECT last_value FROM crossdock.outbox_seq_seq), lock.virtualtransaction, lock.pid IS NULL
    FROM pg_locks AS lock
    WHERE lock.locktype = 'relation' AND lock.mode = 'RowExclusiveLock'
        AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND lock.relation IN (
            SELECT 'crossdock.outbox'::regclass::oid
            UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'crossdock.outbox'::regclass)";

/// Looks at who holds the lock now.
pub(crate) async fn holders(connection: &mut PgConnection) -> Result<Holders, sqlx::Error> {
    let mut holders = Holders::default();
    for row in sqlx::query(HOLDERS).fetch_all(connection).await? {
        // Without a row the number is not needed: it bounds what a prepared transaction has taken.
        holders.last_number = row.try_get(0)?;
        holders.prepared.insert(row.try_get(1)?, row.try_get(2)?);
    }
    Ok(holders)
}
