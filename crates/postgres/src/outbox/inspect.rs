//! What people see of the outbox: what is missing and who holds it, and what was sent.

use crossdock_core::{StoreError, Topic};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{cursor, row};
use crate::{Failure, Postgres, pool::Purpose};

/// Numbers that are missing in the outbox and may still be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxGaps {
    /// Everything up to this number is in the broker, apart from the gaps.
    pub position: i64,
    /// The first and the last number of each, in order.
    pub gaps: Vec<(i64, i64)>,
    /// The transactions that may still commit one of them, the oldest first.
    pub holders: Vec<OutboxHolder>,
}

/// A transaction that has inserted into the outbox, or is about to, and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxHolder {
    /// The number of its server process; none if it is prepared.
    pub pid: Option<i32>,
    /// Its name, if it is prepared: `ROLLBACK PREPARED 'name'` or `COMMIT PREPARED 'name'` ends it.
    pub prepared: Option<String>,
    /// How its application names itself.
    pub application: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// `active`, `idle in transaction`…; none if the right to see it is missing (`GRANT pg_monitor TO …`).
    pub state: Option<String>,
    /// When the transaction began.
    pub since: Option<Timestamp>,
    /// When it last did something.
    pub changed_at: Option<Timestamp>,
}

/// A row of the outbox, by what names its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxRowId {
    /// Its number.
    pub seq: i64,
    /// Where it goes.
    pub topic: Topic,
    /// What order is kept by.
    pub key: Option<String>,
    /// The CloudEvents source.
    pub source: String,
    /// The CloudEvents id.
    pub id: String,
    /// When it was written.
    pub written_at: Timestamp,
}

/// The few holders of a lock, each with what is known of it.
const HOLDERS: &str = "
    SELECT DISTINCT ON (since, lock.virtualtransaction) lock.pid, prepared.gid, activity.application_name,
        coalesce(activity.usename, prepared.owner)::text, activity.state,
        coalesce(activity.xact_start, prepared.prepared) AS since, activity.state_change
    FROM pg_locks AS lock
    LEFT JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
    LEFT JOIN pg_locks AS id ON lock.pid IS NULL AND id.locktype = 'transactionid' AND id.mode = 'ExclusiveLock'
        AND id.virtualtransaction = lock.virtualtransaction
    LEFT JOIN pg_prepared_xacts AS prepared ON prepared.transaction = id.transactionid
    WHERE lock.locktype = 'relation' AND lock.mode = 'RowExclusiveLock'
        AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND lock.relation IN (
            SELECT 'crossdock.outbox'::regclass::oid
            UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'crossdock.outbox'::regclass)
    ORDER BY since, lock.virtualtransaction";

/// By the primary key.
const ROWS: &str = "
    SELECT seq, id, aggregatetype, aggregateid, source, attributes, created_at
    FROM crossdock.outbox WHERE seq BETWEEN $1 AND $2 ORDER BY seq LIMIT $3";

impl Postgres {
    /// The numbers that are missing, and who may still commit them.
    pub async fn outbox_gaps(&self) -> Result<OutboxGaps, StoreError> {
        self.call(Purpose::Admin, "reading the gaps of the outbox", |connection| {
            Box::pin(async move {
                let cursor = sqlx::query("SELECT position, gaps::text FROM crossdock.outbox_cursor")
                    .fetch_one(&mut *connection)
                    .await?;
                Ok(OutboxGaps {
                    position: cursor.try_get(0)?,
                    gaps: cursor::read_gaps(cursor.try_get(1)?)?,
                    holders: holders(connection).await?,
                })
            })
        })
        .await
    }

    /// The last number that was given out, and the one up to which everything is in the broker, apart from the gaps.
    pub async fn outbox_reach(&self) -> Result<(i64, i64), StoreError> {
        const REACH: &str = "
            SELECT CASE WHEN is_called THEN last_value ELSE 0 END, position
            FROM crossdock.outbox_seq_seq, crossdock.outbox_cursor";
        self.call(Purpose::Admin, "reading how far the outbox is", |connection| {
            Box::pin(async move {
                let row = sqlx::query(REACH).fetch_one(connection).await?;
                Ok((row.try_get(0)?, row.try_get(1)?))
            })
        })
        .await
    }

    /// Rows from the number `first` to `last`, at most `limit`, by number: what the broker should have, as far as the relay is.
    /// Rows that are no events are not among them. Go on behind the last one's number, which is there even if the row
    /// itself is none.
    pub async fn outbox_rows(
        &self,
        (first, last): (i64, i64),
        limit: u32,
    ) -> Result<(Vec<OutboxRowId>, Option<i64>), StoreError> {
        let source = self.options().source.clone();
        self.call(Purpose::Admin, "reading the outbox", move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(ROWS)
                    .bind(first)
                    .bind(last)
                    .bind(i64::from(limit))
                    .fetch_all(connection)
                    .await?;
                let end = rows.last().map(|row| row.try_get(0)).transpose()?;
                let mut read = Vec::with_capacity(rows.len());
                for row in &rows {
                    read.extend(row_id(row, &source)?);
                }
                Ok((read, end))
            })
        })
        .await
    }
}

async fn holders(connection: &mut PgConnection) -> Result<Vec<OutboxHolder>, Failure> {
    let rows = sqlx::query(HOLDERS).fetch_all(connection).await?;
    let moment = |row: &PgRow, column: usize| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(column)?.map(jiff_sqlx::Timestamp::to_jiff))
    };
    let holder = |row: PgRow| {
        Ok(OutboxHolder {
            pid: row.try_get(0)?,
            prepared: row.try_get(1)?,
            application: row.try_get::<Option<String>, _>(2)?.filter(|name| !name.is_empty()),
            user: row.try_get(3)?,
            state: row.try_get(4)?,
            since: moment(&row, 5)?,
            changed_at: moment(&row, 6)?,
        })
    };
    rows.into_iter().map(holder).collect()
}

/// None for a row that is no event.
fn row_id(row: &PgRow, source: &str) -> Result<Option<OutboxRowId>, sqlx::Error> {
    let (topic, id): (&str, Uuid) = (row.try_get(2)?, row.try_get(1)?);
    let Ok(topic) = Topic::new(topic) else { return Ok(None) };
    let named = match row.try_get::<Option<&[u8]>, _>(5)? {
        Some(attributes) => match serde_json::from_slice::<crossdock_core::Event>(attributes) {
            Ok(event) => (event.key, event.source, event.id),
            Err(_) => return Ok(None),
        },
        None => {
            let own: Option<String> = row.try_get(4)?;
            (row.try_get(3)?, own.unwrap_or_else(|| source.to_owned()), row::hyphenated(id))
        }
    };
    let (key, source, id) = named;
    let written_at = row.try_get::<jiff_sqlx::Timestamp, _>(6)?.to_jiff();
    Ok(Some(OutboxRowId { seq: row.try_get(0)?, topic, key, source, id, written_at }))
}
