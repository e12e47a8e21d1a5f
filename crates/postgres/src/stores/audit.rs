//! The audit table: what people did, who and why.

use crossdock_core::Act;
use jiff::Timestamp;
use sqlx::PgConnection;

use super::rows::at;

/// Writes an entry about so many things.
pub(super) async fn write(
    connection: &mut PgConnection,
    now: Timestamp,
    act: &Act,
    (what, subject, count): (&str, &str, u64),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO crossdock.audit (at, actor, reason, act, subject, count) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(at(now))
    .bind(act.actor.as_bytes())
    .bind(act.reason.as_bytes())
    .bind(what)
    .bind(subject.as_bytes())
    .bind(count as i64)
    .execute(connection)
    .await?;
    Ok(())
}
