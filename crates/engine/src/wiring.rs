//! Puts connections and flows together before a hub starts.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use crossdock_core::{Clock, ConnectionName, StoredConnection};
use tokio::sync::broadcast;

use crate::{
    flow::{Counters, Flow},
    gate::Gate,
    plan::{ConnectionPlan, FlowPlan, Plan},
    status::Moment,
    stores::Stores,
};

/// A hub could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the hub while {doing}")]
pub struct StartError {
    /// What we were doing.
    pub doing: String,
    /// What went wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StartError {
    pub(crate) fn new<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        doing: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self { doing, source: source.into() }
    }
}

/// The gate of each connection, with what was kept of it.
pub(crate) fn gates(
    plan: &Plan,
    stored: Vec<StoredConnection>,
    clock: &Arc<dyn Clock>,
    stores: &Stores,
    moments: &broadcast::Sender<Moment>,
) -> HashMap<ConnectionName, Arc<Gate>> {
    let mut stored: HashMap<_, _> = stored.into_iter().map(|stored| (stored.name.clone(), stored)).collect();
    let gate = |plan: &Arc<ConnectionPlan>| {
        let stored = stored.remove(&plan.name);
        let gate =
            Gate::new(plan.clone(), stored, clock.clone(), stores.connections.clone(), moments.clone());
        (plan.name.clone(), Arc::new(gate))
    };
    plan.connections.iter().map(gate).collect()
}

/// Every flow with what it calls.
pub(crate) fn flows(
    plan: &Plan,
    gates: &HashMap<ConnectionName, Arc<Gate>>,
    clock: &Arc<dyn Clock>,
    moments: &broadcast::Sender<Moment>,
) -> Result<Vec<Arc<Flow>>, StartError> {
    let flow = |plan: &Arc<FlowPlan>| {
        let doing = format!("wiring the flow `{}`", plan.name);
        let gate = gates.get(&plan.connection).ok_or_else(|| format!("no connection `{}`", plan.connection));
        let gate = gate.map_err(StartError::new(doing.clone()))?.clone();
        let action =
            gate.plan.connection.action(&plan.action).ok_or_else(|| format!("no action `{}`", plan.action));
        Ok(Arc::new(Flow {
            plan: plan.clone(),
            action: action.map_err(StartError::new(doing))?,
            gate,
            clock: clock.clone(),
            counters: Counters::default(),
            unsettled: AtomicU64::new(0),
            joined: AtomicBool::new(false),
            moments: moments.clone(),
        }))
    };
    plan.flows.iter().map(flow).collect()
}
