//! The stores in Postgres keep the promises of their ports.

mod template;

use std::sync::Arc;

use async_trait::async_trait;
use crossdock_core::{Checkpoints, Connections, DeadLetters, HeldEvents, Leases, Replays, Settlements};
use crossdock_postgres::Postgres;
use crossdock_testkit::{HasCheckpoints, HasLeases, HasStore, Setup, Subject};
use template::Database;

struct Store {
    postgres: Postgres,
    database: Database,
}

impl Store {
    async fn open(database: Database, setup: &Setup) -> Self {
        let mut options = database.options();
        options.clock = setup.clock.clone();
        let postgres = Postgres::open(options).await.expect("the database opens");
        Self { postgres, database }
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

    /// The connections are dropped without a word, whatever they are doing.
    async fn crash(self, setup: &Setup) -> Self {
        drop(self.postgres);
        Self::open(self.database, setup).await
    }
}

impl HasStore for Store {
    const SHARES_RATES: bool = true;
    const OUTLIVES_ITS_BROKER: bool = true;

    fn settlements(&self) -> Arc<dyn Settlements> {
        Arc::new(self.postgres.clone())
    }

    fn held(&self) -> Arc<dyn HeldEvents> {
        Arc::new(self.postgres.clone())
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(self.postgres.clone())
    }

    fn replays(&self) -> Arc<dyn Replays> {
        Arc::new(self.postgres.clone())
    }

    fn connections(&self) -> Arc<dyn Connections> {
        Arc::new(self.postgres.clone())
    }
}

impl HasLeases for Store {
    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.postgres.clone())
    }
}

impl HasCheckpoints for Store {
    fn checkpoints(&self) -> Arc<dyn Checkpoints> {
        Arc::new(self.postgres.clone())
    }
}

crossdock_testkit::store_suite!(Store);
crossdock_testkit::random_store_suite!(Store);
crossdock_testkit::leases_suite!(Store);
crossdock_testkit::checkpoints_suite!(Store);
