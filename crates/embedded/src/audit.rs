//! The audit table: what people did, who and why.

use crossdock_core::Act;
use sqlx::SqliteConnection;

/// Writes an entry; gives back its id. What it touched is counted later, if it is not one thing.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    now: i64,
    act: &Act,
    (what, subject): (&str, &str),
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO audit (at, actor, reason, act, subject, count) VALUES (?, ?, ?, ?, ?, 1) RETURNING id",
    )
    .bind(now)
    .bind(&act.actor)
    .bind(&act.reason)
    .bind(what)
    .bind(subject)
    .fetch_one(connection)
    .await
}
