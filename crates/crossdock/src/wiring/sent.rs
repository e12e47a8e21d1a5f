//! What the broker has of what was sent.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::bail;
use crossdock_core::Topic;
use crossdock_kafka::KafkaOptions;
use crossdock_rabbitmq::Depth;
use jiff::Timestamp;

use super::{kafka, rabbitmq, survey::Nobody};
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
        Carrier::RabbitMq(_) => bail!("a queue of RabbitMQ cannot be read without taking its events"),
        Carrier::Embedded => {
            bail!("the embedded broker belongs to the hub that runs: ask it with `crossdock event show ID`")
        }
    }
}

/// What waits in the queues of RabbitMQ; none with another broker.
pub async fn depths(loaded: &Loaded) -> anyhow::Result<Option<Vec<Depth>>> {
    let Carrier::RabbitMq(options) = &loaded.broker else { return Ok(None) };
    let rabbit = rabbitmq::open(loaded, options, Arc::new(Nobody), Arc::new(Nobody));
    let depths = rabbit.depths(&rabbitmq::wanted(loaded)).await;
    rabbit.close(Duration::from_secs(1)).await;
    Ok(Some(depths?))
}

async fn in_kafka(
    loaded: &Loaded,
    options: &KafkaOptions,
    wanted: &HashSet<Named>,
    since: Timestamp,
) -> anyhow::Result<HashSet<Named>> {
    let kafka = kafka::open(loaded, options, Arc::new(Nobody))?;
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
