//! Committing what is finished.
//!
//! The broker answers what a member asks in order. While a member waits for the others in a rebalance, a commit waits behind
//! that question, and is then refused: the generation that it names is over. So commits have a thread that waits for each
//! answer; what was refused goes with the next one. (librdkafka tells nobody what became of a commit that is not waited for.)

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{Ledger, ledger::METADATA_MAX, positions::commit_list, rebalance::MemberContext, shared::End};

/// How long partitions that are about to go are kept for a commit that is refused.
const INSIST: Duration = Duration::from_secs(3);
/// How long it is waited after a commit that was refused.
const AGAIN: Duration = Duration::from_millis(50);

/// The commits of a member, one at a time.
pub(super) struct Commits {
    state: Mutex<State>,
    changed: Condvar,
    /// The most bytes of metadata that the broker takes.
    metadata_max: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// What is to be committed next.
    waiting: Option<Vec<Arc<Ledger>>>,
    under_way: bool,
    closed: bool,
}

impl Default for Commits {
    fn default() -> Self {
        let metadata_max = AtomicUsize::new(METADATA_MAX);
        Self { state: Mutex::default(), changed: Condvar::new(), metadata_max }
    }
}

impl Commits {
    /// Starts the thread that commits for a consumer. It ends when this is dropped, and keeps no consumer alive while it waits.
    pub(super) fn start(consumer: &Arc<BaseConsumer<MemberContext>>) -> std::io::Result<Closing> {
        let (commits, consumer) = (consumer.context().commits.clone(), Arc::downgrade(consumer));
        let served = commits.clone();
        thread::Builder::new().name("kafka-commits".to_owned()).spawn(move || served.serve(&consumer))?;
        Ok(Closing(commits))
    }

    fn serve(&self, consumer: &Weak<BaseConsumer<MemberContext>>) {
        while let Some(ledgers) = self.next() {
            if let Some(consumer) = consumer.upgrade() {
                // Told by the context; it is committed again.
                let _ = consumer.context().commit(&consumer, &ledgers);
            }
            self.state().under_way = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Vec<Arc<Ledger>>> {
        let mut state = self.state();
        while !state.closed {
            if let Some(ledgers) = state.waiting.take() {
                state.under_way = true;
                return Some(ledgers);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Commits what is finished in these, once no earlier commit is under way.
    pub(super) fn ask(&self, ledgers: Vec<Arc<Ledger>>) {
        if !ledgers.is_empty() {
            self.state().waiting = Some(ledgers);
            self.changed.notify_all();
        }
    }

    /// Takes back what was asked for and has not begun.
    pub(super) fn withdraw(&self) {
        self.state().waiting = None;
    }

    /// Whether nothing is asked for or under way.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.waiting.is_none() && !state.under_way
    }

    /// Waits for what is under way, but no longer than until then.
    fn settle_down(&self, until: Instant) {
        let mut state = self.state();
        while state.under_way {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the thread when it is dropped.
pub(super) struct Closing(Arc<Commits>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

impl MemberContext {
    /// Commits what is finished and not committed yet, and waits for the answer.
    fn commit(&self, consumer: &BaseConsumer<Self>, ledgers: &[Arc<Ledger>]) -> Result<(), KafkaError> {
        if self.shared.ending() == Some(End::Severed) {
            return Ok(());
        }
        let max = self.commits.metadata_max.load(Ordering::Relaxed);
        let (mut carried, mut places) = (Vec::new(), Vec::new());
        for ledger in ledgers {
            if let Some((mark, metadata)) = ledger.take_unsaved(max) {
                places.push((ledger.partition.clone(), mark, metadata));
                carried.push(ledger);
            }
        }
        if carried.is_empty() {
            return Ok(());
        }
        let committed = consumer.commit(&commit_list(&self.topics, places), CommitMode::Sync);
        match &committed {
            Ok(()) => self.context.health.answered(),
            Err(error) => {
                carried.into_iter().for_each(|ledger| ledger.unsave());
                self.refused(error);
            }
        }
        committed
    }

    fn refused(&self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetMetadataTooLarge) {
            tracing::warn!(
                target: "crossdock_kafka",
                "the broker takes no metadata with a commit (offset.metadata.max.bytes): events finished out of order may come again"
            );
            self.commits.metadata_max.store(0, Ordering::Relaxed);
        }
        let group = self.group.as_str();
        tracing::debug!(target: "crossdock_kafka", group, %error, "a commit was refused; it is sent again");
    }

    /// Commits what is finished in partitions that are about to be another member's. Tries again where it is refused, for a
    /// while. Blocks.
    pub(super) fn commit_at_last(&self, consumer: &BaseConsumer<Self>, ledgers: &[Arc<Ledger>]) {
        let until = Instant::now() + INSIST;
        self.commits.settle_down(until);
        while let Err(error) = self.commit(consumer, ledgers) {
            if Instant::now() >= until || consumer.assignment_lost() {
                let (group, count) = (self.group.as_str(), ledgers.len());
                tracing::warn!(
                    target: "crossdock_kafka", group, count, %error,
                    "partitions were taken away before what is finished in them could be committed: their last events come again"
                );
                return;
            }
            thread::sleep(AGAIN);
        }
    }
}
