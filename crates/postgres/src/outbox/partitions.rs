//! Partitions of the outbox: made ahead of the writers, dropped behind the relay.
//!
//! Nothing here lets a writer wait for more than a blink: a partition is made beside the table and attached, which needs a
//! lock that no insert minds; an old one is emptied first, which locks nothing else, and taken off the table
//! when nobody happens to write. Whatever cannot get its lock at once is tried again later.

use std::{sync::Arc, time::Duration};

use crossdock_core::StoreError;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, raw_sql};

use super::office::Office;
use crate::{
    errors::{self, Failure},
    pool::Purpose,
};

/// At the highest rate that was seen, a partition of the smallest size is full after five seconds.
const EVERY: Duration = Duration::from_secs(1);
/// So many partitions are there that nobody writes to yet.
const AHEAD: i64 = 4;
/// With more partitions than this, new ones are larger: each costs a little planning time in every statement.
const PARTITIONS: i64 = 64;
/// But not larger than so many of the smallest size: the newest ones have no index by id.
const LARGER_MAX: i64 = 10;
/// Ids of duplicates that are forgotten at a time.
const FORGOTTEN_AT_ONCE: i64 = 20_000;
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
struct Partition {
    name: String,
    from: i64,
    to: i64,
    /// Whether its events can be found by their ids.
    indexed: bool,
}

/// What there is.
#[derive(Debug)]
struct Table {
    /// By number.
    partitions: Vec<Partition>,
    /// The last number that was given out.
    head: i64,
    /// The last number that has no partition of its own, if there is one.
    astray: Option<i64>,
}

/// Looks after the partitions for as long as the reader is in office.
pub(crate) async fn keep(office: Arc<Office>) {
    let mut failing = false;
    loop {
        let kept = keep_once(&office).await;
        match &kept {
            Err(error) if !failing => {
                tracing::warn!(
                    error = crossdock_core::chain(error),
                    "the partitions of the outbox cannot be looked after; it is tried again"
                );
            }
            Ok(()) if failing => tracing::info!("the partitions of the outbox are looked after again"),
            _ => {}
        }
        failing = kept.is_err();
        tokio::time::sleep(EVERY).await;
    }
}

async fn keep_once(office: &Arc<Office>) -> Result<(), StoreError> {
    let (given, doing) = (office.clone(), "looking after the partitions of the outbox");
    office
        .pools
        .call_within(LIMIT, Purpose::Relay, doing, |connection| {
            Box::pin(async move {
                let table = table(connection).await?;
                make(connection, &table, &given).await?;
                index(connection, &table).await?;
                drop_done(connection, &table, &given).await?;
                forget(connection, &given).await?;
                Ok(())
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

async fn make(connection: &mut PgConnection, table: &Table, office: &Office) -> Result<(), sqlx::Error> {
    let rows_min = i64::try_from(office.options.partition_rows).unwrap_or(i64::MAX).max(1);
    for partition in table.wanted(rows_min) {
        let Partition { name, from, to, .. } = &partition;
        // With the check, attaching reads no row of the new partition. The default one is locked for a moment.
        let sql = format!(
            "SET LOCAL lock_timeout = '200ms';
            CREATE TABLE crossdock.{name} (LIKE crossdock.outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
            ALTER TABLE crossdock.{name} ADD CONSTRAINT bounds CHECK (seq IS NOT NULL AND seq >= {from} AND seq < {to});
            ALTER TABLE crossdock.outbox ATTACH PARTITION crossdock.{name} FOR VALUES FROM ({from}) TO ({to});
            ALTER TABLE crossdock.{name} DROP CONSTRAINT bounds"
        );
        if !at_once(connection, sql).await? {
            break;
        }
    }
    Ok(())
}

/// Published to its end, and quiet for a minute: whoever is in a hurry is let pass.
const QUIET: &str = "
    SELECT cursor.position >= $2 - 1
        AND (SELECT created_at < clock_timestamp() - interval '1 minute'
            FROM crossdock.outbox WHERE seq >= $1 AND seq < $2 ORDER BY seq DESC LIMIT 1) IS TRUE
    FROM crossdock.outbox_cursor AS cursor";

/// Makes an old partition searchable by the ids of its events, one at a time. Doing it for each insert would cost writers a
/// fifth of their speed.
async fn index(connection: &mut PgConnection, table: &Table) -> Result<(), sqlx::Error> {
    let full = |partition: &&Partition| !partition.indexed && partition.to <= table.head;
    let Some(Partition { name, from, to, .. }) = table.partitions.iter().find(full) else { return Ok(()) };
    let quiet: bool = sqlx::query_scalar(QUIET).bind(from).bind(to).fetch_one(&mut *connection).await?;
    if quiet {
        let make =
            format!("SET LOCAL lock_timeout = '200ms'; CREATE INDEX {name}_event ON crossdock.{name} (id)");
        at_once(connection, make).await?;
    }
    Ok(())
}

/// What is left of an old partition: nothing of it was read lately, and everything was published.
const DONE: &str = "
    SELECT cursor.position >= $2 - 1 AND NOT cursor.gaps && int8multirange(int8range($1, $2)),
        coalesce((SELECT created_at < clock_timestamp() - make_interval(secs => $3)
            FROM crossdock.outbox WHERE seq >= $1 AND seq < $2 ORDER BY seq DESC LIMIT 1), true)
    FROM crossdock.outbox_cursor AS cursor";

async fn drop_done(connection: &mut PgConnection, table: &Table, office: &Office) -> Result<(), sqlx::Error> {
    let retention = office.options.retention.as_secs_f64();
    for Partition { name, from, to, .. } in &table.partitions {
        let row = sqlx::query(DONE).bind(from).bind(to).bind(retention).fetch_one(&mut *connection).await?;
        let (published, old): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !published || !old || table.head < *to {
            break;
        }
        office.dropped(*to);
        sqlx::query(
            "UPDATE crossdock.outbox_cursor SET anchor_seq = NULL, anchor_id = NULL WHERE anchor_seq < $1",
        )
        .bind(to)
        .execute(&mut *connection)
        .await?;
        let empty = format!("SET LOCAL lock_timeout = '200ms'; TRUNCATE crossdock.{name}");
        // Every insert waits while this waits for the writers before it.
        let drop = format!(
            "SET LOCAL lock_timeout = '20ms';
            ALTER TABLE crossdock.outbox DETACH PARTITION crossdock.{name};
            DROP TABLE crossdock.{name}"
        );
        if !at_once(connection, empty).await? || !at_once(connection, drop).await? {
            break;
        }
        tracing::info!(
            partition = name,
            "a partition of the outbox was dropped: it was published and its retention is over"
        );
    }
    if let Some(last) =
        table.astray.filter(|last| table.partitions.iter().any(|partition| partition.from > *last))
    {
        empty_default(connection, last, retention).await?;
    }
    Ok(())
}

/// Empties the default partition, once everything in it is done.
async fn empty_default(connection: &mut PgConnection, last: i64, retention: f64) -> Result<(), sqlx::Error> {
    let first: Option<i64> = sqlx::query_scalar("SELECT min(seq) FROM crossdock.outbox_default")
        .fetch_one(&mut *connection)
        .await?;
    let row = sqlx::query(DONE)
        .bind(first.unwrap_or(last))
        .bind(last + 1)
        .bind(retention)
        .fetch_one(&mut *connection)
        .await?;
    if row.try_get(0)? && row.try_get(1)? {
        // Under the lock nothing more can have come in.
        let empty = format!(
            "SET LOCAL lock_timeout = '200ms';
            LOCK TABLE crossdock.outbox_default IN ACCESS EXCLUSIVE MODE;
            DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM crossdock.outbox_default WHERE seq > {last}) THEN
                    TRUNCATE crossdock.outbox_default;
                END IF;
            END $$"
        );
        at_once(connection, empty).await?;
    }
    Ok(())
}

/// Runs statements in a transaction; false if a lock was not to be had (55P03), or another worker was faster (42P07).
async fn at_once(connection: &mut PgConnection, sql: String) -> Result<bool, sqlx::Error> {
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

/// By the index on the moment.
const FORGET: &str = "
    DELETE FROM crossdock.seen WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM crossdock.seen WHERE seen_at < now() - make_interval(secs => $1) LIMIT $2))";

/// Forgets ids whose window is over.
async fn forget(connection: &mut PgConnection, office: &Office) -> Result<(), Failure> {
    let window = office.options.dedupe_window.as_secs_f64();
    sqlx::query(FORGET).bind(window).bind(FORGOTTEN_AT_ONCE).execute(connection).await?;
    Ok(())
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
