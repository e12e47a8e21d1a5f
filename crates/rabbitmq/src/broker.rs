//! The broker port.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Broker, BrokerError, Checkpoints, Event, Group, GroupLag, Leases, Partition, PublishError, Published,
    Subscription, Topic, chain,
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    RabbitOptions,
    consume::{Hand, Member, Peers, ShardWith, Shared, Subscriber},
    error::unavailable,
    link::Link,
    names::Names,
    publish::{LANES, Lane, Limits, Line, Surroundings},
    registry::Registry,
    topology::Desk,
};

/// How long after an event has found no queue all of them are made anew, and how often at most. A queue that is made again in the
/// moment in which it is deleted is given to the consumers of the old one, who get nothing of it (seen with 3.10); within a
/// second they are told that it is gone, and make it themselves.
const REPAIR_AFTER: Duration = Duration::from_secs(1);
const REPAIR_EVERY: Duration = Duration::from_secs(5);

/// RabbitMQ. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct RabbitMq {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Arc<RabbitOptions>,
    pub(crate) names: Names,
    pub(crate) registry: Arc<Registry>,
    pub(crate) checkpoints: Arc<dyn Checkpoints>,
    /// For all but publishing.
    pub(crate) link: Arc<Link>,
    pub(crate) line: Arc<Line>,
    publishing: Arc<Link>,
    leases: Arc<dyn Leases>,
    pub(crate) runtime: Handle,
    lives: Mutex<Lives>,
}

/// What runs.
#[derive(Default)]
struct Lives {
    closed: bool,
    members: Vec<Life>,
    tasks: Vec<JoinHandle<()>>,
    peers: HashMap<Group, Arc<Peers>>,
}

/// A member of a group.
struct Life {
    group: Group,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl RabbitMq {
    /// Makes ready what is needed, in the runtime from which it is called; connects when it is used first, and again whenever
    /// the connection is lost. `leases` share the shards between workers, `checkpoints` tell new groups from those
    /// that were there before.
    pub fn open(options: RabbitOptions, leases: Arc<dyn Leases>, checkpoints: Arc<dyn Checkpoints>) -> Self {
        let (options, runtime) = (Arc::new(options), Handle::current());
        let names = Names::new(&options.prefix);
        let registry = Arc::new(Registry::default());
        let line = Arc::new(Line::new());
        let publishing = Link::new("publishing", options.clone(), runtime.clone());
        let link = Link::new("consuming", options.clone(), runtime.clone());
        let (unrouted, repairs) = mpsc::unbounded_channel();
        let with = Arc::new(Surroundings {
            line: line.clone(),
            link: publishing.clone(),
            names: names.clone(),
            registry: registry.clone(),
            limit: options.publish_timeout,
            unrouted,
        });
        let lanes = (0..LANES).map(|number| runtime.spawn(Lane::new(number, with.clone()).run()));
        let lives = Mutex::new(Lives { tasks: lanes.collect(), ..Lives::default() });
        let inner = Arc::new(Inner {
            options,
            names,
            registry,
            checkpoints,
            link,
            line,
            publishing,
            leases,
            runtime,
            lives,
        });
        // Ends with the lanes, which alone hold the other side.
        inner.runtime.spawn(repair(Arc::downgrade(&inner), repairs));
        Self { inner }
    }

    /// Ends everything in order: what was published is confirmed, members leave their groups with what is finished
    /// acknowledged, subscriptions end with [`BrokerError::Closed`]. What takes longer than `within` is cut off; nothing is lost
    /// by that, and some events come again.
    pub async fn close(&self, within: Duration) {
        let until = Instant::now() + within;
        let (members, tasks) = {
            let mut lives = self.inner.lives();
            lives.closed = true;
            (std::mem::take(&mut lives.members), std::mem::take(&mut lives.tasks))
        };
        self.inner.line.close();
        members.iter().for_each(|member| member.shared.close());
        for mut task in members.into_iter().map(|member| member.task).chain(tasks) {
            if timeout_at(until, &mut task).await.is_err() {
                task.abort();
            }
        }
        let _ = timeout_at(until.max(Instant::now() + Duration::from_secs(1)), async {
            tokio::join!(self.inner.link.close(), self.inner.publishing.close())
        })
        .await;
    }
}

/// Binds queues anew when events find none.
async fn repair(inner: std::sync::Weak<Inner>, mut topics: mpsc::UnboundedReceiver<Topic>) {
    while let Some(topic) = topics.recv().await {
        tracing::error!(
            %topic,
            "an event found no queue, though flows read its topic: somebody has removed bindings or queues; they are made anew"
        );
        sleep(REPAIR_AFTER).await;
        let Some(inner) = inner.upgrade() else { return };
        for group in inner.registry.groups_of(&topic) {
            if let Err(error) = inner.make_queues(&group, std::slice::from_ref(&topic)).await {
                tracing::warn!(%group, %topic, error = chain(&error), "queues could not be made anew");
            }
        }
        drop(inner);
        sleep(REPAIR_EVERY).await;
        // What was said in the meantime was said of the state before.
        while topics.try_recv().is_ok() {}
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.line.close();
        self.lives().members.iter().for_each(|member| member.shared.close());
    }
}

impl Inner {
    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn partitions(&self, topics: &[Topic]) -> Vec<Partition> {
        self.registry.all_partitions(topics, self.options.partitions)
    }

    /// What the members in this process have in hand of a shard.
    pub(crate) fn hands(&self, group: &Group, partition: &Partition) -> Vec<Arc<Hand>> {
        let lives = self.lives();
        let members = lives.members.iter().filter(|member| member.group == *group);
        members.filter_map(|member| member.shared.hand(partition)).collect()
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), BrokerError> {
        let mut desk = Desk::new(self.link.clone());
        for topic in topics {
            let found = desk.has_exchange(&self.names.exchange(topic)).await;
            if !found.map_err(|error| unavailable("looking for a topic", error))? {
                return Err(BrokerError::UnknownTopic(topic.clone()));
            }
        }
        self.make_queues(group, topics).await.map_err(|error| unavailable("joining a group", error))?;
        self.registry.join(group, topics);
        Ok(())
    }

    fn join(&self, group: &Group, topics: &[Topic]) -> Result<Arc<Shared>, BrokerError> {
        let shared = Shared::new();
        let mut lives = self.lives();
        if lives.closed {
            return Err(BrokerError::Closed);
        }
        lives.members.retain(|member| !member.task.is_finished());
        let member = Member {
            group: group.clone(),
            worker: uuid::Uuid::now_v7().to_string(),
            partitions: self.partitions(topics),
            leases: self.leases.clone(),
            ttl: self.options.lease_ttl,
            shared: shared.clone(),
            peers: lives.peers.entry(group.clone()).or_default().clone(),
            with: Arc::new(ShardWith {
                link: self.link.clone(),
                names: self.names.clone(),
                prefetch: self.options.prefetch,
            }),
        };
        let task = self.runtime.spawn(member.run());
        lives.members.push(Life { group: group.clone(), shared: shared.clone(), task });
        Ok(shared)
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let inner = &self.inner;
        let shards = inner.registry.partitions(topic, inner.options.partitions);
        let limits = Limits {
            event_bytes: inner.options.event_bytes_max,
            frame_bytes: inner.publishing.frame_bytes(),
        };
        inner.line.publish(topic, shards, limits, events).await
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), BrokerError> {
        if self.inner.lives().closed {
            return Err(BrokerError::Closed);
        }
        self.inner.begin(group, topics).await
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        self.begin(group, topics).await?;
        Ok(Box::new(Subscriber(self.inner.join(group, topics)?)))
    }

    async fn lag(&self, group: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        self.inner.lag(group).await
    }
}
