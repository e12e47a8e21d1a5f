//! The hub, its flows and its connections at a glance.

use std::sync::atomic::{AtomicU64, Ordering};

use crossdock_core::{ConnectionState, GroupLag, Selection, StoreError};
use futures::future::try_join_all;

use crate::{
    flow::Flow,
    hub::Hub,
    limit::within,
    relay::Watch,
    status::{ConnectionStatus, FlowStatus, RelayRole, RelayStatus, Status},
};

/// What is wrong with the outbox, whoever reads it.
fn relay_problem(relay: &RelayStatus) -> Option<String> {
    match relay.outbox.refused {
        0 => None,
        refused => Some(format!(
            "{refused} events of the outbox were refused for good by the broker: `crossdock outbox status` tells why"
        )),
    }
}

impl Hub {
    /// The hub at a glance.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let (flows, relay) = tokio::try_join!(self.flows(), self.relay_status())?;
        let sum = |count: fn(&FlowStatus) -> u64| flows.iter().map(count).sum();
        let mut problems = self.problems();
        problems.extend(relay.as_ref().and_then(relay_problem));
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
        let outbox = within("asking how far the outbox is", outbox.status()).await?;
        let watch = self.relay.as_deref();
        let role = watch.map_or(RelayRole::None, Watch::role);
        Ok(Some(RelayStatus { role, relayed: watch.map_or(0, Watch::relayed), outbox }))
    }

    /// What is wrong, each with what mends it.
    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.intake.last_failure().into_iter().collect();
        problems.extend(self.relay.as_deref().and_then(Watch::problem));
        problems.extend(self.stalled());
        problems.extend(
            self.ended()
                .into_iter()
                .map(|flow| format!("flow {flow} has stopped by an error of ours: restart the hub")),
        );
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

    /// Every flow, in the order of the configuration.
    pub async fn flows(&self) -> Result<Vec<FlowStatus>, StoreError> {
        try_join_all(self.flows.iter().map(|flow| self.flow_status(flow))).await
    }

    async fn flow_status(&self, flow: &Flow) -> Result<FlowStatus, StoreError> {
        let name = &flow.plan.name;
        let selection = Selection { flow: Some(name.clone()), ..Selection::default() };
        let (lag, (held, next_retry_at), dead) = tokio::try_join!(
            self.lag(flow),
            within("counting held events", self.stores.held.count(name)),
            within("counting dead letters", self.stores.dead_letters.count(&selection)),
        )?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(FlowStatus {
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
        })
    }

    /// How far a flow is in each of its partitions.
    pub(crate) async fn lag(&self, flow: &Flow) -> Result<Vec<GroupLag>, StoreError> {
        let doing = "asking the broker how far a flow is";
        let lag = async {
            let lag = self.broker.lag(&flow.plan.name).await;
            lag.map_err(|source| StoreError::Unavailable { doing, source: source.into() })
        };
        within(doing, lag).await
    }

    /// Every connection, in the order of the configuration.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        self.plan.connections.iter().map(|plan| self.gates[&plan.name].status()).collect()
    }
}
