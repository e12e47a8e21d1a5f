//! How flows join their topics.

use std::{sync::Arc, time::Duration};

use crossdock_core::{Broker, BrokerError, Subscription, chain};
use tokio::sync::watch;

use crate::{flow::Flow, plan::FlowPlan, wiring::StartError};

/// How long a broker may take to let a flow join its topics: it may have to make them.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(60);

/// Lets a flow join its topics; none if the broker is away and the flow `may_wait`.
pub(crate) async fn join(
    broker: &Arc<dyn Broker>,
    flow: &Flow,
    may_wait: bool,
) -> Result<Option<Box<dyn Subscription>>, StartError> {
    match subscribe(broker.as_ref(), &flow.plan).await {
        Ok(subscription) => Ok(Some(subscription)),
        Err(error @ BrokerError::Unavailable { .. }) if may_wait => {
            let (flow, error) = (&flow.plan.name, chain(&error));
            tracing::warn!(%flow, error, "the broker is away; events are taken in, and the flow joins when it is back");
            Ok(None)
        }
        Err(error) => Err(StartError::new(format!("subscribing the flow `{}`", flow.plan.name))(error)),
    }
}

/// Joins the topics of a flow. A broker that does not answer is not available.
pub(crate) async fn subscribe(
    broker: &dyn Broker,
    flow: &FlowPlan,
) -> Result<Box<dyn Subscription>, BrokerError> {
    let subscription = tokio::time::timeout(SUBSCRIBE_MAX, broker.subscribe(&flow.name, &flow.topics)).await;
    subscription.unwrap_or_else(|_| {
        let source = format!("no answer within {} s", SUBSCRIBE_MAX.as_secs()).into();
        Err(BrokerError::Unavailable { doing: "joining a group", source })
    })
}

/// Counts the flows that have not joined their topics yet.
pub(crate) struct Joined(watch::Sender<usize>);

impl Joined {
    pub(crate) fn new(subscriptions: &[Option<Box<dyn Subscription>>]) -> Self {
        let missing = subscriptions.iter().filter(|subscription| subscription.is_none()).count();
        Self(watch::Sender::new(missing))
    }

    /// One more has joined.
    pub(crate) fn one(&self) {
        self.0.send_modify(|missing| *missing = missing.saturating_sub(1));
    }

    /// Waits until every flow has joined once.
    pub(crate) async fn all(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|missing| *missing == 0).await;
    }
}
