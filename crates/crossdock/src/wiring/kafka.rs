//! Kafka: what its topics are like, and whether they are as they should be.

use std::sync::Arc;

use anyhow::anyhow;
use crossdock_core::{Broker, BrokerError, Checkpoints, Finding, Group, Topic};
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

/// The topics and the groups as the configuration wants them.
#[derive(Clone)]
pub struct Wanted {
    topics: Vec<TopicPlan>,
    groups: Vec<(Group, Vec<Topic>)>,
}

impl Wanted {
    /// What this configuration wants.
    pub fn of(loaded: &Loaded) -> Self {
        let groups = loaded.plan.flows.iter().map(|flow| (flow.name.clone(), flow.topics.clone()));
        Self { topics: loaded.topics.clone(), groups: groups.collect() }
    }
}

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

/// Makes the topics that are missing and lets the groups begin that are new; tells what else there is to say.
pub async fn provision(wanted: &Wanted, kafka: &Kafka) -> Result<Vec<Finding>, Hindrance> {
    let findings = kafka.provision(&shapes(&wanted.topics)).await.map_err(hindrance)?;
    for (group, topics) in &wanted.groups {
        kafka.begin(group, topics).await.map_err(not_begun)?;
    }
    Ok(order::explained(&wanted.topics, findings))
}

/// A topic that was made just now may be unknown for a moment.
fn not_begun(error: BrokerError) -> Hindrance {
    match error {
        BrokerError::Closed => Hindrance::Final(anyhow!(error)),
        BrokerError::Unavailable { .. } | BrokerError::UnknownTopic(_) => Hindrance::Away(anyhow!(error)),
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
