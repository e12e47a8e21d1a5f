//! What a subscription and its member share: signals, and the shards that are owned.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use crossdock_core::{BrokerError, Partition, Signal, Subscription};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Hand;

/// Between the engine and the member.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// Somebody wants the member to leave its group.
    pub(crate) leave: CancellationToken,
}

#[derive(Default)]
struct State {
    signals: VecDeque<Signal>,
    hands: BTreeMap<Partition, Arc<Hand>>,
    paused: BTreeSet<Partition>,
    /// The shard that was given from last: the next one is looked at first.
    last: Option<Partition>,
    closed: bool,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Notify::new(), leave: CancellationToken::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shards are ours from now on.
    pub(crate) fn assign(&self, hands: &[Arc<Hand>]) {
        let mut state = self.state();
        let partitions: Vec<_> = hands.iter().map(|hand| hand.partition.clone()).collect();
        state.hands.extend(hands.iter().map(|hand| (hand.partition.clone(), hand.clone())));
        state.signals.push_back(Signal::Assigned(partitions));
        drop(state);
        self.changed.notify_one();
    }

    /// Something is said to the engine about shards that are about to be taken away; nothing more of them is given.
    pub(crate) fn revoke(&self, partitions: &[Partition], signal: Signal) {
        let mut state = self.state();
        for partition in partitions {
            state.hands.remove(partition);
            state.paused.remove(partition);
        }
        state.signals.push_back(signal);
        drop(state);
        self.changed.notify_one();
    }

    /// There may be something to give.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// The broker is closed.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.leave.cancel();
        self.changed.notify_one();
    }

    /// The shard, if it is owned.
    pub(crate) fn hand(&self, partition: &Partition) -> Option<Arc<Hand>> {
        self.state().hands.get(partition).cloned()
    }

    fn next(&self) -> Option<Result<Signal, BrokerError>> {
        let mut state = self.state();
        if state.closed {
            return Some(Err(BrokerError::Closed));
        }
        if let Some(signal) = state.signals.pop_front() {
            return Some(Ok(signal));
        }
        state.batch().map(Ok)
    }
}

impl State {
    /// The next batch; shards take turns.
    fn batch(&mut self) -> Option<Signal> {
        let is_before = |partition: &Partition| self.last.as_ref().is_some_and(|last| partition <= last);
        let (before, behind): (Vec<_>, Vec<_>) =
            self.hands.iter().partition(|(partition, _)| is_before(partition));
        let turns = behind.into_iter().chain(before);
        let mut ready = turns.filter(|(partition, _)| !self.paused.contains(partition));
        let batch = ready.find_map(|(_, hand)| hand.give())?;
        self.last = Some(batch.partition.clone());
        Some(Signal::Batch(batch))
    }
}

/// The engine's side of a membership. Dropping it leaves the group, in the background.
pub(crate) struct Subscriber(pub(crate) Arc<Shared>);

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.leave.cancel();
    }
}

#[async_trait]
impl Subscription for Subscriber {
    async fn next(&mut self) -> Result<Signal, BrokerError> {
        loop {
            if let Some(next) = self.0.next() {
                return next;
            }
            // A permit that was left before counts, so nothing is missed in between.
            self.0.changed.notified().await;
        }
    }

    fn pause(&mut self, partition: &Partition) {
        let mut state = self.0.state();
        if state.hands.contains_key(partition) {
            state.paused.insert(partition.clone());
        }
    }

    fn resume(&mut self, partition: &Partition) {
        self.0.state().paused.remove(partition);
        self.0.wake();
    }
}
