//! What has been kept long enough goes, a little at a time.

use std::time::Duration;

use crossdock_core::StoreError;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{Failure, Postgres};

use super::{held, replays, rows::at};

/// Settled letters that are dropped in one transaction.
const DROPPED_A_STEP: i64 = 500;
/// Names the lock among the advisory locks of a database: "cd_maint" in ASCII.
const LOCK: i64 = 0x6364_5f6d_6169_6e74;
/// A worker that has not been heard of for so long is forgotten.
const WORKER_FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

impl Postgres {
    /// Drops dead letters that were replayed or discarded, and items of replays that ended, longer ago than the options say, and
    /// adds up what was counted.
    /// Any worker may call it at any time, every minute say: one at a time does it, for the others there is nothing to do.
    /// Returns how many rows were dropped. Stopped in the middle, what was dropped is dropped.
    pub async fn maintain(&self) -> Result<u64, StoreError> {
        let age = self.options().dead_letter_retention;
        let before = self.now().checked_sub(age).unwrap_or(Timestamp::MIN);
        let mut sum = 0;
        loop {
            let dropped = self.write("dropping what has been kept long enough", move |connection| {
                Box::pin(async move { step(connection, before).await })
            });
            let (dropped, more) = dropped.await?;
            sum += dropped;
            if !more {
                return Ok(sum);
            }
        }
    }
}

/// How many rows were dropped, and whether there may be more.
async fn step(connection: &mut PgConnection, before: Timestamp) -> Result<(u64, bool), Failure> {
    let is_mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *connection)
        .await?;
    if !is_mine {
        return Ok((0, false));
    }
    let letters = drop_letters(connection, before).await?;
    let items = replays::drop_items(connection, before).await?;
    held::add_up(connection).await?;
    drop_workers(connection).await?;
    Ok((letters + items.unwrap_or_default(), letters > 0 || items.is_some()))
}

/// The oldest by `letters_settled`, each by its primary key.
async fn drop_letters(connection: &mut PgConnection, before: Timestamp) -> Result<u64, sqlx::Error> {
    let dropped: i64 = sqlx::query_scalar(
        "WITH chosen AS MATERIALIZED (
             SELECT number, failure_group, state FROM crossdock.letters WHERE number = ANY (ARRAY (
                 SELECT number FROM crossdock.letters WHERE settled_at < $1 ORDER BY settled_at LIMIT $2
             )) AND settled_at < $1 ORDER BY number FOR UPDATE
         ), bodies AS (
             DELETE FROM crossdock.letter_bodies b USING chosen WHERE b.number = chosen.number
         ), letters AS (
             DELETE FROM crossdock.letters l USING chosen WHERE l.number = chosen.number
         ), counts AS MATERIALIZED (
             SELECT failure_group AS number, count(*) FILTER (WHERE state = 2) AS replayed,
                    count(*) FILTER (WHERE state = 3) AS discarded
             FROM chosen GROUP BY 1 ORDER BY 1
         ), locked AS MATERIALIZED (
             SELECT g.number FROM crossdock.failure_groups g
             WHERE g.number = ANY (ARRAY (SELECT number FROM counts)) ORDER BY 1 FOR NO KEY UPDATE
         ), counted AS (
             UPDATE crossdock.failure_groups g
             SET replayed = g.replayed - counts.replayed, discarded = g.discarded - counts.discarded
             FROM counts JOIN locked USING (number) WHERE g.number = counts.number
         )
         SELECT count(*) FROM chosen",
    )
    .bind(at(before))
    .bind(DROPPED_A_STEP)
    .fetch_one(connection)
    .await?;
    Ok(dropped.unsigned_abs())
}

/// Few rows; the beginning of the primary key does not help, and the table has as many rows as there were workers in a day.
async fn drop_workers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM crossdock.lease_workers WHERE alive_until < clock_timestamp() - $1 * interval '1 second'",
    )
    .bind(WORKER_FORGOTTEN.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(())
}
