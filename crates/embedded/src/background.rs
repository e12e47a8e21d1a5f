//! What runs beside the writer: checkpoints and retention.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use crossdock_core::{Offset, StoreError, failpoint};
use sqlx::{Connection, SqliteConnection};
use tokio::{sync::watch, time::timeout};

use crate::{
    Inner, errors, letters,
    place::{Part, Place, nanoseconds},
    replays,
    request::Request,
    room::Room,
    task::Failure,
};

/// How often SQLite's write-ahead log is moved into the database, and the size that makes it worth while.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
const CHECKPOINT_FROM: u64 = if cfg!(debug_assertions) { 64 << 10 } else { 4 << 20 };
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(60);
/// How often what may be forgotten is looked for.
const RETAIN_EVERY: Duration =
    if cfg!(debug_assertions) { Duration::from_millis(250) } else { Duration::from_secs(30) };
/// Packs that are dropped in one commit.
const PACKS_A_STEP: i64 = 128;

/// Moves the write-ahead log into the database from time to time, so that no commit has to; and looks how full the disk is.
pub(crate) async fn checkpoint(
    mut connection: SqliteConnection,
    file: PathBuf,
    room: Arc<Room>,
    mut closed: watch::Receiver<bool>,
) {
    let (wal, mut fails) = (file.with_extension("db-wal"), false);
    while timeout(CHECKPOINT_EVERY, closed.wait_for(|closed| *closed)).await.is_err() {
        look_at_disk(room.clone()).await;
        if tokio::fs::metadata(&wal).await.map_or(0, |wal| wal.len()) < CHECKPOINT_FROM {
            continue;
        }
        failpoint("checkpoint");
        let moved = timeout(
            CHECKPOINT_WITHIN,
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection),
        );
        let failed = match moved.await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(errors::text(&error)),
            Err(_) => Some("the disk does not answer".to_owned()),
        };
        // Told once, not twice a second; the log grows until it succeeds again.
        if let Some(error) = failed.as_ref().filter(|_| !fails) {
            tracing::warn!(error, "failed to checkpoint the embedded store; trying again until it succeeds");
        }
        fails = failed.is_some();
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(error = %errors::text(&error), "failed to close the connection for checkpoints");
    }
}

async fn look_at_disk(room: Arc<Room>) {
    let looked = tokio::task::spawn_blocking(move || room.look_at_disk());
    if let Ok(Err(error)) = timeout(CHECKPOINT_WITHIN, looked).await {
        tracing::error!(error = %error, "failed to look how full the disk is");
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
        // Also of topics that are no longer in the configuration: nobody reads those, and they would stay for ever.
        for part in self.catalog.parts() {
            while !*self.closed.borrow() && self.drop_packs(part, before).await? {}
        }
        Ok(())
    }

    /// Drops some packs that every group is finished with and that are older than `before`. False if there were none.
    async fn drop_packs(self: &Arc<Self>, part: Part, before: i64) -> Result<bool, StoreError> {
        let finished = self.groups.lowest(part).unwrap_or(Offset::MAX);
        let doing = "looking for events to drop";
        let packs: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT place, count, accepted_at FROM log WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
        )
        .bind(Place::new(part, 0).0)
        .bind(Place::new(part, finished).0)
        .bind(PACKS_A_STEP)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| errors::store_error(doing, error))?;
        let ends = packs.iter().map(|(place, count, at)| (Place(place + count), *at));
        let old = ends.take_while(|(end, at)| *at < before && end.offset() <= finished);
        let Some((end, _)) = old.last() else { return Ok(false) };
        if self.merged_to(part).await? < end.offset() {
            self.merge().await?;
        }
        self.write("dropping events", move |connection| Box::pin(drop_until(connection, part, end))).await
    }

    async fn merged_to(&self, part: Part) -> Result<Offset, StoreError> {
        let merged_to: i64 = sqlx::query_scalar("SELECT merged_to FROM partitions WHERE id = ?")
            .bind(part)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| errors::store_error("looking for events to drop", error))?;
        Ok(merged_to as u64)
    }

    /// Moves the ids in memory into a run, so that the log is no longer needed to recognise them.
    async fn merge(&self) -> Result<(), StoreError> {
        let (done, merged) = tokio::sync::oneshot::channel();
        self.requests.send(Request::Merge(done)).map_err(|_| self.gone())?;
        merged.await.map_err(|_| self.gone())
    }

    async fn drop_letters(self: &Arc<Self>) -> Result<(), StoreError> {
        let age = i64::try_from(self.options.dead_letter_retention.as_nanos()).unwrap_or(i64::MAX);
        let before = nanoseconds(self.clock.now()).saturating_sub(age);
        loop {
            let dropped = self.write("dropping settled dead letters", move |connection| {
                Box::pin(async move {
                    let letters = letters::drop_settled(connection, before).await?;
                    Ok(letters as u64 + replays::drop_items(connection, before).await?)
                })
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
