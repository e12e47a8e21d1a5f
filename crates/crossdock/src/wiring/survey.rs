//! What the store and the broker of a configuration are like, without running a hub on them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::{Checkpoints, Finding, Group, Holdings, Lease, Leases, StoreError, Topic, WorkerId};
use crossdock_postgres::{Migrated, Postgres};

use super::{hindrance::Hindrance, kafka, postgres, rabbitmq};
use crate::config::{Carrier, Loaded, Store};

/// How long a client may take to go.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Names whoever looks on; no worker.
const WORKER: &str = "crossdock-command";

/// What was found in the store, then in the broker. Changes nothing.
pub async fn survey(loaded: &Loaded) -> Vec<Finding> {
    let (mut found, broker) = tokio::join!(store(loaded), broker(loaded));
    found.extend(broker);
    found
}

async fn store(loaded: &Loaded) -> Vec<Finding> {
    match &loaded.store {
        Store::Embedded => vec![embedded("store", loaded)],
        Store::Postgres(options) => Postgres::findings(&postgres::with_limits(loaded, WORKER, options)).await,
    }
}

async fn broker(loaded: &Loaded) -> Vec<Finding> {
    match &loaded.broker {
        Carrier::Embedded => vec![embedded("broker", loaded)],
        Carrier::Kafka(options) => match kafka::open(loaded, options, Arc::new(Nobody)) {
            Ok(kafka) => {
                let found = kafka::findings(&loaded.topics, &kafka).await;
                kafka.close(CLOSE_WITHIN).await;
                found
            }
            Err(error) => vec![unopened(&error)],
        },
        Carrier::RabbitMq(options) => {
            let rabbit = rabbitmq::open(loaded, options, Arc::new(Nobody), Arc::new(Nobody));
            let found = rabbitmq::findings(loaded, &rabbit).await;
            rabbit.close(CLOSE_WITHIN).await;
            found
        }
    }
}

fn embedded(what: &str, loaded: &Loaded) -> Finding {
    Finding::ok(what, format!("embedded, in {}: makes what it needs when it runs", loaded.data.display()))
}

fn unopened(error: &anyhow::Error) -> Finding {
    Finding::error("broker", format!("{error:#}"), "look at the options of `broker`")
}

/// Makes what is missing in the store and the broker.
pub async fn apply(loaded: &Loaded) -> anyhow::Result<()> {
    let Some(postgres) = database(loaded).await? else { return Ok(()) };
    postgres.migrate().await?;
    let applied = apply_to_broker(loaded, &postgres).await;
    postgres.close().await;
    applied.map_err(Hindrance::into_error)
}

async fn apply_to_broker(loaded: &Loaded, postgres: &Postgres) -> Result<(), Hindrance> {
    let shared = Arc::new(postgres.clone());
    match &loaded.broker {
        Carrier::Embedded => Ok(()),
        Carrier::Kafka(options) => {
            let kafka = kafka::open(loaded, options, shared).map_err(Hindrance::Final)?;
            let provisioned = kafka::provision(&kafka::Wanted::of(loaded), &kafka).await;
            kafka.close(CLOSE_WITHIN).await;
            provisioned.map(drop)
        }
        Carrier::RabbitMq(options) => {
            let rabbit = rabbitmq::open(loaded, options, shared.clone(), shared);
            let provisioned = rabbitmq::provision(&rabbitmq::wanted(loaded), &rabbit).await;
            rabbit.close(CLOSE_WITHIN).await;
            provisioned.map(drop)
        }
    }
}

/// Brings the tables to what this version needs; none where there is nothing to migrate.
pub async fn migrate(loaded: &Loaded) -> anyhow::Result<Option<Migrated>> {
    let Some(postgres) = database(loaded).await? else { return Ok(None) };
    let migrated = postgres.migrate().await;
    postgres.close().await;
    Ok(Some(migrated?))
}

/// The database of a configuration, for people; none if it names none.
pub async fn database(loaded: &Loaded) -> anyhow::Result<Option<Postgres>> {
    let Store::Postgres(options) = &loaded.store else { return Ok(None) };
    postgres::open(loaded, WORKER, options).await.map(Some).map_err(Hindrance::into_error)
}

/// The ports that a broker needs when it is run, where nobody runs it.
pub struct Nobody;

fn nobody<T>() -> Result<T, StoreError> {
    let doing = "looking at a broker without a store";
    Err(StoreError::Unavailable { doing, source: "only a hub that runs has one".into() })
}

#[async_trait]
impl Checkpoints for Nobody {
    async fn begun(&self, _: &Group) -> Result<Vec<Topic>, StoreError> {
        nobody()
    }

    async fn begin(&self, _: &Group, _: &[Topic]) -> Result<(), StoreError> {
        nobody()
    }
}

#[async_trait]
impl Leases for Nobody {
    async fn renew(&self, _: &str, _: &WorkerId, _: Duration) -> Result<Holdings, StoreError> {
        nobody()
    }

    async fn take(&self, _: &str, _: &WorkerId, _: &[String], _: Duration) -> Result<Vec<Lease>, StoreError> {
        nobody()
    }

    async fn release(&self, _: &str, _: &WorkerId, _: &[String]) -> Result<(), StoreError> {
        nobody()
    }

    async fn leave(&self, _: &str, _: &WorkerId) -> Result<(), StoreError> {
        nobody()
    }
}
