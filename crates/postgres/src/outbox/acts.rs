//! What people do with the outbox: rows once more, rows given up, the cursor set back. Each with its entry in the audit.

use crossdock_core::{Act, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{Failure, Postgres, pool::Purpose};

/// A row that was refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedRow {
    /// Its number.
    pub seq: i64,
    /// Why.
    pub reason: String,
    /// When.
    pub refused_at: Timestamp,
    /// Where it was to go, whether or not that is the name of a topic. None if the row was gone already.
    pub topic: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The bytes of its data.
    pub data_bytes: Option<i32>,
    /// When it was written.
    pub written_at: Option<Timestamp>,
}

/// By the index on those that are open.
const REFUSED: &str = "
    SELECT seq, reason, refused_at, aggregatetype, aggregateid, type, octet_length(payload), created_at
    FROM crossdock.outbox_refused WHERE settled_at IS NULL AND seq > $1 ORDER BY seq LIMIT $2";

const SETTLE: &str = "
    UPDATE crossdock.outbox_refused
    SET settled_as = $2, settled_at = now(), settled_by = $3, settled_why = $4
    WHERE seq = ANY ($1) AND settled_at IS NULL AND ($2 = 'discarded' OR id IS NOT NULL)
    RETURNING seq";

/// The columns of an event, by which a row is written once more with a new number.
const EVENT: &str = "id, aggregatetype, aggregateid, type, payload, contenttype, source, subject, headers, tracingspancontext, \
                     attributes, created_at";

const AUDIT: &str = "
    INSERT INTO crossdock.audit (at, actor, reason, act, subject, count) VALUES (now(), $1, $2, $3, $4, $5)";

/// Never forward, and what may still be committed before it stays looked for.
const REWIND: &str = "
    UPDATE crossdock.outbox_cursor
    SET position = least($1 - 1, position), gaps = gaps * int8multirange(int8range(NULL, $1)), anchor_seq = NULL, anchor_id = NULL, epoch = epoch + 1, holder = NULL, held_until = NULL";

impl Postgres {
    /// Rows that were refused and nobody has dealt with, behind the number `after`, by number.
    pub async fn outbox_refused(&self, after: i64, limit: u32) -> Result<Vec<RefusedRow>, StoreError> {
        self.call(Purpose::Admin, "listing what was refused", move |connection| {
            Box::pin(async move {
                let rows =
                    sqlx::query(REFUSED).bind(after).bind(i64::from(limit)).fetch_all(connection).await?;
                rows.iter().map(|row| Ok(refused(row)?)).collect()
            })
        })
        .await
    }

    /// Sends refused rows once more, as new rows at the end of the outbox with the same event ids. Answers with their old
    /// numbers; those that nobody refused, or that are dealt with, are not among them.
    pub async fn outbox_retry(&self, seqs: &[i64], act: &Act) -> Result<Vec<i64>, StoreError> {
        self.settle("retried", seqs, act).await
    }

    /// Gives refused rows up; they are kept. Answers as [`Postgres::outbox_retry`] does.
    pub async fn outbox_discard(&self, seqs: &[i64], act: &Act) -> Result<Vec<i64>, StoreError> {
        self.settle("discarded", seqs, act).await
    }

    /// Publishes rows of the outbox once more, as new rows at its end with the same event ids: what a reconciler found missing in
    /// the broker. Whoever has seen them sees a duplicate; their place in the order is lost. Answers with the numbers that
    /// were there, by number.
    pub async fn outbox_resend(&self, seqs: &[i64], act: &Act) -> Result<Vec<i64>, StoreError> {
        let (seqs, act) = (seqs.to_vec(), act.clone());
        self.change(Purpose::Admin, "sending rows of the outbox once more", move |connection| {
            Box::pin(async move {
                let there = "SELECT seq FROM crossdock.outbox WHERE seq = ANY ($1) ORDER BY seq";
                let there: Vec<i64> =
                    sqlx::query_scalar(there).bind(&seqs).fetch_all(&mut *connection).await?;
                again(connection, "crossdock.outbox", &there).await?;
                audit(connection, &act, "outbox.resend", &there).await?;
                Ok(there)
            })
        })
        .await
    }

    /// Lets the relay begin again at a number: everything from there on that is kept is published once more. The way out when the
    /// database was set back, or the broker has lost what it had. A number that was not reached yet changes nothing. Whoever
    /// reads is out of office.
    pub async fn outbox_rewind(&self, first: i64, act: &Act) -> Result<(), StoreError> {
        let act = act.clone();
        self.change(Purpose::Admin, "setting the cursor of the outbox back", move |connection| {
            Box::pin(async move {
                sqlx::query(REWIND).bind(first.max(1)).execute(&mut *connection).await?;
                audit(connection, &act, "outbox.rewind", &[first]).await?;
                Ok(())
            })
        })
        .await
    }

    async fn settle(
        &self,
        settled_as: &'static str,
        seqs: &[i64],
        act: &Act,
    ) -> Result<Vec<i64>, StoreError> {
        let (seqs, act) = (seqs.to_vec(), act.clone());
        self.change(Purpose::Admin, "dealing with what was refused", move |connection| {
            Box::pin(async move {
                let mut settled: Vec<i64> = sqlx::query_scalar(SETTLE)
                    .bind(&seqs)
                    .bind(settled_as)
                    .bind(storable(&act.actor))
                    .bind(storable(&act.reason))
                    .fetch_all(&mut *connection)
                    .await?;
                settled.sort_unstable();
                if settled_as == "retried" {
                    again(connection, "crossdock.outbox_refused", &settled).await?;
                }
                audit(
                    connection,
                    &act,
                    if settled_as == "retried" { "outbox.retry" } else { "outbox.discard" },
                    &settled,
                )
                .await?;
                Ok(settled)
            })
        })
        .await
    }
}

/// Writes rows of a table once more, in the order of their numbers.
async fn again(connection: &mut PgConnection, table: &str, seqs: &[i64]) -> Result<(), Failure> {
    let again = format!(
        "INSERT INTO crossdock.outbox ({EVENT}) SELECT {EVENT} FROM {table} WHERE seq = ANY ($1) ORDER BY seq"
    );
    sqlx::query(sqlx::AssertSqlSafe(again)).bind(seqs).execute(connection).await?;
    Ok(())
}

async fn audit(connection: &mut PgConnection, act: &Act, what: &str, seqs: &[i64]) -> Result<(), Failure> {
    let subject = match seqs {
        [] => return Ok(()),
        [one] => one.to_string(),
        [first, .., last] => format!("{first}..{last}"),
    };
    sqlx::query(AUDIT)
        .bind(act.actor.as_bytes())
        .bind(act.reason.as_bytes())
        .bind(what)
        .bind(subject.as_bytes())
        .bind(seqs.len() as i64)
        .execute(connection)
        .await?;
    Ok(())
}

/// Postgres has no NUL in texts.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn refused(row: &PgRow) -> Result<RefusedRow, sqlx::Error> {
    Ok(RefusedRow {
        seq: row.try_get(0)?,
        reason: row.try_get(1)?,
        refused_at: row.try_get::<jiff_sqlx::Timestamp, _>(2)?.to_jiff(),
        topic: row.try_get(3)?,
        key: row.try_get(4)?,
        kind: row.try_get(5)?,
        data_bytes: row.try_get(6)?,
        written_at: row.try_get::<Option<jiff_sqlx::Timestamp>, _>(7)?.map(jiff_sqlx::Timestamp::to_jiff),
    })
}
