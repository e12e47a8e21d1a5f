//! The outbox keeps the promises of its ports.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::{Event, Outbox, OutboxLog, Topic};
use crossdock_postgres::{Postgres, PostgresOptions};
use crossdock_testkit::{HasOutbox, HasOutboxLog, Setup, Subject};
use sqlx::{Connection, Row};

use crate::database::Database;

struct Store {
    database: Database,
    postgres: Postgres,
}

fn options(database: &Database, setup: &Setup) -> PostgresOptions {
    let mut options = database.options();
    options.topics = Some(setup.topics.clone());
    options.event_bytes_max = setup.event_bytes_max;
    options.queue_events_max = setup.queue_events_max;
    options.dedupe_window = setup.dedupe_window;
    options.retention = setup.retention;
    options.lease = Duration::from_secs(2);
    options
}

impl Store {
    async fn open(database: Database, setup: &Setup) -> Self {
        let postgres = database.open(options(&database, setup)).await;
        Self { database, postgres }
    }
}

#[async_trait]
impl Subject for Store {
    async fn create(setup: &Setup) -> Self {
        Self::open(Database::create().await, setup).await
    }

    async fn reopen(self, setup: &Setup) -> Self {
        self.postgres.close().await;
        Self::open(self.database, setup).await
    }

    /// All connections end at once, as when the process is killed.
    async fn crash(self, setup: &Setup) -> Self {
        self.database.terminate("crossdock/%").await;
        Self::open(self.database, setup).await
    }
}

#[async_trait]
impl HasOutbox for Store {
    const KNOWS_TOPICS: bool = true;
    const REFUSES_WHEN_BUSY: bool = true;

    fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::new(self.postgres.clone())
    }

    async fn taken(&self, topic: &Topic) -> Vec<Event> {
        let rows = sqlx::query(
            "SELECT attributes, payload FROM crossdock.outbox WHERE aggregatetype = $1 ORDER BY seq",
        )
        .bind(topic.as_str())
        .fetch_all(&mut self.database.connect().await)
        .await
        .expect("the rows can be read");
        let event = |row: sqlx::postgres::PgRow| Event {
            data: row.get::<Vec<u8>, _>(1).into(),
            ..serde_json::from_slice(row.get(0)).expect("attributes")
        };
        rows.into_iter().map(event).collect()
    }
}

#[async_trait]
impl HasOutboxLog for Store {
    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        Arc::new(self.postgres.clone())
    }

    async fn write(&self, topic: &Topic, events: Vec<Event>) {
        const INSERT: &str = "
            INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload, attributes)
            SELECT $1, key, 'x', payload, attributes
            FROM unnest($2::text[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS given (key, payload, attributes, n)
            ORDER BY n";
        let mut connection = self.database.connect().await;
        let mut transaction = connection.begin().await.expect("a transaction begins");
        sqlx::query(INSERT)
            .bind(topic.as_str())
            .bind(events.iter().map(|event| event.key.clone()).collect::<Vec<_>>())
            .bind(events.iter().map(|event| event.data.to_vec()).collect::<Vec<_>>())
            .bind(events.iter().map(|event| serde_json::to_vec(event).expect("JSON")).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await
            .expect("events can be inserted");
        transaction.commit().await.expect("a transaction commits");
    }
}

mod intake {
    crossdock_testkit::outbox_suite!(super::Store);
}

mod log {
    crossdock_testkit::outbox_log_suite!(super::Store);
}
