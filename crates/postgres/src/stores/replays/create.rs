//! Making replays.

use crossdock_core::{LetterState, NewReplay, Replay, StoreError};
use jiff::Timestamp;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::{
    Failure,
    stores::{audit, dead_letters::push_chosen, rows::at, selection},
};

use super::find;

/// Freezes the open letters of a selection. Of two replays that are made at once the second one waits for letters that the
/// first one takes, finds that they are not open any more, and passes them over.
pub(super) async fn create(
    connection: &mut PgConnection,
    new: &NewReplay,
    id: &str,
    now: Timestamp,
) -> Result<Replay, Failure> {
    if selection::state(&new.selection) != LetterState::Open {
        return Err(nothing_open().into());
    }
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO crossdock.replays (id, state, selection, rate, actor, reason, total, created_at, test)
         VALUES ($1, 'running', $2, $3, $4, $5, 0, $6, $7) RETURNING number",
    )
    .bind(id.as_bytes())
    .bind(selection::json(&new.selection).as_bytes())
    .bind(new.rate)
    .bind(new.act.actor.as_bytes())
    .bind(new.act.reason.as_bytes())
    .bind(at(now))
    .bind(new.test)
    .fetch_one(&mut *connection)
    .await?;
    let total = freeze(connection, new, number).await?;
    if total == 0 {
        return Err(nothing_open().into());
    }
    sqlx::query("UPDATE crossdock.replays SET total = $1 WHERE number = $2")
        .bind(total)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    let count = u64::try_from(total).unwrap_or_default();
    audit::write(connection, now, &new.act, ("replay", id, count)).await?;
    find(connection, id).await
}

fn nothing_open() -> StoreError {
    StoreError::Conflict("no open dead letter matches the selection".to_owned())
}

/// Takes the letters, in the order of their events in each partition, and counts them in their groups.
async fn freeze(connection: &mut PgConnection, new: &NewReplay, replay: i64) -> Result<i64, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new("WITH ");
    push_chosen(&mut query, &new.selection);
    query.push(
        ", items AS (
             INSERT INTO crossdock.replay_items (replay, item, letter, place, state)
             SELECT ",
    );
    query.push_bind(replay).push(
        ", row_number() OVER (ORDER BY p.topic, p.partition, c.log_offset, p.flow) - 1, c.number, c.place, 0
             FROM chosen c JOIN crossdock.places p USING (place)
         ), changed AS (
             UPDATE crossdock.letters l SET state = 1 FROM chosen WHERE l.number = chosen.number
         ), counts AS MATERIALIZED (
             SELECT failure_group AS number, count(*) AS n FROM chosen GROUP BY 1 ORDER BY 1
         ), locked AS MATERIALIZED (
             SELECT g.number FROM crossdock.failure_groups g
             WHERE g.number = ANY (ARRAY (SELECT number FROM counts)) ORDER BY 1 FOR NO KEY UPDATE
         ), counted AS (
             UPDATE crossdock.failure_groups g SET open = g.open - counts.n, replaying = g.replaying + counts.n
             FROM counts JOIN locked USING (number) WHERE g.number = counts.number
         )
         SELECT count(*) FROM chosen",
    );
    query.build_query_scalar().fetch_one(connection).await
}
