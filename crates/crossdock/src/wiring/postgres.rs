//! The store in Postgres, and the broker beside it.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use crossdock_core::{Broker, WorkerId};
use crossdock_engine::{Roles, Stores};
use crossdock_postgres::{MigrateError, OpenError, Postgres, PostgresOptions};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Closing, Ground,
    alone::Alone,
    embedded::{self, ATTRIBUTES_BYTES_MAX},
    hindrance::{Hindrance, Waiting, hindrance},
    kafka,
    provision::{self, Provision},
    rabbitmq, upkeep,
};
use crate::config::{Carrier, Loaded, Store};

/// Opens the store and the broker of a configuration, with everything in them that a hub needs. What is away is waited for.
pub async fn on_servers(
    loaded: &Loaded,
    worker: &WorkerId,
    roles: Roles,
    waiting: &Waiting,
) -> anyhow::Result<Ground> {
    let Store::Postgres(options) = &loaded.store else {
        anyhow::bail!("a broker beside the hub needs a store in Postgres")
    };
    let postgres = waiting.until("the store", async || open(loaded, worker, options).await).await?;
    waiting.until("the store", async || migrate(&postgres).await).await?;
    let stores = stores(&postgres);
    let lost = CancellationToken::new();
    let (broker, let_go) = broker(loaded, (worker, &lost), roles, &postgres, waiting).await?;
    let upkeep = upkeep::begin(postgres.clone());
    let closing = closing(Some(upkeep), move |within| async move {
        let_go(within).await;
        postgres.close().await;
    });
    Ok(Ground { broker, stores, lost, closing })
}

/// How long what was given to a broker may take to be acknowledged at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A broker, and what lets go of it.
type Opened = (Arc<dyn Broker>, Closing);

async fn broker(
    loaded: &Loaded,
    (worker, lost): (&WorkerId, &CancellationToken),
    roles: Roles,
    postgres: &Postgres,
    waiting: &Waiting,
) -> anyhow::Result<Opened> {
    match &loaded.broker {
        Carrier::Embedded => beside(loaded, (worker, lost), postgres, waiting).await,
        Carrier::Kafka(options) => {
            let kafka = kafka::open(loaded, options, Arc::new(postgres.clone()))?;
            let (client, wanted) = (kafka.clone(), kafka::Wanted::of(loaded));
            let provision = move || -> BoxFuture<'static, _> {
                let (client, wanted) = (client.clone(), wanted.clone());
                Box::pin(async move { kafka::provision(&wanted, &client).await })
            };
            let later = provisioned("Kafka", roles, Arc::new(provision)).await?;
            let client = kafka.clone();
            let close = move |within: Duration| async move { client.close(within).await };
            Ok((Arc::new(kafka), closing(later, close)))
        }
        Carrier::RabbitMq(options) => {
            let shared = Arc::new(postgres.clone());
            let rabbit = rabbitmq::open(loaded, options, shared.clone(), shared);
            let (client, wanted) = (rabbit.clone(), rabbitmq::wanted(loaded));
            let provision = move || -> BoxFuture<'static, _> {
                let (client, wanted) = (client.clone(), wanted.clone());
                Box::pin(async move { rabbitmq::provision(&wanted, &client).await })
            };
            let later = provisioned("RabbitMQ", roles, Arc::new(provision)).await?;
            let client = rabbit.clone();
            let close = move |within: Duration| async move { client.close(within.min(CLOSE_WITHIN)).await };
            Ok((Arc::new(rabbit), closing(later, close)))
        }
    }
}

/// A worker that neither relays nor delivers has nothing to do with the broker.
async fn provisioned(
    what: &'static str,
    roles: Roles,
    provision: Provision,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    match roles.relay || roles.deliver {
        true => provision::now_or_later(what, provision).await,
        false => Ok(None),
    }
}

/// What ends a task, if there is one, and closes then.
fn closing<F: Future<Output = ()> + Send>(
    task: Option<JoinHandle<()>>,
    close: impl FnOnce(Duration) -> F + Send + 'static,
) -> Closing {
    Box::new(move |within| {
        Box::pin(async move {
            if let Some(task) = task {
                task.abort();
            }
            close(within).await;
        })
    })
}

/// The embedded broker beside a store in Postgres: for one worker, which is told when it is `lost` to another one.
async fn beside(
    loaded: &Loaded,
    (worker, lost): (&WorkerId, &CancellationToken),
    postgres: &Postgres,
    waiting: &Waiting,
) -> anyhow::Result<Opened> {
    let leases = Arc::new(postgres.clone());
    let take = async || Alone::take(leases.clone(), worker.clone(), lost.clone()).await;
    let alone = waiting.until("the store", take).await?;
    let told = async || {
        embedded::tell_of_a_lost_log(loaded, postgres).await.map_err(|error| hindrance(error.into()))
    };
    waiting.until("the store", told).await?;
    let embedded = embedded::open(loaded).await?;
    let log = embedded.clone();
    let close = |_| async move {
        log.close().await;
        alone.leave().await;
    };
    Ok((Arc::new(embedded), closing(None, close)))
}

/// Opens the database once.
pub async fn open(loaded: &Loaded, worker: &str, options: &PostgresOptions) -> Result<Postgres, Hindrance> {
    let opened = Postgres::open(with_limits(loaded, worker, options)).await;
    opened.map_err(|error: OpenError| sorted(error.is_final(), error))
}

/// Brings the tables to what this version needs.
pub async fn migrate(postgres: &Postgres) -> Result<(), Hindrance> {
    match postgres.migrate().await {
        Ok(_) => Ok(()),
        Err(error) => Err(sorted(MigrateError::is_final(&error), error)),
    }
}

fn sorted(is_final: bool, error: impl std::error::Error + Send + Sync + 'static) -> Hindrance {
    if is_final { Hindrance::Final(anyhow!(error)) } else { Hindrance::Away(anyhow!(error)) }
}

/// The options of the store, with what the rest of the configuration says.
pub fn with_limits(loaded: &Loaded, worker: &str, options: &PostgresOptions) -> PostgresOptions {
    let mut options = options.clone();
    options.topics = Some(loaded.topics.iter().map(|plan| plan.topic.clone()).collect());
    options.event_bytes_max = loaded.limits.body_bytes_max + ATTRIBUTES_BYTES_MAX;
    options.waiting_events_max = loaded.limits.outbox_events_max.unwrap_or(options.waiting_events_max);
    options.dedupe_window = loaded.dedupe_window.unwrap_or(options.dedupe_window);
    options.dead_letter_retention = loaded.dead_letter_retention.unwrap_or(options.dead_letter_retention);
    options.worker = worker.to_owned();
    options.retention = loaded.shape.retention.unwrap_or(options.retention);
    options
}

fn stores(postgres: &Postgres) -> Stores {
    let shared = Arc::new(postgres.clone());
    Stores {
        outbox: shared.clone(),
        outbox_log: Some(shared.clone()),
        settlements: shared.clone(),
        held: shared.clone(),
        dead_letters: shared.clone(),
        replays: shared.clone(),
        connections: shared.clone(),
        event_log: shared,
        shared: true,
    }
}
