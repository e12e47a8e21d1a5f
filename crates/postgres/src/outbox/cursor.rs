//! The cursor's row: who reads, and how far the relay is.

use std::time::Duration;

use crossdock_core::{Epoch, RefusedEvent, StoreError};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::copy::Range;
use crate::errors::Failure;

/// How far a reader has come: what is written when a page is advanced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) position: i64,
    pub(crate) gaps: Vec<Range>,
    /// A row that was read, to notice a database that was set back.
    pub(crate) anchor: Option<(i64, Uuid)>,
}

/// An office that was taken.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) epoch: Epoch,
    pub(crate) progress: Progress,
}

/// Written at once, or a little later: then what is lost with the server is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Now,
    Soon,
}

/// Whether there is a reader, by the server's clock. The row is found by its primary key, as everywhere here.
const CLAIM: &str = "
    UPDATE crossdock.outbox_cursor
    SET epoch = epoch + 1, holder = $1, held_until = clock_timestamp() + make_interval(secs => $2)
    WHERE only_one AND (held_until IS NULL OR held_until <= clock_timestamp())
    RETURNING epoch, position, gaps::text, anchor_seq, anchor_id";

const STORE: &str = "
    WITH commit AS (
        SELECT set_config('synchronous_commit', CASE WHEN $7 THEN current_setting('synchronous_commit') ELSE 'off' END, true)
    )
    UPDATE crossdock.outbox_cursor
    SET position = $2, gaps = $3::text::int8multirange, anchor_seq = $4, anchor_id = $5,
        held_until = clock_timestamp() + make_interval(secs => $6), advanced_at = clock_timestamp()
    FROM commit
    WHERE only_one AND epoch = $1";

/// The rows are copied, since their partition will be gone one day. What was dropped already leaves its number and the reason.
const REFUSE: &str = "
    INSERT INTO crossdock.outbox_refused (seq, reason, id, aggregatetype, aggregateid, type, payload, contenttype, source,
        subject, headers, tracingspancontext, attributes, created_at)
    SELECT given.seq, given.reason, id, aggregatetype, aggregateid, type, payload, contenttype, source, subject, headers,
        tracingspancontext, attributes, created_at
    FROM unnest($1::int8[], $2::text[]) AS given (seq, reason)
    LEFT JOIN LATERAL (SELECT * FROM crossdock.outbox WHERE outbox.seq = given.seq LIMIT 1) AS refused ON true
    ON CONFLICT (seq) DO NOTHING";

const RENEW: &str = "
    UPDATE crossdock.outbox_cursor SET held_until = clock_timestamp() + make_interval(secs => $2)
    WHERE only_one AND epoch = $1";

const RELEASE: &str =
    "UPDATE crossdock.outbox_cursor SET held_until = NULL, holder = NULL WHERE only_one AND epoch = $1";

/// Whether a row that was read is there, and the last number that was given out.
const ANCHOR: &str = "
    SELECT (SELECT id FROM crossdock.outbox WHERE seq = $1), last_value FROM crossdock.outbox_seq_seq";

/// Becomes the reader, unless somebody else is.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    holder: &str,
    lease: Duration,
) -> Result<Option<Claimed>, Failure> {
    let mut transaction = connection.begin().await?;
    let claimed =
        sqlx::query(CLAIM).bind(holder).bind(lease.as_secs_f64()).fetch_optional(&mut *transaction).await?;
    let Some(row) = claimed else { return Ok(None) };
    let progress = Progress {
        position: row.try_get(1)?,
        gaps: read_gaps(row.try_get(2)?)?,
        anchor: row.try_get::<Option<i64>, _>(3)?.zip(row.try_get(4)?),
    };
    let epoch: i64 = row.try_get(0)?;
    if let Some(why) = set_back(&mut transaction, &progress).await? {
        return Err(StoreError::Conflict(why).into());
    }
    transaction.commit().await?;
    Ok(Some(Claimed { epoch: epoch.unsigned_abs(), progress }))
}

/// Why the database cannot be the one in which this progress was made; none if it can.
pub(crate) async fn set_back(
    connection: &mut PgConnection,
    progress: &Progress,
) -> Result<Option<String>, sqlx::Error> {
    let anchor = progress.anchor;
    let row = sqlx::query(ANCHOR).bind(anchor.map(|anchor| anchor.0)).fetch_one(connection).await?;
    let (found, last): (Option<Uuid>, i64) = (row.try_get(0)?, row.try_get(1)?);
    let advice = "the database was set back, by a backup or by a crash that lost commits: events that were published may be \
                  missing in it, and new ones may carry their numbers; see where the two agree, then say from which number on \
                  events are published again: crossdock outbox rewind";
    let why = match anchor {
        Some((seq, id)) if found != Some(id) => {
            format!("the event {id} was read as number {seq}, and is not there")
        }
        _ if last < progress.position => {
            format!(
                "the outbox was read up to number {}, and the last one that it gave out is {last}",
                progress.position
            )
        }
        _ => return Ok(None),
    };
    Ok(Some(format!("{why}: {advice}")))
}

/// The same for the progress that is stored.
pub(crate) async fn stored_set_back(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query("SELECT position, anchor_seq, anchor_id FROM crossdock.outbox_cursor")
        .fetch_one(&mut *connection)
        .await?;
    let anchor = row.try_get::<Option<i64>, _>(1)?.zip(row.try_get(2)?);
    set_back(connection, &Progress { position: row.try_get(0)?, gaps: Vec::new(), anchor }).await
}

/// Writes how far the relay is, with what was refused, and stays in office.
pub(crate) async fn store(
    connection: &mut PgConnection,
    (epoch, lease): (Epoch, Duration),
    progress: &Progress,
    refused: &[RefusedEvent],
    durability: Durability,
) -> Result<(), Failure> {
    let store = sqlx::query(STORE)
        .bind(number(epoch))
        .bind(progress.position)
        .bind(write_gaps(&progress.gaps))
        .bind(progress.anchor.map(|anchor| anchor.0))
        .bind(progress.anchor.map(|anchor| anchor.1))
        .bind(lease.as_secs_f64())
        .bind(durability == Durability::Now);
    if refused.is_empty() {
        return in_office(store.execute(connection).await?.rows_affected());
    }
    let mut transaction = connection.begin().await?;
    in_office(store.execute(&mut *transaction).await?.rows_affected())?;
    let seqs: Vec<_> = refused.iter().map(|event| event.seq).collect();
    // Postgres has no NUL in texts.
    let reasons: Vec<_> = refused.iter().map(|event| event.reason.replace('\0', "\u{fffd}")).collect();
    sqlx::query(REFUSE).bind(seqs).bind(reasons).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Stays in office.
pub(crate) async fn renew(
    connection: &mut PgConnection,
    epoch: Epoch,
    lease: Duration,
) -> Result<(), Failure> {
    let renewed =
        sqlx::query(RENEW).bind(number(epoch)).bind(lease.as_secs_f64()).execute(connection).await?;
    in_office(renewed.rows_affected())
}

/// Lets go.
pub(crate) async fn release(connection: &mut PgConnection, epoch: Epoch) -> Result<(), Failure> {
    in_office(sqlx::query(RELEASE).bind(number(epoch)).execute(connection).await?.rows_affected())
}

fn in_office(rows: u64) -> Result<(), Failure> {
    if rows == 0 { Err(fenced().into()) } else { Ok(()) }
}

/// Another one reads by now.
pub(crate) fn fenced() -> StoreError {
    StoreError::Fenced("the outbox".to_owned())
}

fn number(epoch: Epoch) -> i64 {
    i64::try_from(epoch).expect("an epoch counts from 1 in the database's own numbers")
}

/// Ranges as Postgres writes a multirange of whole numbers: `{[1,4),[7,8)}`.
pub(crate) fn write_gaps(gaps: &[Range]) -> String {
    use std::fmt::Write as _;

    let mut text = "{".to_owned();
    for (first, last) in gaps {
        let comma = if text.len() > 1 { "," } else { "" };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{comma}[{first},{last}]");
    }
    text + "}"
}

/// Reads a multirange of whole numbers.
pub(crate) fn read_gaps(text: &str) -> Result<Vec<Range>, StoreError> {
    let damaged = || StoreError::Damaged(format!("the gaps of the outbox cannot be read: {text}"));
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(damaged)?;
    let ranges = inner.split("),").filter(|range| !range.is_empty()).map(|range| {
        let (first, end) = range.trim_start_matches('[').trim_end_matches(')').split_once(',')?;
        Some((first.parse().ok()?, end.parse::<i64>().ok()?.checked_sub(1)?))
    });
    ranges.collect::<Option<Vec<_>>>().ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_read_as_postgres_writes_them() {
        assert_eq!(read_gaps("{}").expect("none"), []);
        assert_eq!(read_gaps("{[1,4),[7,8)}").expect("two"), [(1, 3), (7, 7)]);
        assert!(read_gaps("{[1,)}").is_err());
        assert_eq!(write_gaps(&[(1, 3), (7, 7)]), "{[1,3],[7,7]}");
    }
}
