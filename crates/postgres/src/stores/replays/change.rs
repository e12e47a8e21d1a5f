//! Pausing, resuming and cancelling replays.

use crossdock_core::{Act, Replay, ReplayState, Sent, StoreError};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    Failure, Postgres,
    pool::Purpose,
    stores::{audit, places::Place, rows::at},
};

use super::{find, lock_unfinished};

/// What is in the lanes: of a place, the items below a number.
#[derive(Debug, Clone, Default)]
pub(super) struct InLanes {
    places: Vec<Place>,
    below: Vec<i64>,
}

impl InLanes {
    pub(super) async fn read(store: &Postgres, sent: &[Sent]) -> Result<Self, StoreError> {
        let mut lanes = Self::default();
        for sent in sent {
            // A place without a number has no items.
            if let Some(place) = store.place(&sent.flow, &sent.partition).await? {
                lanes.places.push(place);
                lanes.below.push(i64::try_from(sent.below).unwrap_or(i64::MAX));
            }
        }
        Ok(lanes)
    }
}

pub(super) async fn change(
    connection: &mut PgConnection,
    id: &str,
    state: ReplayState,
    sent: &InLanes,
    (act, now): (&Act, Timestamp),
) -> Result<Replay, Failure> {
    let number = lock_unfinished(connection, id).await?;
    sqlx::query("UPDATE crossdock.replays SET state = $1, finished_at = $2 WHERE number = $3")
        .bind(state.as_str())
        .bind(state.is_final().then(|| at(now)))
        .bind(number)
        .execute(&mut *connection)
        .await?;
    if state == ReplayState::Cancelled {
        skip(connection, number, sent).await?;
    }
    let what = format!("replay {}", state.as_str());
    audit::write(connection, now, act, (&what, id, 1)).await?;
    find(connection, id).await
}

/// Items of cancelled replays that are still in the lanes of somebody, or were when that died: they are open letters again.
pub(super) async fn give_back(store: &Postgres) -> Result<(), StoreError> {
    let owing = store.call(Purpose::Delivery, "looking for cancelled replays", |connection| {
        Box::pin(async move {
            // By `replays_owing`, then one look into `replay_items_pending` each. Mostly there is none, and nothing is locked.
            let owing = sqlx::query_scalar::<_, i64>(
                "SELECT number FROM crossdock.replays r
                 WHERE state = 'cancelled' AND delivered + failed + skipped < total AND EXISTS
                     (SELECT 1 FROM crossdock.replay_items i WHERE i.replay = r.number AND i.state = 0)",
            );
            Ok(owing.fetch_all(connection).await?)
        })
    });
    for replay in owing.await? {
        let skipped = store.write("giving back what was not sent", move |connection| {
            Box::pin(async move {
                sqlx::query("SELECT number FROM crossdock.replays WHERE number = $1 FOR NO KEY UPDATE")
                    .bind(replay)
                    .execute(&mut *connection)
                    .await?;
                skip(connection, replay, &InLanes::default()).await
            })
        });
        skipped.await?;
    }
    Ok(())
}

/// Pending items that are not held and were not sent are skipped, and their letters are open again. The replay is locked. Items
/// by `replay_items_pending`; letters by the primary key, locked in its order.
async fn skip(connection: &mut PgConnection, replay: i64, sent: &InLanes) -> Result<(), Failure> {
    sqlx::query(
        "WITH items AS (
             UPDATE crossdock.replay_items i SET state = 4 WHERE i.replay = $1 AND i.state = 0 AND NOT EXISTS
                 (SELECT 1 FROM unnest($2::integer[], $3::bigint[]) AS s (place, below)
                  WHERE s.place = i.place AND i.item < s.below)
             RETURNING i.letter
         ), chosen AS MATERIALIZED (
             SELECT l.number, l.failure_group FROM crossdock.letters l
             WHERE l.number = ANY (ARRAY (SELECT letter FROM items)) AND l.state = 1 ORDER BY l.number FOR NO KEY UPDATE
         ), changed AS (
             UPDATE crossdock.letters l SET state = 0 FROM chosen WHERE l.number = chosen.number
         ), counts AS MATERIALIZED (
             SELECT failure_group AS number, count(*) AS n FROM chosen GROUP BY 1 ORDER BY 1
         ), locked AS MATERIALIZED (
             SELECT g.number FROM crossdock.failure_groups g
             WHERE g.number = ANY (ARRAY (SELECT number FROM counts)) ORDER BY 1 FOR NO KEY UPDATE
         ), counted AS (
             UPDATE crossdock.failure_groups g SET replaying = g.replaying - counts.n, open = g.open + counts.n
             FROM counts JOIN locked USING (number) WHERE g.number = counts.number
         )
         UPDATE crossdock.replays SET skipped = skipped + (SELECT count(*) FROM items) WHERE number = $1",
    )
    .bind(replay)
    .bind(&sent.places)
    .bind(&sent.below)
    .execute(connection)
    .await?;
    Ok(())
}
