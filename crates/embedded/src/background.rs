//! What runs beside the writer: checkpoints and retention.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use crossdock_core::{Offset, StoreError, failpoint};
use sqlx::{Connection, Row, SqliteConnection};
use tokio::{sync::watch, time::timeout};

use crate::{
    Inner, errors, letters,
    log::PartitionLog,
    place::{Part, Place, nanoseconds},
    writer::{Failure, Request},
};

/// How often SQLite's write-ahead log is moved into the database, and the size that makes it worth while.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
const CHECKPOINT_FROM: u64 = if cfg!(debug_assertions) { 64 << 10 } else { 4 << 20 };
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(60);
/// How often what may be forgotten is looked for.
const RETAIN_EVERY: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(2) } else { Duration::from_secs(30) };
/// Packs that are dropped in one commit.
const PACKS_A_STEP: i64 = 128;

/// Moves the write-ahead log into the database from time to time, so that no commit has to.
pub(crate) async fn checkpoint(
    mut connection: SqliteConnection,
    file: PathBuf,
    mut closed: watch::Receiver<bool>,
) {
    let wal = file.with_extension("db-wal");
    while timeout(CHECKPOINT_EVERY, closed.wait_for(|closed| *closed)).await.is_err() {
        if tokio::fs::metadata(&wal).await.map_or(0, |wal| wal.len()) < CHECKPOINT_FROM {
            continue;
        }
        failpoint("checkpoint");
        let moved = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection);
        match timeout(CHECKPOINT_WITHIN, moved).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %errors::text(&error), "failed to checkpoint the embedded store")
            }
            Err(_) => tracing::warn!("a checkpoint of the embedded store takes long: the disk is slow"),
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(error = %errors::text(&error), "failed to close the connection for checkpoints");
    }
}

/// Drops from time to time what has been kept long enough.
pub(crate) async fn retain(inner: Weak<Inner>, mut closed: watch::Receiver<bool>) {
    while timeout(RETAIN_EVERY, closed.wait_for(|closed| *closed)).await.is_err() {
        let Some(inner) = inner.upgrade() else { return };
        let dropped = async {
            inner.drop_events().await?;
            inner.drop_letters().await
        };
        if let Err(error) = dropped.await {
            tracing::warn!(error = %error, "failed to drop what has been kept long enough; trying again later");
        }
    }
}

impl Inner {
    async fn drop_events(self: &Arc<Self>) -> Result<(), StoreError> {
        let age = i64::try_from(self.options.retention.as_nanos()).unwrap_or(i64::MAX);
        let before = nanoseconds(self.clock.now()).saturating_sub(age);
        for log in self.topics.values().flat_map(|topic| &topic.partitions) {
            while !*self.closed.borrow() && self.drop_packs(log, before).await? {}
        }
        Ok(())
    }

    /// Drops some packs that every group is finished with and that are older than `before`. False if there were none.
    async fn drop_packs(self: &Arc<Self>, log: &PartitionLog, before: i64) -> Result<bool, StoreError> {
        let finished = self.groups.lowest(log.part).unwrap_or(log.end());
        let doing = "looking for events to drop";
        let packs: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT place, count, accepted_at FROM log WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
        )
        .bind(Place::new(log.part, 0).0)
        .bind(Place::new(log.part, finished).0)
        .bind(PACKS_A_STEP)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| errors::store_error(doing, error))?;
        let ends = packs.iter().map(|(place, count, at)| (Place(place + count), *at));
        let old = ends.take_while(|(end, at)| *at < before && end.offset() <= finished);
        let Some((end, _)) = old.last() else { return Ok(false) };
        if self.merged_to(log).await? < end.offset() {
            self.merge().await?;
        }
        let part = log.part;
        self.write("dropping events", move |connection| Box::pin(drop_until(connection, part, end))).await
    }

    async fn merged_to(&self, log: &PartitionLog) -> Result<Offset, StoreError> {
        let row = sqlx::query("SELECT merged_to FROM partitions WHERE id = ?")
            .bind(log.part)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| errors::store_error("looking for events to drop", error))?;
        Ok(row.get::<i64, _>(0) as u64)
    }

    /// Moves the ids in memory into a run, so that the log is no longer needed to recognise them.
    async fn merge(&self) -> Result<(), StoreError> {
        let (done, merged) = tokio::sync::oneshot::channel();
        self.requests.send(Request::Merge(done)).map_err(|_| errors::closed())?;
        merged.await.map_err(|_| errors::closed())
    }

    async fn drop_letters(self: &Arc<Self>) -> Result<(), StoreError> {
        let age = i64::try_from(self.options.dead_letter_retention.as_nanos()).unwrap_or(i64::MAX);
        let before = nanoseconds(self.clock.now()).saturating_sub(age);
        loop {
            let dropped = self.write("dropping settled dead letters", move |connection| {
                Box::pin(async move { Ok(letters::drop_settled(connection, before).await?) })
            });
            if dropped.await? == 0 || *self.closed.borrow() {
                return Ok(());
            }
        }
    }
}

/// Drops the packs of a partition below `end`, if their ids are safe in runs.
async fn drop_until(connection: &mut SqliteConnection, part: Part, end: Place) -> Result<bool, Failure> {
    let offset = end.offset() as i64;
    let moved = sqlx::query("UPDATE partitions SET trimmed_to = ?1 WHERE id = ?2 AND merged_to >= ?1")
        .bind(offset)
        .bind(part)
        .execute(&mut *connection)
        .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM log WHERE place >= ? AND place < ?")
        .bind(Place::new(part, 0).0)
        .bind(end.0)
        .execute(connection)
        .await?;
    Ok(true)
}
