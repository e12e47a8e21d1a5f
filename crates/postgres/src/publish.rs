//! For applications in Rust: an event in their own transaction.

use sqlx::PgExecutor;
use uuid::Uuid;

/// An event to be published when the transaction commits.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutboxMessage<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// What order is kept by. Lock what it names before publishing (update it, or select it for update): then the events of a key come
    /// in the order of their commits.
    pub key: Option<&'a str>,
    /// What happened, for example `order.paid`.
    pub kind: &'a str,
    /// The data, which stays as it is.
    pub payload: &'a [u8],
    /// The media type of the data; `application/json` if none.
    pub content_type: Option<&'a str>,
    /// The CloudEvents source; that of the hub's configuration if none.
    pub source: Option<&'a str>,
    /// What it happened to.
    pub subject: Option<&'a str>,
    /// Other CloudEvents attributes, by names of a-z and 0-9.
    pub headers: &'a [(&'a str, &'a str)],
    /// The id of the event; a new one if none.
    pub id: Option<Uuid>,
}

const PUBLISH: &str = "
    INSERT INTO crossdock.outbox (id, aggregatetype, aggregateid, type, payload, contenttype, source, subject, headers)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb)";

/// Publishes an event when the transaction of `executor` commits, and never if it is rolled back. Answers with its id. With a pool or
/// a plain connection it is committed at once.
///
/// ```no_run
/// # async fn pay(pool: sqlx::PgPool) -> Result<(), sqlx::Error> {
/// use crossdock_postgres::{OutboxMessage, publish};
///
/// let mut transaction = pool.begin().await?;
/// sqlx::query("UPDATE orders SET paid = true WHERE id = 17").execute(&mut *transaction).await?;
/// let paid = OutboxMessage {
///     topic: "orders",
///     key: Some("17"),
///     kind: "order.paid",
///     payload: br#"{"order": 17}"#,
///     ..OutboxMessage::default()
/// };
/// publish(&mut *transaction, &paid).await?;
/// transaction.commit().await
/// # }
/// ```
pub async fn publish(
    executor: impl PgExecutor<'_>,
    message: &OutboxMessage<'_>,
) -> Result<Uuid, sqlx::Error> {
    let id = message.id.unwrap_or_else(Uuid::now_v7);
    let headers = (!message.headers.is_empty()).then(|| {
        let headers = message.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        serde_json::Value::Object(headers.collect()).to_string()
    });
    sqlx::query(PUBLISH)
        .bind(id)
        .bind(message.topic)
        .bind(message.key)
        .bind(message.kind)
        .bind(message.payload)
        .bind(message.content_type)
        .bind(message.source)
        .bind(message.subject)
        .bind(headers)
        .execute(executor)
        .await?;
    Ok(id)
}
