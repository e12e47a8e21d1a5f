//! Whether work progresses: a partition with events that wait, of which nothing is tried, is told of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crossdock_core::{Broker, ConnectionState, FlowName, GroupLag, Partition};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{dispatchers::Dispatchers, flow::Flow};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How long a broker may take to say how far a flow is.
const LAG_MAX: Duration = Duration::from_secs(20);
/// How long nothing may happen at a partition where something waits.
const STILL_MAX: Duration = Duration::from_secs(60);

/// What stands still.
#[derive(Default)]
pub(crate) struct Progress(Mutex<HashMap<(FlowName, Partition), Still>>);

/// A partition where something waits.
struct Still {
    /// What had happened there when it was looked at.
    steps: Option<u64>,
    since: Instant,
    pending: u64,
    told: bool,
}

/// Looks whether work progresses.
pub(crate) struct Watching {
    pub(crate) flows: Vec<Arc<Flow>>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) dispatchers: Arc<Dispatchers>,
    /// No other worker delivers, so that every partition is ours.
    pub(crate) alone: bool,
    pub(crate) stop: CancellationToken,
}

impl Progress {
    pub(crate) fn stalled(&self) -> Vec<String> {
        let now = Instant::now();
        let state = self.lock();
        let stalled = state.iter().filter(|(_, still)| now.duration_since(still.since) >= STILL_MAX);
        let mut told: Vec<_> = stalled
            .map(|((flow, partition), still)| {
                format!(
                    "flow {flow} stands still at {partition}: {} events wait, and nothing was tried for {} s although its \
                     connection is ok; the log may say why, a restart of the worker takes it up anew",
                    still.pending,
                    now.duration_since(still.since).as_secs()
                )
            })
            .collect();
        told.sort();
        told
    }

    /// Takes note of how a partition is: with something that waits and could be worked on, or not.
    fn note(&self, place: (FlowName, Partition), waits: Option<u64>, steps: Option<u64>) {
        let mut state = self.lock();
        let Some(pending) = waits else {
            state.remove(&place);
            return;
        };
        let now = Instant::now();
        let still = Still { steps, since: now, pending, told: false };
        let known = state.entry(place.clone()).or_insert(still);
        if known.steps != steps {
            (known.steps, known.since, known.told) = (steps, now, false);
        }
        known.pending = pending;
        if now.duration_since(known.since) >= STILL_MAX && !std::mem::replace(&mut known.told, true) {
            tracing::error!(flow = %place.0, partition = %place.1, pending, "nothing is tried although events wait");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(FlowName, Partition), Still>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Watching {
    /// Looks until it is told to stop.
    pub(crate) async fn run(self, progress: Arc<Progress>) {
        while !self.flows.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            for flow in &self.flows {
                // A broker that does not answer is told of by those who need it.
                if let Ok(Ok(lag)) = timeout(LAG_MAX, self.broker.lag(&flow.plan.name)).await {
                    lag.into_iter().for_each(|lag| self.look(flow, lag, &progress));
                }
            }
        }
    }

    fn look(&self, flow: &Flow, lag: GroupLag, progress: &Progress) {
        let name = &flow.plan.name;
        let steps = self.dispatchers.get(name, &lag.partition).map(|found| found.handle.steps());
        let is_ours = self.alone || steps.is_some();
        let is_open = flow.gate.status().state == ConnectionState::Ok;
        let waits = (is_ours && is_open && lag.pending > 0).then_some(lag.pending);
        progress.note((name.clone(), lag.partition), waits, steps);
    }
}
