//! Partitions of the outbox: made ahead of the writers, dropped behind the relay.
//!
//! Nothing here lets a writer wait for more than a blink: a partition is made beside the table and attached, which needs a
//! lock that no insert minds; an old one is emptied first, which locks nothing else, and taken off the table
//! when nobody happens to write. Whatever cannot get its lock at once is tried again later.

use std::{sync::Arc, time::Duration};

use crossdock_core::StoreError;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, raw_sql};
use tokio::time::Instant;

use super::{expiry, office::Office};
use crate::{errors, pool::Purpose};

/// At the highest rate that was seen, a partition of the smallest size is full after five seconds.
const EVERY: Duration = Duration::from_secs(1);
/// So many partitions are there that nobody writes to yet.
const AHEAD: i64 = 4;
/// With more partitions than this, new ones are larger: each costs a little planning time in every statement.
const PARTITIONS: i64 = 64;
/// But not larger than so many of the smallest size: the newest ones have no index by id.
const LARGER_MAX: i64 = 10;
/// Adding a partition lets readers wait for whoever has read all of the table and holds on, and taking one off lets writers wait
/// for whoever is still writing: for this long. What was not to be had by then is tried again later.
pub(crate) const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '20ms';";
const LOCK_AGAIN: Duration = Duration::from_secs(10);
/// How long looking after partitions may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Bounds are read from the catalog. The default partition has none.
const PARTITIONS_SQL: &str = r"
    SELECT child.relname::text, bound[1]::int8, bound[2]::int8,
        to_regclass('crossdock.' || child.relname || '_event') IS NOT NULL
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    CROSS JOIN LATERAL regexp_match(pg_get_expr(child.relpartbound, child.oid), $$FROM \('?(\d+)'?\) TO \('?(\d+)'?\)$$) AS bound
    WHERE inhparent = 'crossdock.outbox'::regclass AND bound IS NOT NULL
    ORDER BY 2";

const HEAD: &str = "
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END, (SELECT max(seq) FROM crossdock.outbox_default)
    FROM crossdock.outbox_seq_seq";

/// The part of the table with numbers from `from` to before `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Whether its events can be found by their ids.
    pub(crate) indexed: bool,
}

/// Whether the locks on the table were to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Locks {
    /// Or none was needed.
    Had,
    /// Somebody was in the way.
    Missed,
}

/// What there is.
#[derive(Debug)]
pub(crate) struct Table {
    /// By number.
    pub(crate) partitions: Vec<Partition>,
    /// The last number that was given out.
    pub(crate) head: i64,
    /// The last number that has no partition of its own, if there is one.
    pub(crate) astray: Option<i64>,
}

/// Looks after the partitions for as long as the reader is in office.
pub(crate) async fn keep(office: Arc<Office>) {
    let (mut failing, mut lock_at) = (false, Instant::now());
    loop {
        let may_lock = Instant::now() >= lock_at;
        let kept = keep_once(&office, may_lock).await;
        if may_lock && matches!(kept, Ok(Locks::Missed)) {
            lock_at = Instant::now() + LOCK_AGAIN;
        }
        match &kept {
            Err(error) if !failing => {
                tracing::warn!(
                    error = crossdock_core::chain(error),
                    "the partitions of the outbox cannot be looked after; it is tried again"
                );
            }
            Ok(_) if failing => tracing::info!("the partitions of the outbox are looked after again"),
            _ => {}
        }
        failing = kept.is_err();
        tokio::time::sleep(EVERY).await;
    }
}

async fn keep_once(office: &Arc<Office>, may_lock: bool) -> Result<Locks, StoreError> {
    let (given, doing) = (office.clone(), "looking after the partitions of the outbox");
    office
        .pools
        .call_within(LIMIT, Purpose::Relay, doing, move |connection| {
            Box::pin(async move {
                let table = table(connection).await?;
                let made = if may_lock { make(connection, &table, &given).await? } else { Locks::Had };
                expiry::index(connection, &table.partitions, table.head).await?;
                let dropped = expiry::drop_done(connection, &table, &given, may_lock).await?;
                expiry::forget(connection, &given).await?;
                Ok(made.max(dropped))
            })
        })
        .await
}

async fn table(connection: &mut PgConnection) -> Result<Table, sqlx::Error> {
    let rows = sqlx::query(PARTITIONS_SQL).fetch_all(&mut *connection).await?;
    let partition = |row: sqlx::postgres::PgRow| {
        Ok(Partition {
            name: row.try_get(0)?,
            from: row.try_get(1)?,
            to: row.try_get(2)?,
            indexed: row.try_get(3)?,
        })
    };
    let partitions = rows.into_iter().map(partition).collect::<Result<_, sqlx::Error>>()?;
    let head = sqlx::query(HEAD).fetch_one(connection).await?;
    Ok(Table { partitions, head: head.try_get(0)?, astray: head.try_get(1)? })
}

impl Table {
    /// The partitions to be made, so that writers have room ahead.
    fn wanted(&self, rows_min: i64) -> Vec<Partition> {
        let lowest = self.partitions.first().map_or(1, |partition| partition.from);
        // As many rows as are kept, spread over as many partitions as are good.
        let rows = rows_min * ((self.head - lowest) / PARTITIONS / rows_min + 1).min(LARGER_MAX);
        let end = self.partitions.last().map_or(1, |partition| partition.to);
        let from = match self.astray.max(Some(self.head)).filter(|last| *last >= end) {
            // Writers were faster: they are left room to go on where they are while a partition is made.
            Some(last) => last + rows_min,
            None => end,
        };
        let free = self.partitions.iter().filter(|partition| partition.from > self.head).count();
        let missing = AHEAD - i64::try_from(free).unwrap_or(AHEAD);
        (0..missing)
            .map(|n| from + n * rows)
            .map(|from| Partition { name: format!("outbox_{from}"), from, to: from + rows, indexed: false })
            .collect()
    }
}

async fn make(connection: &mut PgConnection, table: &Table, office: &Office) -> Result<Locks, sqlx::Error> {
    let rows_min = i64::try_from(office.options.partition_rows).unwrap_or(i64::MAX).max(1);
    for partition in table.wanted(rows_min) {
        let Partition { name, from, to, .. } = &partition;
        // With the check, attaching reads no row of the new partition. The default one is locked for a moment.
        let sql = format!(
            "{LOCK_WAIT}
            CREATE TABLE crossdock.{name} (LIKE crossdock.outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
            ALTER TABLE crossdock.{name} ADD CONSTRAINT bounds CHECK (seq IS NOT NULL AND seq >= {from} AND seq < {to});
            ALTER TABLE crossdock.outbox ATTACH PARTITION crossdock.{name} FOR VALUES FROM ({from}) TO ({to});
            ALTER TABLE crossdock.{name} DROP CONSTRAINT bounds"
        );
        if !at_once(connection, sql).await? {
            return Ok(Locks::Missed);
        }
    }
    Ok(Locks::Had)
}

/// Runs statements in a transaction; false if a lock was not to be had (55P03), or another worker was faster (42P07).
pub(crate) async fn at_once(connection: &mut PgConnection, sql: String) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let done = raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await;
    match done {
        Ok(_) => transaction.commit().await.map(|()| true),
        Err(error) if matches!(errors::code(&error).as_deref(), Some("55P03" | "42P07")) => {
            transaction.rollback().await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(bounds: &[(i64, i64)], head: i64, astray: Option<i64>) -> Table {
        let partition = |(from, to): &(i64, i64)| Partition {
            name: format!("outbox_{from}"),
            from: *from,
            to: *to,
            indexed: false,
        };
        Table { partitions: bounds.iter().map(partition).collect(), head, astray }
    }

    fn wanted(table: &Table) -> Vec<(i64, i64)> {
        table.wanted(100).into_iter().map(|partition| (partition.from, partition.to)).collect()
    }

    #[test]
    fn four_partitions_are_free_ahead_of_the_writers() {
        let bounds = [(1, 101), (101, 201), (201, 301), (301, 401), (401, 501)];
        assert_eq!(wanted(&table(&bounds, 50, None)), []);
        assert_eq!(wanted(&table(&bounds, 101, None)), [(501, 601)]);
        assert_eq!(wanted(&table(&bounds, 499, None)), [(501, 601), (601, 701), (701, 801), (801, 901)]);
    }

    #[test]
    fn partitions_grow_with_what_is_kept() {
        assert_eq!(wanted(&table(&[(1, 6_401)], 6_400, None))[..2], [(6_401, 6_501), (6_501, 6_601)]);
        assert_eq!(wanted(&table(&[(1, 64_001)], 64_000, None))[0], (64_001, 65_001));
    }

    #[test]
    fn writers_that_were_faster_are_left_room() {
        let numbers = wanted(&table(&[(1, 101)], 205, Some(200)));
        assert_eq!(numbers[0], (305, 405));
        assert_eq!(wanted(&table(&[(1, 101)], 150, None))[0], (250, 350));
    }
}
