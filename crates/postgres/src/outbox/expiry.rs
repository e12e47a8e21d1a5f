//! What was published: searchable once nobody writes to it any more, and gone when its retention is over.

use sqlx::{PgConnection, Row};

use super::{
    office::Office,
    partitions::{LOCK_WAIT, Locks, Partition, Table, at_once},
};
use crate::errors::Failure;

/// Ids of duplicates that are forgotten at a time.
const FORGOTTEN_AT_ONCE: i64 = 20_000;

/// Published to its end, and quiet for a minute: whoever is in a hurry is let pass.
const QUIET: &str = "
    SELECT cursor.position >= $2 - 1
        AND (SELECT created_at < clock_timestamp() - interval '1 minute'
            FROM crossdock.outbox WHERE seq >= $1 AND seq < $2 ORDER BY seq DESC LIMIT 1) IS TRUE
    FROM crossdock.outbox_cursor AS cursor";

/// Makes an old partition searchable by the ids of its events and by topic, one at a time. Doing it for each insert would cost
/// writers almost half of their speed.
pub(crate) async fn index(
    connection: &mut PgConnection,
    partitions: &[Partition],
    head: i64,
) -> Result<(), sqlx::Error> {
    let full = |partition: &&Partition| !partition.indexed && partition.to <= head;
    let Some(Partition { name, from, to, .. }) = partitions.iter().find(full) else { return Ok(()) };
    let quiet: bool = sqlx::query_scalar(QUIET).bind(from).bind(to).fetch_one(&mut *connection).await?;
    if quiet {
        let make = format!(
            "SET LOCAL lock_timeout = '200ms';
            CREATE INDEX {name}_event ON crossdock.{name} (id);
            CREATE INDEX {name}_topic ON crossdock.{name} (aggregatetype, seq)"
        );
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

/// What is done goes: it is emptied, which locks nothing else, and taken off the table if `may_lock` says so and nobody is in the way.
pub(crate) async fn drop_done(
    connection: &mut PgConnection,
    table: &Table,
    office: &Office,
    mut may_lock: bool,
) -> Result<Locks, sqlx::Error> {
    let (retention, mut locks) = (office.options.retention.as_secs_f64(), Locks::Had);
    for Partition { name, from, to, .. } in
        table.partitions.iter().filter(|partition| partition.to <= table.head)
    {
        if !is_done(connection, (*from, *to), retention).await? {
            break;
        }
        office.dropped(*to);
        sqlx::query(
            "UPDATE crossdock.outbox_cursor SET anchor_seq = NULL, anchor_id = NULL WHERE anchor_seq < $1",
        )
        .bind(to)
        .execute(&mut *connection)
        .await?;
        if !empty(connection, name).await? {
            break;
        }
        if may_lock && at_once(connection, detaching(name)).await? {
            tracing::info!(
                partition = name,
                "a partition of the outbox was dropped: it was published and its retention is over"
            );
        } else {
            (may_lock, locks) = (false, Locks::Missed);
        }
    }
    let reached = |last: &i64| table.partitions.iter().any(|partition| partition.from > *last);
    if let Some(last) = table.astray.filter(reached).filter(|_| may_lock) {
        empty_default(connection, last, retention).await?;
    }
    Ok(locks)
}

async fn is_done(
    connection: &mut PgConnection,
    (from, to): (i64, i64),
    retention: f64,
) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(DONE).bind(from).bind(to).bind(retention).fetch_one(connection).await?;
    Ok(row.try_get(0)? && row.try_get(1)?)
}

async fn empty(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let filled = "SELECT pg_relation_size(to_regclass($1)) > 0";
    let filled: bool =
        sqlx::query_scalar(filled).bind(format!("crossdock.{name}")).fetch_one(&mut *connection).await?;
    let empty = format!("SET LOCAL lock_timeout = '200ms'; TRUNCATE crossdock.{name}");
    Ok(!filled || at_once(connection, empty).await?)
}

/// Every insert waits while this waits for the writers before it.
fn detaching(name: &str) -> String {
    format!(
        "{LOCK_WAIT}
        ALTER TABLE crossdock.outbox DETACH PARTITION crossdock.{name};
        DROP TABLE crossdock.{name}"
    )
}

/// Empties the default partition, once everything in it is done.
async fn empty_default(connection: &mut PgConnection, last: i64, retention: f64) -> Result<(), sqlx::Error> {
    let first: Option<i64> = sqlx::query_scalar("SELECT min(seq) FROM crossdock.outbox_default")
        .fetch_one(&mut *connection)
        .await?;
    if is_done(connection, (first.unwrap_or(last), last + 1), retention).await? {
        // Under the lock nothing more can have come in.
        let empty = format!(
            "{LOCK_WAIT}
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

/// By the index on the moment.
const FORGET: &str = "
    DELETE FROM crossdock.seen WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM crossdock.seen WHERE seen_at < now() - make_interval(secs => $1) ORDER BY seen_at LIMIT $2))";

/// Forgets ids whose window is over, the oldest first.
pub(crate) async fn forget(connection: &mut PgConnection, office: &Office) -> Result<(), Failure> {
    let window = office.options.dedupe_window.as_secs_f64();
    sqlx::query(FORGET).bind(window).bind(FORGOTTEN_AT_ONCE).execute(connection).await?;
    Ok(())
}
