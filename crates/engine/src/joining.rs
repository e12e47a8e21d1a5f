//! How flows join their topics.

use std::{sync::Arc, time::Duration};

use crossdock_core::{Broker, BrokerError, Subscription, chain};
use futures::future::try_join_all;
use tokio::sync::watch;

use crate::{flow::Flow, plan::FlowPlan, wiring::StartError};

/// How long a broker may take to let a flow join its topics: it may have to make them.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(60);

/// Lets flows join their topics, all at once. Those that `may_wait` and whose broker is away are none, which is told of once.
pub(crate) async fn join(
    broker: &Arc<dyn Broker>,
    flows: &[Arc<Flow>],
    may_wait: bool,
) -> Result<Vec<Option<Box<dyn Subscription>>>, StartError> {
    let joining = flows.iter().map(|flow| async move {
        match subscribe(broker.as_ref(), &flow.plan).await {
            Ok(subscription) => Ok(Ok(subscription)),
            Err(error @ BrokerError::Unavailable { .. }) if may_wait => Ok(Err(chain(&error))),
            Err(error) => Err(StartError::new(format!("subscribing the flow `{}`", flow.plan.name))(error)),
        }
    });
    let joined = try_join_all(joining).await?;
    if let Some(Err(error)) = joined.iter().find(|joined| joined.is_err()) {
        let flows = joined.iter().filter(|joined| joined.is_err()).count();
        tracing::warn!(
            flows,
            error,
            "the broker is away; events are taken in, and flows join when it is back"
        );
    }
    Ok(joined.into_iter().map(Result::ok).collect())
}

/// How long it is waited before groups are let begin once more.
const AGAIN: Duration = Duration::from_secs(1);

/// Lets the groups begin of flows that other workers deliver, so that they miss nothing whenever those come. Tries until every
/// one of them has.
pub(crate) async fn begin(broker: &dyn Broker, flows: &[Arc<Flow>]) {
    for flow in flows {
        let (plan, mut told) = (&flow.plan, false);
        loop {
            let begun = within_broker("letting a group begin", broker.begin(&plan.name, &plan.topics));
            let Err(error) = begun.await else { break };
            if !std::mem::replace(&mut told, true) {
                let (flow, error) = (&plan.name, chain(&error));
                tracing::warn!(%flow, error, "the group of the flow cannot begin; nothing is relayed before it has");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Joins the topics of a flow.
pub(crate) async fn subscribe(
    broker: &dyn Broker,
    flow: &FlowPlan,
) -> Result<Box<dyn Subscription>, BrokerError> {
    within_broker("joining a group", broker.subscribe(&flow.name, &flow.topics)).await
}

/// A broker that does not answer is not available.
async fn within_broker<T>(
    doing: &'static str,
    answer: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    tokio::time::timeout(SUBSCRIBE_MAX, answer).await.unwrap_or_else(|_| {
        let source = format!("no answer within {} s", SUBSCRIBE_MAX.as_secs()).into();
        Err(BrokerError::Unavailable { doing, source })
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
