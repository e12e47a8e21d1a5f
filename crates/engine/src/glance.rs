//! The hub, its flows and its connections at a glance.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crossdock_core::{ConnectionState, GroupLag, OutboxStatus, Selection, StoreError, chain, span};
use futures::future::try_join_all;

use crate::{
    flow::Flow,
    hub::Hub,
    limit::within_time,
    relay::Watch,
    status::{ConnectionStatus, FlowStatus, RelayRole, RelayStatus, Status},
};

/// How long each part of a glance may take.
const GLANCE_MAX: Duration = Duration::from_secs(10);
/// How long events may wait in an outbox that nobody reads.
const UNREAD_MAX: Duration = Duration::from_secs(60);

impl Hub {
    /// The hub at a glance.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let (flows, relay) = tokio::try_join!(self.flows_and_troubles(), self.relay_status())?;
        let (flows, troubles): (Vec<_>, Vec<_>) = flows.into_iter().unzip();
        let sum = |count: fn(&FlowStatus) -> u64| flows.iter().map(count).sum();
        let mut problems = self.problems();
        problems.extend(troubles.into_iter().flatten());
        problems.extend(relay.as_ref().and_then(|relay| self.relay_problem(relay)));
        let state = match (self.is_stopping(), problems.is_empty()) {
            (true, _) => "stopping",
            (false, true) => "running",
            (false, false) => "degraded",
        };
        Ok(Status {
            state,
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started_at,
            accepted: self.intake.accepted(),
            duplicates: self.intake.duplicates(),
            delivered: sum(|flow| flow.delivered),
            failed_attempts: sum(|flow| flow.failed_attempts),
            pending: sum(|flow| flow.pending),
            held: sum(|flow| flow.held),
            dead: sum(|flow| flow.dead),
            relay,
            problems,
        })
    }

    /// What this worker has to do with the relay, and how far that is.
    async fn relay_status(&self) -> Result<Option<RelayStatus>, StoreError> {
        let Some(outbox) = &self.stores.outbox_log else { return Ok(None) };
        let outbox = within_time(GLANCE_MAX, "asking how far the outbox is", outbox.status()).await?;
        let watch = self.relay.as_deref();
        let role = watch.map_or(RelayRole::None, Watch::role);
        Ok(Some(RelayStatus { role, relayed: watch.map_or(0, Watch::relayed), outbox }))
    }

    /// What is wrong with the outbox, whoever reads it.
    fn relay_problem(&self, relay: &RelayStatus) -> Option<String> {
        let OutboxStatus { reader, waiting, oldest_at, refused, .. } = &relay.outbox;
        let waits = oldest_at.map(|oldest| span(oldest, self.clock.now())).unwrap_or_default();
        if reader.is_none() && *waiting > 0 && waits >= UNREAD_MAX {
            return Some(format!(
                "{waiting} events wait in the outbox and no worker moves them: run one with the role `relay`"
            ));
        }
        (*refused > 0).then(|| {
            format!(
                "{refused} events of the outbox were refused for good by the broker: `crossdock outbox status` tells why"
            )
        })
    }

    /// What is wrong, each with what mends it.
    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.intake.problem().into_iter().collect();
        problems.extend(self.relay.as_deref().and_then(Watch::problem));
        problems.extend(self.stalled());
        problems.extend(self.ended().into_iter().map(|what| format!("{what}: restart the hub")));
        let unsettled = self.flows.iter().filter(|flow| flow.unsettled.load(Ordering::Relaxed) > 0);
        problems.extend(unsettled.map(|flow| {
            format!(
                "flow {} cannot write what became of its deliveries: the log says why; nothing is lost, and it goes on by \
                 itself once the store can be written",
                flow.plan.name
            )
        }));
        for connection in self.connections() {
            let name = &connection.name;
            let why = connection.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            match connection.state {
                ConnectionState::NeedsAuth => problems.push(format!(
                    "connection {name} needs a new credential{why}: mend it, then `crossdock connection resume {name}`"
                )),
                ConnectionState::CircuitOpen => {
                    problems.push(format!("connection {name} does not answer{why}; it is tried again by itself"));
                }
                ConnectionState::Paused => problems.push(format!(
                    "connection {name} is paused{why}: `crossdock connection resume {name}` lets its events flow"
                )),
                ConnectionState::Ok | ConnectionState::Throttled => {}
            }
        }
        problems
    }

    /// Every flow, in the order of the configuration. Of one of which the broker does not say how far it is, no lag is told.
    pub async fn flows(&self) -> Result<Vec<FlowStatus>, StoreError> {
        Ok(self.flows_and_troubles().await?.into_iter().map(|(flow, _)| flow).collect())
    }

    /// Every flow, and what is wrong if the broker does not say how far it is.
    async fn flows_and_troubles(&self) -> Result<Vec<(FlowStatus, Option<String>)>, StoreError> {
        try_join_all(self.flows.iter().map(|flow| self.flow_status(flow))).await
    }

    async fn flow_status(&self, flow: &Flow) -> Result<(FlowStatus, Option<String>), StoreError> {
        let name = &flow.plan.name;
        let selection = Selection { flow: Some(name.clone()), ..Selection::default() };
        let lag = async { Ok(self.lag(flow).await) };
        let (lag, (held, next_retry_at), dead) = tokio::try_join!(
            lag,
            within_time(GLANCE_MAX, "counting held events", self.stores.held.count(name)),
            within_time(GLANCE_MAX, "counting dead letters", self.stores.dead_letters.count(&selection)),
        )?;
        let (lag, trouble) = match lag {
            Ok(lag) => (lag, None),
            Err(error) => {
                let error = chain(&error);
                (Vec::new(), Some(format!("the broker does not say how far flow {name} is: {error}")))
            }
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let status = FlowStatus {
            name: name.clone(),
            from: flow.plan.topics.clone(),
            connection: flow.plan.connection.clone(),
            action: flow.plan.action.clone(),
            state: flow.gate.status().state,
            delivered: read(&flow.counters.delivered),
            filtered: read(&flow.counters.filtered),
            failed_attempts: read(&flow.counters.failed_attempts),
            pending: lag.iter().map(|partition| partition.pending).sum(),
            held,
            dead,
            next_retry_at,
            lag,
        };
        Ok((status, trouble))
    }

    /// How far a flow is in each of its partitions.
    pub(crate) async fn lag(&self, flow: &Flow) -> Result<Vec<GroupLag>, StoreError> {
        let doing = "asking the broker how far a flow is";
        let lag = async {
            let lag = self.broker.lag(&flow.plan.name).await;
            lag.map_err(|source| StoreError::Unavailable { doing, source: source.into() })
        };
        within_time(GLANCE_MAX, doing, lag).await
    }

    /// Every connection, in the order of the configuration.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        self.plan.connections.iter().map(|plan| self.gates[&plan.name].status()).collect()
    }
}
