//! The broker port.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use crossdock_core::{
    Broker, BrokerError, Checkpoints, Event, Group, GroupLag, Partition, PublishError, Published,
    Subscription, Topic,
};
use futures::{channel::oneshot, future::join_all};
use tokio::time::timeout;

use crate::{
    KafkaError, KafkaOptions,
    client::{self, Context, Health},
    consume::{self, End, KafkaSubscription, Member, Shared},
    error::unavailable,
    publish::{Batch, Line, Sender},
    topics::Topics,
};
mod lag;

/// How long what was taken may wait for its acknowledgement once the broker is closed.
const ACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// How long a question to the cluster may take in all.
const ASK_MAX: Duration = Duration::from_secs(25);

/// Kafka as the hub's broker. Cheap to clone; all clones are one.
///
/// Opening asks nobody: a cluster that is down is waited for by whoever publishes or subscribes. Ended by [`Kafka::close`].
#[derive(Clone)]
pub struct Kafka {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: KafkaOptions,
    pub(crate) context: Context,
    pub(crate) topics: Arc<Topics>,
    line: Arc<Line>,
    sender: Mutex<Option<oneshot::Receiver<()>>>,
    checkpoints: Arc<dyn Checkpoints>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    list: Vec<(Group, Vec<Topic>, Weak<Shared>)>,
    closed: bool,
}

impl Kafka {
    /// Makes the clients. `checkpoints` tell a group that is new from one whose position the broker has lost.
    pub fn open(options: KafkaOptions, checkpoints: Arc<dyn Checkpoints>) -> Result<Self, KafkaError> {
        let version = client::librdkafka().map_err(KafkaError::Client)?;
        tracing::info!(target: "crossdock_kafka", servers = options.servers, librdkafka = version, "kafka");
        let context = Context::new(&options, Arc::new(Health::default()));
        let topics = Arc::new(Topics::new(&options, context.clone())?);
        let line = Arc::new(Line::default());
        let sender = Sender::start(&options, context.clone(), line.clone(), topics.clone())?;
        let (sender, members) = (Mutex::new(Some(sender)), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { options, context, topics, line, sender, checkpoints, members }) })
    }

    /// Ends it in an orderly way: nothing is taken any more, what was taken is acknowledged or given back, members commit
    /// what is finished and leave their groups. Returns when all of that is done, or after the time; then the threads that
    /// still wait for a server are left to themselves.
    ///
    /// It is done within a second as a rule. Where a rebalance is under way, members wait until it is over, since their commits
    /// are refused before: at the most for the session time-out, if another member was killed. With a cluster that does not
    /// answer it takes some five seconds.
    pub async fn close(&self, within: Duration) {
        let until = Instant::now() + within;
        self.inner.line.close(Instant::now() + within.min(ACKNOWLEDGED_MAX));
        let sender = self.inner.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let members = self.inner.end_members(End::Closed);
        members.iter().for_each(|member| member.hurry(until));
        let all = async {
            join_all(members.iter().map(|member| member.ended())).await;
            if let Some(sender) = sender {
                // The thread that told has ended.
                let _ = sender.await;
            }
        };
        if timeout(within + Duration::from_millis(500), all).await.is_err() {
            tracing::warn!(target: "crossdock_kafka", "kafka did not answer while it was being closed");
        }
    }

    /// Ends it as a killed process would: nothing more is committed. For tests.
    #[doc(hidden)]
    pub async fn sever(&self) {
        self.inner.line.close(Instant::now());
        let members = self.inner.end_members(End::Severed);
        // A server that is away is the business of the test.
        let _ = timeout(ASK_MAX, join_all(members.iter().map(|member| member.ended()))).await;
    }

    /// How many producers this process has made: one for each opening, and one for each producer that died.
    #[doc(hidden)]
    pub fn producers_made() -> usize {
        crate::publish::producers_made()
    }
}

impl Inner {
    fn end_members(&self, end: End) -> Vec<Arc<Shared>> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.closed = true;
        let alive: Vec<_> = members.list.drain(..).filter_map(|(.., member)| member.upgrade()).collect();
        alive.iter().for_each(|member| member.end(end));
        alive
    }

    fn is_closed(&self) -> bool {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Asks the cluster on a thread that may block, and no longer than it makes sense.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        question: impl FnOnce(&Self) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let inner = self.clone();
        let asked = tokio::task::spawn_blocking(move || question(&inner));
        match timeout(ASK_MAX, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panicked)) => Err(unavailable(doing, panicked)),
            Err(late) => Err(unavailable(doing, late)),
        }
    }

    /// Every partition of the topics.
    pub(crate) fn partitions(&self, topics: &[Topic]) -> Result<Vec<Partition>, BrokerError> {
        let found = self.topics.partitions(topics);
        let found = found.map_err(|error| unavailable("looking for topics", error))?;
        found.map_err(BrokerError::UnknownTopic)
    }

    /// Lets a group begin in the topics that it has never read. Returns the partitions of all of them.
    async fn begin(self: &Arc<Self>, group: &Group, topics: &[Topic]) -> Result<Vec<Partition>, BrokerError> {
        if self.is_closed() {
            return Err(BrokerError::Closed);
        }
        let asked = topics.to_vec();
        let partitions = self.ask("looking for topics", move |inner| inner.partitions(&asked)).await?;
        let remembering = |error| unavailable("remembering where a group begins", error);
        let begun = self.checkpoints.begun(group).await.map_err(remembering)?;
        let new: Vec<_> =
            partitions.iter().filter(|partition| !begun.contains(&partition.topic)).cloned().collect();
        if new.is_empty() {
            return Ok(partitions);
        }
        let mut topics: Vec<_> = new.iter().map(|partition| partition.topic.clone()).collect();
        topics.dedup();
        let name = self.group_name(group);
        self.ask("beginning a group", move |inner| {
            consume::begin(&inner.options, &inner.context, &inner.topics, &name, &new)
                .map_err(|error| unavailable("beginning a group", error))
        })
        .await?;
        self.checkpoints.begin(group, &topics).await.map_err(remembering)?;
        Ok(partitions)
    }

    /// The group's name in Kafka.
    pub(crate) fn group_name(&self, group: &Group) -> String {
        format!("{}{group}", self.options.group_prefix)
    }
}

#[async_trait]
impl Broker for Kafka {
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        if events.is_empty() {
            return Vec::new();
        }
        self.inner.line.publish(Batch::new(topic, events)).await
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), BrokerError> {
        self.inner.begin(group, topics).await.map(drop)
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        let inner = &self.inner;
        let partitions = inner.begin(group, topics).await?;
        let member = Member {
            options: inner.options.clone(),
            context: inner.context.clone(),
            topics: inner.topics.clone(),
            group: group.clone(),
            reads: topics.to_vec(),
            partitions,
        };
        let shared = Arc::new(Shared::new());
        {
            let mut members = inner.members.lock().unwrap_or_else(PoisonError::into_inner);
            if members.closed {
                return Err(BrokerError::Closed);
            }
            members.list.retain(|(.., member)| member.strong_count() > 0);
            members.list.push((group.clone(), topics.to_vec(), Arc::downgrade(&shared)));
        }
        consume::start(member, shared.clone()).map_err(|error| unavailable("joining a group", error))?;
        Ok(Box::new(KafkaSubscription { shared }))
    }

    async fn lag(&self, group: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        self.inner.lag(group).await
    }
}
