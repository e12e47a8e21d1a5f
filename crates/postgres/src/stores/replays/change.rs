//! Pausing, resuming and cancelling replays.

use crossdock_core::{Act, Replay, ReplayState};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    Failure,
    stores::{audit, rows::at},
};

use super::{find, lock_unfinished};

pub(super) async fn change(
    connection: &mut PgConnection,
    id: &str,
    state: ReplayState,
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
        skip(connection, number).await?;
    }
    let what = format!("replay {}", state.as_str());
    audit::write(connection, now, act, (&what, id, 1)).await?;
    find(connection, id).await
}

/// Pending items that are not held are skipped, and their letters are open again. The replay is locked. Items by
/// `replay_items_pending`; letters by the primary key, locked in its order.
async fn skip(connection: &mut PgConnection, replay: i64) -> Result<(), Failure> {
    sqlx::query(
        "WITH items AS (
             UPDATE crossdock.replay_items i SET state = 4 WHERE i.replay = $1 AND i.state = 0 RETURNING i.letter
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
    .execute(connection)
    .await?;
    Ok(())
}
