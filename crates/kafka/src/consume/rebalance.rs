//! What happens when partitions come and go. Runs on the member's thread, inside librdkafka's poll.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossdock_core::{Completed, Group, Partition, Topic};
use rdkafka::{
    ClientContext, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};

use super::{
    Ledger, Shared,
    commit::Commits,
    positions::{Starts, commit_list},
    shared::{LetGo, Owned},
};
use crate::{KafkaOptions, client::Context, topics::Topics};

/// How long the engine may take to let go of partitions: longer than it lets calls go on that are out.
const LET_GO_MAX: Duration = Duration::from_secs(12);

/// What a member's consumer knows.
pub(crate) struct MemberContext {
    pub(super) options: KafkaOptions,
    pub(super) context: Context,
    pub(super) topics: Arc<Topics>,
    pub(super) group: Group,
    pub(super) reads: Vec<Topic>,
    pub(super) shared: Arc<Shared>,
    /// The consumer that this belongs to; gone while it is being closed.
    pub(super) consumer: OnceLock<Weak<BaseConsumer<Self>>>,
    pub(super) commits: Arc<Commits>,
    /// What the engine has let go of before the group is left, as long as it is ours.
    leaving: Mutex<Vec<Arc<Ledger>>>,
    /// How often partitions came or went.
    rebalances: AtomicUsize,
}

impl MemberContext {
    pub(super) fn new(
        options: &KafkaOptions,
        context: &Context,
        topics: &Arc<Topics>,
        group: &Group,
        reads: &[Topic],
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            options: options.clone(),
            context: context.clone(),
            topics: topics.clone(),
            group: group.clone(),
            reads: reads.to_vec(),
            shared: shared.clone(),
            consumer: OnceLock::new(),
            commits: Arc::default(),
            leaving: Mutex::default(),
            rebalances: AtomicUsize::new(0),
        }
    }

    /// The partitions of a list that we read.
    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let partition = |topic: &str, number: i32| {
            let topic = self.topics.of_name(&self.reads, topic)?.clone();
            Some(Partition { topic, number: u32::try_from(number).ok()? })
        };
        list.elements().iter().filter_map(|place| partition(place.topic(), place.partition())).collect()
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = self.partitions(list);
        let starts = Starts {
            options: &self.options,
            context: &self.context,
            topics: &self.topics,
            consumer,
            group: &self.group,
        };
        let placed = match (partitions.is_empty(), self.consumer.get().and_then(Weak::upgrade)) {
            // Nothing came, or the consumer is being closed.
            (true, _) | (_, None) => Ok((TopicPartitionList::new(), Vec::new())),
            (false, Some(whole)) => {
                starts.find(&partitions).map(|found| self.place(&whole, &partitions, found))
            }
        };
        let (list, owned) = placed.unwrap_or_else(|error| {
            let (group, error) = (self.group.as_str(), crossdock_core::chain(&error));
            tracing::warn!(target: "crossdock_kafka", group, error, "partitions came, and not where to begin; joining again");
            self.shared.want_rebuild();
            (TopicPartitionList::new(), Vec::new())
        });
        match consumer.incremental_assign(&list) {
            Ok(()) => {
                let (group, count) = (self.group.as_str(), owned.len());
                tracing::info!(target: "crossdock_kafka", group, count, "partitions assigned");
                self.shared.add(owned);
            }
            Err(error) => {
                tracing::warn!(target: "crossdock_kafka", group = self.group.as_str(), %error, "partitions could not be taken");
                self.shared.want_rebuild();
            }
        }
    }

    /// Gives each partition its own queue, before fetching begins: librdkafka leaves a queue alone that the application has
    /// taken, so no record goes astray (`RD_KAFKA_Q_F_FWD_APP`).
    fn place(
        &self,
        consumer: &Arc<BaseConsumer<Self>>,
        partitions: &[Partition],
        starts: Vec<Completed>,
    ) -> (TopicPartitionList, Vec<Owned>) {
        let mut owned = Vec::with_capacity(partitions.len());
        for (partition, completed) in partitions.iter().zip(starts) {
            let name = self.topics.name(&partition.topic);
            let Some(mut queue) = consumer.split_partition_queue(&name, crate::topics::number(partition))
            else {
                self.shared.want_rebuild();
                continue;
            };
            let news = self.shared.news.clone();
            queue.set_nonempty_callback(move || news.notify_one());
            owned.push(Owned::new(Arc::new(Ledger::new(partition.clone(), completed)), queue));
        }
        let places = owned.iter().map(|owned| (owned.partition().clone(), owned.next(), String::new()));
        (commit_list(&self.topics, places), owned)
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        // Partitions that are lost may be another member's already.
        let lost = consumer.assignment_lost();
        let partitions = self.partitions(list);
        let (mut ledgers, let_go) = self.shared.remove(&partitions);
        // Nobody commits what is another member's from now on.
        self.commits.withdraw();
        ledgers.extend(self.leaving_list().extract_if(.., |ledger| partitions.contains(&ledger.partition)));
        if !ledgers.is_empty() {
            let (group, count) = (self.group.as_str(), ledgers.len());
            tracing::info!(target: "crossdock_kafka", group, count, lost, "partitions revoked");
        }
        if !lost {
            wait(let_go);
            self.commit_at_last(consumer, &ledgers);
        }
        if let Err(error) = give_up(consumer, list) {
            let group = self.group.as_str();
            tracing::warn!(target: "crossdock_kafka", group, %error, "partitions could not be given up; joining again");
            self.shared.want_rebuild();
        }
    }

    /// Takes everything away from the engine, before the group is left.
    pub(super) fn let_all_go(&self) {
        let partitions: Vec<_> =
            self.shared.owned().iter().map(|(ledger, ..)| ledger.partition.clone()).collect();
        let (ledgers, let_go) = self.shared.remove(&partitions);
        self.leaving_list().extend(ledgers);
        wait(let_go);
    }

    /// What the engine has let go of, and is still ours.
    pub(super) fn leaving(&self) -> Vec<Arc<Ledger>> {
        self.leaving_list().clone()
    }

    fn leaving_list(&self) -> MutexGuard<'_, Vec<Arc<Ledger>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often partitions came or went, or nothing did in a rebalance.
    pub(super) fn rebalances(&self) -> usize {
        self.rebalances.load(Ordering::Relaxed)
    }
}

impl ClientContext for MemberContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.rebalances.fetch_add(1, Ordering::Relaxed);
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list);
        } else {
            self.revoke(consumer, list);
        }
    }
}

/// Gives up what was taken of a list: nothing of it, if it was not known where to begin. Librdkafka takes an answer for what
/// it has, and waits for one.
fn give_up(consumer: &BaseConsumer<MemberContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    let (taken, mut ours) = (consumer.assignment()?, TopicPartitionList::new());
    for place in list.elements() {
        if taken.find_partition(place.topic(), place.partition()).is_some() {
            ours.add_partition(place.topic(), place.partition());
        }
    }
    consumer.incremental_unassign(&ours)
}

/// Waits until the engine has let go, and not for ever.
fn wait(let_go: Option<LetGo>) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let Some(let_go) = let_go else { return };
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut let_go, until) = (pin!(let_go), Instant::now() + LET_GO_MAX);
    // A revocation that is dropped lets go as well.
    while let_go.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tracing::warn!(target: "crossdock_kafka", "partitions were taken away before their work had stopped");
            return;
        }
        thread::park_timeout(left);
    }
}
