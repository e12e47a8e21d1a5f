//! Kafka: what its topics are like, and whether they are as they should be.

use std::sync::Arc;

use anyhow::anyhow;
use crossdock_core::{Checkpoints, Finding};
use crossdock_kafka::{Kafka, KafkaError, KafkaOptions, TopicShape};

use super::{embedded::ATTRIBUTES_BYTES_MAX, hindrance::Hindrance, order};
use crate::config::{Loaded, TopicPlan};

/// Makes the client; asks nobody.
pub fn open(
    loaded: &Loaded,
    options: &KafkaOptions,
    checkpoints: Arc<dyn Checkpoints>,
) -> anyhow::Result<Kafka> {
    let mut options = options.clone();
    options.event_bytes_max = loaded.limits.body_bytes_max + ATTRIBUTES_BYTES_MAX;
    Ok(Kafka::open(options, checkpoints)?)
}

/// The topics as the configuration wants them.
fn shapes(topics: &[TopicPlan]) -> Vec<TopicShape> {
    let shape = |plan: &TopicPlan| TopicShape {
        topic: plan.topic.clone(),
        partitions: plan.partitions,
        replication: plan.replication,
        retention: plan.retention,
    };
    topics.iter().map(shape).collect()
}

/// What is there, what is missing and what differs. Changes nothing.
pub async fn findings(topics: &[TopicPlan], kafka: &Kafka) -> Vec<Finding> {
    order::explained(topics, kafka.findings(&shapes(topics)).await)
}

/// Makes the topics that are missing; tells what else there is to say.
pub async fn provision(topics: &[TopicPlan], kafka: &Kafka) -> Result<Vec<Finding>, Hindrance> {
    match kafka.provision(&shapes(topics)).await {
        Ok(findings) => Ok(order::explained(topics, findings)),
        Err(error) => Err(hindrance(error)),
    }
}

fn hindrance(error: KafkaError) -> Hindrance {
    let is_final = error.is_final();
    let told = match error {
        KafkaError::Topics(findings) => anyhow!("{}", super::told(&findings)),
        error => anyhow!(error),
    };
    if is_final { Hindrance::Final(told) } else { Hindrance::Away(told) }
}
