//! The embedded store and broker: one folder, one process.

use std::sync::Arc;

use crossdock_core::{StoreError, SystemClock};
use crossdock_embedded::{Embedded, Options};
use crossdock_engine::Stores;
use crossdock_postgres::Postgres;
use tokio_util::sync::CancellationToken;

use super::Ground;
use crate::config::{Loaded, TopicPlan};

/// What attributes may add to the largest body, so that whatever the API takes the store takes too: more than the API lets
/// into the head of a request.
pub const ATTRIBUTES_BYTES_MAX: usize = 128 << 10;

/// Opens the folder of a configuration, as store and as broker.
pub async fn ground(loaded: &Loaded) -> anyhow::Result<Ground> {
    let embedded = open(loaded).await?;
    warn_of_lost_flows(loaded, &embedded).await?;
    Ok(Ground {
        broker: Arc::new(embedded.clone()),
        stores: stores(&embedded),
        lost: CancellationToken::new(),
        closing: Box::new(|_| Box::pin(async move { embedded.close().await })),
    })
}

/// Opens the folder of a configuration.
pub async fn open(loaded: &Loaded) -> anyhow::Result<Embedded> {
    let embedded = Embedded::open(&loaded.data, options(loaded), Arc::new(SystemClock)).await?;
    warn_of_order(loaded, &embedded);
    Ok(embedded)
}

fn options(loaded: &Loaded) -> Options {
    let defaults = Options::default();
    let own = |topic: &TopicPlan| Some((topic.topic.clone(), topic.partitions?));
    Options {
        partitions_of: loaded.topics.iter().filter_map(own).collect(),
        partitions: loaded.shape.partitions.unwrap_or(defaults.partitions),
        retention: loaded.shape.retention.unwrap_or(defaults.retention),
        dedupe_window: loaded.dedupe_window.unwrap_or(defaults.dedupe_window),
        dead_letter_retention: loaded.dead_letter_retention.unwrap_or(defaults.dead_letter_retention),
        event_bytes_max: loaded.limits.body_bytes_max + ATTRIBUTES_BYTES_MAX,
        file_bytes_max: loaded.limits.data_bytes_max,
        topics: loaded.topics.iter().map(|topic| topic.topic.clone()).collect(),
        groups: loaded.plan.flows.iter().map(|flow| (flow.name.clone(), flow.topics.clone())).collect(),
        ..defaults
    }
}

/// A topic keeps the partitions that it was born with, also when a flow with a key of its own comes later.
fn warn_of_order(loaded: &Loaded, embedded: &Embedded) {
    let split = |topic: &&TopicPlan| embedded.partitions(&topic.topic) > Some(1);
    for topic in loaded.topics.iter().filter(split) {
        if let Some(flow) = &topic.single_for {
            tracing::warn!(
                %flow, topic = %topic.topic,
                "the flow has a `key` of its own, but its topic was made with several partitions: order is kept only \
                 among events that also share their own key; begin with a new `data` folder to keep it among all"
            );
        }
    }
}

/// Beside a store in Postgres, what was relayed and not delivered stands in the log alone. One that is new although the outbox
/// was read before is not the one that was written to.
pub async fn tell_of_a_lost_log(loaded: &Loaded, postgres: &Postgres) -> Result<(), StoreError> {
    let (_, reached) = postgres.outbox_reach().await?;
    if reached > 0 && !Embedded::exists(&loaded.data) {
        tracing::error!(
            data = %loaded.data.display(), reached,
            "the log of the embedded broker is new, but events of the outbox were published before: what was not delivered of them \
             is not in it; `crossdock outbox rewind SEQ` publishes everything from a row on once more"
        );
    }
    Ok(())
}

/// Held events of a flow that was renamed or removed wait until its name is back, and no list of flows shows them.
async fn warn_of_lost_flows(loaded: &Loaded, embedded: &Embedded) -> anyhow::Result<()> {
    for (flow, held) in embedded.held_by_flow().await? {
        if !loaded.plan.flows.iter().any(|known| known.name == flow) {
            tracing::warn!(
                %flow, held,
                "events are held for a flow that is not in the configuration: they wait until a flow of that name is back"
            );
        }
    }
    Ok(())
}

fn stores(embedded: &Embedded) -> Stores {
    Stores {
        outbox: Arc::new(embedded.clone()),
        outbox_log: None,
        settlements: Arc::new(embedded.clone()),
        held: Arc::new(embedded.clone()),
        dead_letters: Arc::new(embedded.clone()),
        replays: Arc::new(embedded.clone()),
        connections: Arc::new(embedded.clone()),
        event_log: Arc::new(embedded.clone()),
        shared: false,
    }
}
