//! RabbitMQ: its exchanges and queues, and whether they are as they should be.

use std::sync::Arc;

use anyhow::anyhow;
use crossdock_core::{Checkpoints, Finding, Leases};
use crossdock_rabbitmq::{RabbitError, RabbitMq, RabbitOptions, TopicShape, Wanted};

use super::{embedded::ATTRIBUTES_BYTES_MAX, hindrance::Hindrance, order};
use crate::config::{Loaded, TopicPlan};

/// Makes ready what is needed; connects when it is used first.
pub fn open(
    loaded: &Loaded,
    options: &RabbitOptions,
    leases: Arc<dyn Leases>,
    checkpoints: Arc<dyn Checkpoints>,
) -> RabbitMq {
    let mut options = options.clone();
    options.event_bytes_max = loaded.limits.body_bytes_max + ATTRIBUTES_BYTES_MAX;
    RabbitMq::open(options, leases, checkpoints)
}

/// The topics and the groups as the configuration wants them. Copies are the broker's business, and a queue keeps an event
/// until it was delivered.
pub fn wanted(loaded: &Loaded) -> Wanted {
    let shape = |plan: &TopicPlan| TopicShape { topic: plan.topic.clone(), partitions: plan.partitions };
    Wanted {
        topics: loaded.topics.iter().map(shape).collect(),
        groups: loaded.plan.flows.iter().map(|flow| (flow.name.clone(), flow.topics.clone())).collect(),
    }
}

/// What is there, what is missing and what differs. Changes nothing.
pub async fn findings(loaded: &Loaded, rabbit: &RabbitMq) -> Vec<Finding> {
    order::explained(&loaded.topics, rabbit.findings(&wanted(loaded)).await)
}

/// Makes what is missing; tells what else there is to say.
pub async fn provision(wanted: &Wanted, rabbit: &RabbitMq) -> Result<Vec<Finding>, Hindrance> {
    rabbit.provision(wanted).await.map_err(hindrance)
}

fn hindrance(error: RabbitError) -> Hindrance {
    let is_final = error.is_final();
    let told = match error {
        RabbitError::Topology(findings) => anyhow!("{}", super::told(&findings)),
        error => anyhow!(error),
    };
    if is_final { Hindrance::Final(told) } else { Hindrance::Away(told) }
}
