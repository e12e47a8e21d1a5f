//! The items of replays.

use crossdock_core::{FlowName, Partition, ReplayItem, ReplayTicket, StoreError, Topic};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};

use crate::{
    Postgres,
    pool::Purpose,
    stores::{
        letter::{self, LETTER, WITH_BODY},
        places::Place,
        rows::{self, Columns, PAGE_BYTES, at},
    },
};

/// Items of ended replays that are dropped in one transaction.
const DROPPED_A_STEP: i64 = 1000;

/// About what an item takes in memory; of a payload that stands apart only its length is read.
const WEIGHT: &str = "512 + octet_length(b.attempts) + octet_length(b.event) + octet_length(b.data) \
                      + coalesce(octet_length(b.request_body), 0)";

/// Where a replay has something to be sent: one look into `replay_items_pending` for each place there is.
pub(super) async fn places(store: &Postgres, id: &str) -> Result<Vec<(FlowName, Partition)>, StoreError> {
    let id = id.to_owned();
    let rows = store.call(Purpose::Delivery, "reading the places of a replay", move |connection| {
        Box::pin(async move {
            let query = sqlx::query(
                "SELECT p.flow, p.topic, p.partition FROM crossdock.replays r CROSS JOIN crossdock.places p
                 CROSS JOIN LATERAL (SELECT FROM crossdock.replay_items i
                                     WHERE i.replay = r.number AND i.place = p.place AND i.state = 0 LIMIT 1) i
                 WHERE r.id = $1",
            );
            Ok(query.bind(id.as_bytes()).fetch_all(connection).await?)
        })
    });
    let place = |row: &PgRow| {
        let damaged = |error: crossdock_core::NameError| StoreError::Damaged(error.to_string());
        let number = rows::small(row.number(2)?)?;
        let partition = Partition { topic: Topic::new(row.at(1)?).map_err(damaged)?, number };
        Ok((FlowName::new(row.at(0)?).map_err(damaged)?, partition))
    };
    rows.await?.iter().map(place).collect()
}

/// From `replay_items_pending`, in order; the weights are added up before any large payload is read.
pub(super) async fn items(
    store: &Postgres,
    id: &str,
    place: Place,
    from: u64,
    limit: usize,
) -> Result<Vec<ReplayItem>, StoreError> {
    let sql = format!(
        "SELECT * FROM (
             SELECT {LETTER}, i.item, sum({WEIGHT}) OVER (ORDER BY i.item ROWS UNBOUNDED PRECEDING) - ({WEIGHT}) AS before
             FROM (SELECT item, letter FROM crossdock.replay_items
                   WHERE replay = (SELECT number FROM crossdock.replays WHERE id = $1) AND place = $2 AND item >= $3
                       AND state = 0
                   ORDER BY item LIMIT {limit}) i
             JOIN crossdock.letters l ON l.number = i.letter {WITH_BODY}
         ) page WHERE before < {PAGE_BYTES} ORDER BY item"
    );
    let replay = id.to_owned();
    let rows = store.call(Purpose::Delivery, "reading the items of a replay", move |connection| {
        Box::pin(async move {
            let from = i64::try_from(from).unwrap_or(i64::MAX);
            let query = sqlx::query(AssertSqlSafe(sql)).bind(replay.as_bytes()).bind(place).bind(from);
            Ok(query.fetch_all(connection).await?)
        })
    });
    let item = |row: &PgRow| {
        let letter = letter::letter(row)?;
        let ticket =
            ReplayTicket { replay: id.to_owned(), item: row.number("item")?, letter: letter.id.clone() };
        Ok(ReplayItem { ticket, letter })
    };
    rows.await?.iter().map(item).collect()
}

/// Drops some settled items of a replay that ended before; the replay itself and its counts stay. Returns how many, and
/// none if there is no such replay any more. The replay
/// by `replays_ended`, its items by the primary key.
pub(in crate::stores) async fn drop_items(
    connection: &mut PgConnection,
    before: Timestamp,
) -> Result<Option<u64>, sqlx::Error> {
    let replay: Option<i64> = sqlx::query_scalar(
        "SELECT number FROM crossdock.replays WHERE items_kept AND finished_at < $1 AND delivered + failed + skipped = total
         ORDER BY finished_at LIMIT 1 FOR NO KEY UPDATE",
    )
    .bind(at(before))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(replay) = replay else { return Ok(None) };
    let dropped = sqlx::query(
        "DELETE FROM crossdock.replay_items WHERE replay = $1 AND item IN
             (SELECT item FROM crossdock.replay_items WHERE replay = $1 ORDER BY item LIMIT $2)",
    )
    .bind(replay)
    .bind(DROPPED_A_STEP)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if dropped < DROPPED_A_STEP.unsigned_abs() {
        sqlx::query("UPDATE crossdock.replays SET items_kept = false WHERE number = $1")
            .bind(replay)
            .execute(connection)
            .await?;
    }
    Ok(Some(dropped))
}
