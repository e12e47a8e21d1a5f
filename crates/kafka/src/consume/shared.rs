//! What the member thread and the subscription share: the partitions that are ours, and what is to be said.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crossdock_core::{
    Batch, BrokerError, Delivery, Event, Offset, Partition, Position, Revocation, Settle, Signal,
};
use rdkafka::{
    consumer::base_consumer::PartitionQueue,
    error::{KafkaError, RDKafkaErrorCode},
    message::Message,
};
use tokio::sync::{Notify, watch};

use super::{Ledger, rebalance::MemberContext};
use crate::record;

/// The most deliveries in one batch.
const BATCH_MAX: usize = 512;

/// Why a member ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The subscription was dropped.
    Left,
    /// The broker is closed.
    Closed,
    /// As if the process were killed: nothing more is committed. For tests.
    Severed,
}

/// A partition that is ours.
pub(crate) struct Owned {
    pub(crate) ledger: Arc<Ledger>,
    settle: Arc<dyn Settle>,
    queue: PartitionQueue<MemberContext>,
    /// The offset that is expected next.
    next: Offset,
    paused: bool,
    /// Read, and had no room in the last batch.
    stash: Option<(Offset, Event)>,
    /// What the broker last said against reading it.
    complaint: Option<RDKafkaErrorCode>,
}

impl Owned {
    pub(crate) fn new(ledger: Arc<Ledger>, queue: PartitionQueue<MemberContext>) -> Self {
        let next = ledger.completed().mark();
        let settle: Arc<dyn Settle> = ledger.clone();
        Self { ledger, settle, queue, next, paused: false, stash: None, complaint: None }
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.ledger.partition
    }

    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// The next deliveries, at once. An error if the place that we stand at is gone.
    fn read(&mut self) -> Result<Option<Batch>, PlaceLost> {
        let (mut deliveries, mut weight) = (Vec::new(), 0);
        while deliveries.len() < BATCH_MAX {
            let read = match self.stash.take() {
                Some(read) => Some(read),
                None => self.take()?,
            };
            let Some((offset, event)) = read else { break };
            weight += event.weight();
            if weight > Batch::BYTES_MAX && !deliveries.is_empty() {
                self.stash = Some((offset, event));
                break;
            }
            let position = self.position(offset);
            deliveries.push(Delivery::new(Arc::new(event), position, self.settle.clone()));
        }
        let partition = self.partition().clone();
        Ok((!deliveries.is_empty()).then_some(Batch { partition, deliveries }))
    }

    fn position(&self, offset: Offset) -> Position {
        let Partition { topic, number } = self.partition();
        Position { topic: topic.clone(), partition: *number, offset }
    }

    /// The next record that is not finished.
    fn take(&mut self) -> Result<Option<(Offset, Event)>, PlaceLost> {
        loop {
            let message = match self.queue.poll(Duration::ZERO) {
                None => return Ok(None),
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    complain(&self.ledger.partition, &mut self.complaint, &error)?;
                    continue;
                }
            };
            self.complaint = None;
            let offset = u64::try_from(message.offset()).map_err(|_| PlaceLost)?;
            if offset < self.next {
                // The log was cut, or made anew under its old name.
                return Err(PlaceLost);
            }
            if offset > self.next {
                self.ledger.skip(self.next, offset);
            }
            self.next = offset + 1;
            if !self.ledger.completed().contains(offset) {
                let Partition { topic, number } = &self.ledger.partition;
                let position = Position { topic: topic.clone(), partition: *number, offset };
                return Ok(Some((offset, record::event(&message, &position))));
            }
        }
    }
}

/// The place in a partition is gone: the consumer is made anew, and begins where its group's position says.
struct PlaceLost;

/// Logs what the broker says against reading a partition, once.
fn complain(
    partition: &Partition,
    last: &mut Option<RDKafkaErrorCode>,
    error: &KafkaError,
) -> Result<(), PlaceLost> {
    let code = error.rdkafka_error_code();
    if matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) {
        return Err(PlaceLost);
    }
    if *last != code {
        tracing::warn!(target: "crossdock_kafka", %partition, %error, "a partition cannot be read");
        *last = code;
    }
    Ok(())
}

struct State {
    owned: Vec<Owned>,
    /// The partition to look at first, so that each gets its turn.
    first: usize,
    signals: VecDeque<Signal>,
    end: Option<End>,
    /// When the group must have been left, as far as somebody waits for it.
    leaves_by: Option<Instant>,
    rebuild: bool,
    /// Since when nothing has come, and when somebody last asked.
    idle: Option<Instant>,
    asked: Instant,
}

/// A member as both sides see it.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) news: Arc<Notify>,
    ended: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let state = State {
            owned: Vec::new(),
            first: 0,
            signals: VecDeque::new(),
            end: None,
            leaves_by: None,
            rebuild: false,
            idle: None,
            asked: Instant::now(),
        };
        Self { state: Mutex::new(state), news: Arc::default(), ended: watch::Sender::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to say, at once.
    pub(crate) fn take(&self) -> Result<Option<Signal>, BrokerError> {
        let mut state = self.state();
        if state.end.is_some() {
            return Err(BrokerError::Closed);
        }
        state.asked = Instant::now();
        if let Some(signal) = state.signals.pop_front() {
            return Ok(Some(signal));
        }
        let batch = state.read();
        state.idle = if batch.is_some() { None } else { state.idle.or_else(|| Some(Instant::now())) };
        Ok(batch.map(Signal::Batch))
    }

    pub(crate) fn set_paused(&self, partition: &Partition, paused: bool) {
        let mut state = self.state();
        let found = state.owned.iter_mut().find(|owned| owned.partition() == partition);
        if let Some(owned) = found {
            owned.paused = paused;
            self.news.notify_one();
        }
    }

    /// These are ours from now on.
    pub(crate) fn add(&self, owned: Vec<Owned>) {
        if owned.is_empty() {
            return;
        }
        let mut state = self.state();
        let partitions = owned.iter().map(|owned| owned.partition().clone()).collect();
        state.owned.extend(owned);
        state.signals.push_back(Signal::Assigned(partitions));
        state.idle = None;
        self.news.notify_one();
    }

    /// These are ours no more: nothing is read from them, and whoever asks is told. What they have finished is returned,
    /// with what resolves when the engine has let go.
    pub(crate) fn remove(&self, partitions: &[Partition]) -> (Vec<Arc<Ledger>>, Option<LetGo>) {
        let mut state = self.state();
        let (gone, kept) = std::mem::take(&mut state.owned)
            .into_iter()
            .partition::<Vec<_>, _>(|owned| partitions.contains(owned.partition()));
        state.owned = kept;
        if gone.is_empty() {
            return (Vec::new(), None);
        }
        let names = gone.iter().map(|owned| owned.partition().clone()).collect();
        let (revocation, let_go) = Revocation::new(names);
        state.signals.push_back(Signal::Revoked(revocation));
        self.news.notify_one();
        // The engine is not waited for when it is gone.
        let let_go = state.end.is_none().then_some(let_go);
        (gone.into_iter().map(|owned| owned.ledger).collect(), let_go)
    }

    /// What is ours: each partition with its progress, the offset that is expected next, and whether it is paused.
    pub(crate) fn owned(&self) -> Vec<(Arc<Ledger>, Offset, bool)> {
        let state = self.state();
        state.owned.iter().map(|owned| (owned.ledger.clone(), owned.next(), owned.is_paused())).collect()
    }

    /// Ends the member. The first reason counts.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        // Whoever waits for the engine to let go of something need not wait any longer.
        state.signals.clear();
        self.news.notify_one();
    }

    /// Tells a member that ends when it must have left its group.
    pub(crate) fn hurry(&self, until: Instant) {
        self.state().leaves_by = Some(until);
    }

    /// When the group must have been left.
    pub(crate) fn leaves_by(&self) -> Option<Instant> {
        self.state().leaves_by
    }

    pub(crate) fn ending(&self) -> Option<End> {
        self.state().end
    }

    /// Asks for a new consumer.
    pub(crate) fn want_rebuild(&self) {
        self.state().rebuild = true;
    }

    pub(crate) fn take_rebuild(&self) -> bool {
        std::mem::take(&mut self.state().rebuild)
    }

    /// How long somebody has been waiting for a batch that does not come.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let state = self.state();
        let asks = state.asked.elapsed() < Duration::from_secs(2);
        state.idle.filter(|_| asks).map(|since| since.elapsed())
    }

    /// Begins to count anew how long nothing has come.
    pub(crate) fn forget_idle(&self) {
        self.state().idle = None;
    }

    /// The thread has ended.
    pub(crate) fn set_ended(&self) {
        self.ended.send_replace(true);
    }

    /// Resolves when the thread has ended.
    pub(crate) async fn ended(&self) {
        // The sender lives in `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// Resolves when the engine has let go of what is taken away.
pub(crate) type LetGo = futures::channel::oneshot::Receiver<()>;

impl State {
    /// The next batch of any partition that has one, each in its turn.
    fn read(&mut self) -> Option<Batch> {
        let count = self.owned.len();
        for step in 0..count {
            let index = (self.first + step) % count;
            let owned = &mut self.owned[index];
            if owned.paused {
                continue;
            }
            match owned.read() {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    self.first = index + 1;
                    return Some(batch);
                }
                Err(PlaceLost) => {
                    let partition = owned.partition();
                    tracing::warn!(target: "crossdock_kafka", %partition, "the place in a partition is gone; reading begins anew");
                    self.rebuild = true;
                }
            }
        }
        None
    }
}
