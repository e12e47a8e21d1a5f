//! The rate of a replay, over all workers.

use crossdock_core::{Act, Replay, StoreError};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{Failure, Postgres, pool::Purpose, stores::audit};

use super::{find, lock_unfinished};

/// Takes from the bucket of the replay, which holds a tenth of a second, or one item. The time is the database's; one statement,
/// so that workers who ask at the same time share what there is.
pub(super) async fn allow(store: &Postgres, id: &str, want: u64) -> Result<u64, StoreError> {
    let id = id.to_owned();
    let allowed = store.call(Purpose::Delivery, "asking for the rate of a replay", move |connection| {
        Box::pin(async move {
            // The replay by the unique index of the ids, the bucket by its primary key.
            let allowed = sqlx::query_scalar::<_, i64>(
                "WITH replay AS MATERIALIZED (
                     SELECT number, rate FROM crossdock.replays WHERE id = $1
                 ), taken AS (
                     INSERT INTO crossdock.replay_rates AS b (replay, rate, tokens, allowed, filled_at)
                     SELECT number, rate, 1 - least(1, $2), least(1, $2), clock_timestamp() FROM replay
                     WHERE rate IS NOT NULL
                     ON CONFLICT (replay) DO UPDATE SET (rate, tokens, allowed, filled_at) = (
                         SELECT excluded.rate, f.tokens - least(floor(f.tokens), $2), least(floor(f.tokens), $2),
                                greatest(b.filled_at, excluded.filled_at)
                         FROM (SELECT least(
                             greatest(excluded.rate / 10, 1),
                             b.tokens + excluded.rate
                                 * greatest(extract(epoch FROM excluded.filled_at - b.filled_at)::double precision, 0)
                         ) AS tokens) f
                     )
                     RETURNING allowed
                 )
                 SELECT CASE WHEN rate IS NULL THEN $2 ELSE (SELECT allowed FROM taken) END FROM replay",
            );
            let want = i64::try_from(want).unwrap_or(i64::MAX);
            Ok(allowed.bind(id.as_bytes()).bind(want).fetch_optional(connection).await?)
        })
    });
    Ok(allowed.await?.and_then(|allowed| u64::try_from(allowed).ok()).unwrap_or_default())
}

pub(super) async fn set(
    connection: &mut PgConnection,
    id: &str,
    rate: Option<f64>,
    (act, now): (&Act, Timestamp),
) -> Result<Replay, Failure> {
    let number = lock_unfinished(connection, id).await?;
    sqlx::query("UPDATE crossdock.replays SET rate = $1 WHERE number = $2")
        .bind(rate)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    audit::write(connection, now, act, ("replay rate", id, 1)).await?;
    find(connection, id).await
}
