//! Whether work progresses: a partition with events that wait, of which nothing is tried, is told of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};

use crossdock_core::{Broker, ConnectionState, FlowName, GroupLag, Partition};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{activity::Activity, dispatchers::Dispatchers, flow::Flow};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How long a broker may take to say how far a flow is.
const LAG_MAX: Duration = Duration::from_secs(20);
/// How long nothing may happen at a partition where something waits, until it is told of.
const STILL_MAX: Duration = Duration::from_secs(60);
/// And until only another process is thought to do better.
const STUCK_MAX: Duration = Duration::from_secs(300);

/// What stands still.
#[derive(Default)]
pub(crate) struct Progress(Mutex<HashMap<(FlowName, Partition), Still>>);

/// A partition where something waits.
struct Still {
    seen: Seen,
    since: Instant,
    told: bool,
}

/// What is seen of a partition where something waits and nothing keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// What has happened there; none if nobody here works on it.
    steps: Option<u64>,
    pending: u64,
    /// Whether its dispatcher has deliveries in memory. What waits in the broker alone is the adapter's to fetch, and may be
    /// no event at all, such as the mark of a transaction.
    in_hand: bool,
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
    /// Where nothing happened for a minute, for people.
    pub(crate) fn stalled(&self) -> Vec<String> {
        let told = |flow: &FlowName, partition: &Partition, still: &Still| {
            format!(
                "flow {flow} stands still at {partition}: {} events wait, and nothing was tried for {} s although its \
                 connection is ok; the log may say why, a restart of the worker takes it up anew",
                still.seen.pending,
                still.since.elapsed().as_secs()
            )
        };
        self.still(|still| still.since.elapsed() >= STILL_MAX, told)
    }

    /// Where nothing happened for five minutes to what is in memory, for people.
    pub(crate) fn stuck(&self) -> Vec<String> {
        let told = |flow: &FlowName, partition: &Partition, still: &Still| {
            let seconds = still.since.elapsed().as_secs();
            format!("flow {flow} has deliveries of {partition} in memory and tried none for {seconds} s")
        };
        self.still(|still| still.seen.in_hand && still.since.elapsed() >= STUCK_MAX, told)
    }

    fn still(
        &self,
        is_it: impl Fn(&Still) -> bool,
        told: impl Fn(&FlowName, &Partition, &Still) -> String,
    ) -> Vec<String> {
        let state = self.lock();
        let still = state.iter().filter(|(_, still)| is_it(still));
        let mut told: Vec<_> = still.map(|((flow, partition), still)| told(flow, partition, still)).collect();
        told.sort();
        told
    }

    /// Takes note of how a partition is: with something that waits and that nothing keeps, or not.
    fn note(&self, place: (FlowName, Partition), seen: Option<Seen>) {
        let mut state = self.lock();
        let Some(seen) = seen else {
            state.remove(&place);
            return;
        };
        let new = || Still { seen, since: Instant::now(), told: false };
        let known = state.entry(place.clone()).or_insert_with(new);
        if known.seen.steps != seen.steps {
            *known = new();
        }
        known.seen = seen;
        if known.since.elapsed() >= STILL_MAX && !std::mem::replace(&mut known.told, true) {
            let pending = seen.pending;
            tracing::error!(flow = %place.0, partition = %place.1, pending, "nothing is tried although events wait");
        }
    }

    /// Nobody says how a flow is: what is known of it counts no more.
    fn forget(&self, flow: &FlowName) {
        self.lock().retain(|(known, _), _| known != flow);
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
                match timeout(LAG_MAX, self.broker.lag(&flow.plan.name)).await {
                    Ok(Ok(lag)) => lag.into_iter().for_each(|lag| self.look(flow, lag, &progress)),
                    // A broker that does not answer is told of by those who need it.
                    Ok(Err(_)) | Err(_) => progress.forget(&flow.plan.name),
                }
            }
        }
    }

    fn look(&self, flow: &Flow, lag: GroupLag, progress: &Progress) {
        let name = &flow.plan.name;
        let found = self.dispatchers.get(name, &lag.partition);
        let activity = found.as_ref().map(|found| found.handle.activity.as_ref());
        let is_ours = self.alone || activity.is_some();
        let seen = Seen {
            steps: activity.map(Activity::steps),
            pending: lag.pending,
            in_hand: activity.is_some_and(Activity::has_work),
        };
        let waits = is_ours && lag.pending > 0 && !is_kept(flow, activity);
        progress.note((name.clone(), lag.partition), waits.then_some(seen));
    }
}

/// Whether there is a reason why nothing is tried: the connection, a store that takes nothing, or calls that are out, here or
/// of others who have all places at the gate.
fn is_kept(flow: &Flow, activity: Option<&Activity>) -> bool {
    let connection = flow.gate.status();
    connection.state != ConnectionState::Ok
        || connection.in_flight >= flow.gate.plan.concurrency
        || flow.unsettled.load(Ordering::Relaxed) > 0
        || activity.is_some_and(Activity::is_calling)
}

#[cfg(test)]
mod tests {
    use crossdock_core::Topic;

    use super::*;

    fn place() -> (FlowName, Partition) {
        let topic = Topic::new("orders").expect("a name");
        (FlowName::new("billing").expect("a name"), Partition { topic, number: 0 })
    }

    fn seen(steps: u64, in_hand: bool) -> Option<Seen> {
        Some(Seen { steps: Some(steps), pending: 5, in_hand })
    }

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_is_told_of_and_five_with_work_in_memory_want_another_process() {
        let progress = Progress::default();
        progress.note(place(), seen(1, true));
        after(59).await;
        progress.note(place(), seen(2, true));
        after(59).await;
        progress.note(place(), seen(2, true));
        assert!(progress.stalled().is_empty(), "something happened");
        after(1).await;
        assert_eq!(progress.stalled().len(), 1);
        after(239).await;
        assert!(progress.stuck().is_empty(), "not yet");
        after(1).await;
        assert_eq!(progress.stuck().len(), 1);
        progress.note(place(), seen(3, true));
        assert!(progress.stalled().is_empty() && progress.stuck().is_empty(), "it goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_in_the_broker_alone_wants_no_other_process() {
        let progress = Progress::default();
        progress.note(place(), seen(1, false));
        after(3600).await;
        assert!(progress.stuck().is_empty() && progress.stalled().len() == 1);
        progress.forget(&place().0);
        assert!(progress.stalled().is_empty(), "nobody says how it is");
    }
}
