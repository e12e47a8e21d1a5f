//! What the broker has of what was sent.

use std::{collections::HashSet, time::Duration};

use anyhow::bail;
use crossdock_core::Topic;
use crossdock_kafka::KafkaOptions;
use jiff::Timestamp;

use super::{kafka, survey::Nobody};
use crate::config::{Carrier, Loaded};

/// What names an event in the broker: topic, source and id.
pub type Named = (Topic, String, String);

/// Those of these events that the broker has, of those that it got at `since` or later. An error says why it cannot be told.
pub async fn present(
    loaded: &Loaded,
    wanted: &HashSet<Named>,
    since: Timestamp,
) -> anyhow::Result<HashSet<Named>> {
    match &loaded.broker {
        Carrier::Kafka(options) => in_kafka(loaded, options, wanted, since).await,
        Carrier::RabbitMq(_) => bail!(
            "a queue of RabbitMQ cannot be read without taking its events, so what it had cannot be compared: each event was \
             confirmed by it before the outbox went on; `crossdock status` tells what waits, `crossdock outbox refused` \
             what it never took, and `crossdock outbox rewind` publishes once more what was lost with a queue"
        ),
        Carrier::Embedded => {
            bail!("the embedded broker belongs to the hub that runs: ask it with `crossdock event show ID`")
        }
    }
}

async fn in_kafka(
    loaded: &Loaded,
    options: &KafkaOptions,
    wanted: &HashSet<Named>,
    since: Timestamp,
) -> anyhow::Result<HashSet<Named>> {
    let kafka = kafka::open(loaded, options, std::sync::Arc::new(Nobody))?;
    let topics: HashSet<_> = wanted.iter().map(|(topic, ..)| topic.clone()).collect();
    let topics: Vec<_> = topics.into_iter().collect();
    let (mut scan, mut there) = (kafka.scan(&topics, since), HashSet::new());
    while let Some(event) = scan.next().await {
        let (position, event) = event?;
        let named = (position.topic, event.source, event.id);
        if wanted.contains(&named) {
            there.insert(named);
        }
    }
    kafka.close(Duration::from_secs(1)).await;
    Ok(there)
}
