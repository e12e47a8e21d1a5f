//! Who reads, and how far the relay is.

use std::sync::Arc;

use async_trait::async_trait;
use crossdock_core::{OutboxLog, OutboxReader, OutboxStatus, StoreError};
use sqlx::Row;
use tokio::time::Instant;

use super::{cursor, office::Office, pages::Pages, partitions, reader::Reader};
use crate::{Postgres, pool::Purpose};

/// Rows that are counted one by one.
const COUNTED_MAX: i64 = 10_000;

/// Rows in gaps, which were committed late, are counted one by one: they are few. Those behind the position are counted up to a
/// bound; beyond it, the numbers that were given out tell about how many there are. All by the primary key.
const STATUS: &str = "
    WITH cursor AS (SELECT * FROM crossdock.outbox_cursor),
    gap AS (SELECT lower(range) AS first, upper(range) - 1 AS last FROM cursor, unnest(cursor.gaps) AS range),
    late AS (
        SELECT filled.created_at FROM gap, LATERAL (
            SELECT created_at FROM crossdock.outbox WHERE seq BETWEEN gap.first AND gap.last LIMIT $1
        ) AS filled LIMIT $1
    ),
    next AS (
        SELECT created_at FROM crossdock.outbox WHERE seq > (SELECT position FROM cursor) ORDER BY seq LIMIT $1 + 1
    )
    SELECT
        CASE WHEN cursor.held_until > clock_timestamp() THEN cursor.holder END,
        (SELECT count(*) FROM late),
        (SELECT count(*) FROM next),
        (SELECT greatest(last_value - cursor.position, 0) FROM crossdock.outbox_seq_seq),
        (SELECT min(created_at) FROM (SELECT created_at FROM late UNION ALL SELECT created_at FROM next) AS waiting),
        (SELECT coalesce(sum(last - first + 1), 0)::int8 FROM gap) - (SELECT count(*) FROM late),
        (SELECT count(*) FROM crossdock.outbox_refused WHERE settled_at IS NULL)
    FROM cursor";

#[async_trait]
impl OutboxLog for Postgres {
    async fn claim(&self) -> Result<Option<Box<dyn OutboxReader>>, StoreError> {
        let (holder, lease) = (self.options().worker.clone(), self.options().lease);
        let before = Instant::now();
        let claimed = self.call(Purpose::Relay, "becoming the reader of the outbox", move |connection| {
            Box::pin(async move { cursor::claim(connection, &holder, lease).await })
        });
        let Some(claimed) = claimed.await? else { return Ok(None) };
        let (options, pools) = (self.inner.options.clone(), self.inner.pools.clone());
        let office = Office::new(options, pools, claimed.epoch, before, claimed.progress.clone());
        let office = Arc::new(office);
        let upkeep = tokio::spawn(partitions::keep(office.clone()));
        Ok(Some(Box::new(Reader::new(office.clone(), Pages::new(office, claimed.progress), upkeep))))
    }

    async fn status(&self) -> Result<OutboxStatus, StoreError> {
        self.call(Purpose::Relay, "reading the status of the outbox", |connection| {
            Box::pin(async move {
                let row = sqlx::query(STATUS).bind(COUNTED_MAX).fetch_one(connection).await?;
                let (late, next, given): (i64, i64, i64) =
                    (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
                let waiting = late + if next > COUNTED_MAX { given.max(next) } else { next };
                let oldest: Option<jiff_sqlx::Timestamp> = row.try_get(4)?;
                Ok(OutboxStatus {
                    reader: row.try_get(0)?,
                    waiting: waiting.unsigned_abs(),
                    oldest_at: oldest.map(|at| at.to_jiff()),
                    gaps: row.try_get::<i64, _>(5)?.unsigned_abs(),
                    refused: row.try_get::<i64, _>(6)?.unsigned_abs(),
                })
            })
        })
        .await
    }
}
