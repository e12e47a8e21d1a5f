//! A place of its own for each test: a prefix, and runtimes that can be cut off.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod lines;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossdock_core::{Broker, Delivery, Event, Group, Leases, Signal, Subscription, Topic};
use crossdock_rabbitmq::{RabbitMq, RabbitOptions, TopicShape, Wanted};
use crossdock_testkit::{Disk, ManualClock, Memory, Setup, services};
use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use tokio::{runtime::Runtime, time::Instant};

/// What a test has at a server: names under a prefix, and a store for leases and checkpoints.
pub struct House {
    pub url: String,
    pub prefix: String,
    pub memory: Memory,
    /// Queues and exchanges to remove in the end.
    queues: Mutex<BTreeSet<String>>,
    exchanges: Mutex<BTreeSet<String>>,
}

/// RabbitMQ in a runtime of its own, which can end at any moment.
pub struct Worker {
    pub rabbit: RabbitMq,
    runtime: Option<Runtime>,
}

impl Worker {
    /// Ends it as `kill -9` does: nothing that was not written yet is written.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl House {
    /// At the server that the tests share.
    pub fn shared() -> Self {
        Self::at(services::amqp())
    }

    /// At a server of the test.
    pub fn at(url: String) -> Self {
        Self {
            url,
            prefix: format!("t{:016x}.", rand::random::<u64>()),
            memory: new_store(),
            queues: Mutex::default(),
            exchanges: Mutex::default(),
        }
    }

    pub fn options(&self, more: &[(&str, &str)]) -> RabbitOptions {
        let own = [("prefix", self.prefix.as_str()), ("lease_ttl", "2s")];
        RabbitOptions::parse(&self.url, own.into_iter().chain(more.iter().copied())).expect("options")
    }

    pub fn wanted(&self, topics: &[(&str, u32)], groups: &[(&str, &[&str])]) -> Wanted {
        let topic = |name: &str| Topic::new(name).expect("a name");
        Wanted {
            topics: topics
                .iter()
                .map(|(name, partitions)| TopicShape { topic: topic(name), partitions: Some(*partitions) })
                .collect(),
            groups: groups
                .iter()
                .map(|(group, topics)| {
                    (Group::new(group).expect("a name"), topics.iter().map(|name| topic(name)).collect())
                })
                .collect(),
        }
    }

    /// Opens it in a runtime of its own and makes what is wanted.
    pub async fn open(&self, options: RabbitOptions, wanted: &Wanted) -> Worker {
        let worker = self.open_as_it_is(options);
        self.note(wanted);
        worker.rabbit.provision(wanted).await.expect("what is there fits");
        worker
    }

    /// Opens it in a runtime of its own.
    pub fn open_as_it_is(&self, options: RabbitOptions) -> Worker {
        self.open_with(options, Arc::new(self.memory.clone()))
    }

    /// The same with leases of the test.
    pub fn open_with(&self, options: RabbitOptions, leases: Arc<dyn Leases>) -> Worker {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let rabbit = {
            let _context = runtime.enter();
            RabbitMq::open(options, leases, Arc::new(self.memory.clone()))
        };
        Worker { rabbit, runtime: Some(runtime) }
    }

    pub fn note(&self, wanted: &Wanted) {
        let prefix = &self.prefix;
        let mut exchanges = self.exchanges.lock().expect("no test panics with it");
        exchanges.extend(wanted.topics.iter().map(|shape| format!("{prefix}{}", shape.topic)));
        let mut queues = self.queues.lock().expect("no test panics with it");
        for (group, topics) in &wanted.groups {
            for topic in topics {
                let shape =
                    wanted.topics.iter().find(|shape| shape.topic == *topic).expect("a topic that is wanted");
                let shards = 0..shape.partitions.expect("it is said");
                queues.extend(shards.map(|shard| format!("{prefix}{group}.{topic}.{shard}")));
            }
        }
    }

    /// The queue of a shard.
    pub fn queue(&self, group: &str, topic: &str, shard: u32) -> String {
        format!("{}{group}.{topic}.{shard}", self.prefix)
    }

    pub fn exchange(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// Somebody else's connection.
    pub async fn stranger(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default()).await.expect("it connects")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let (url, queues) =
            (self.url.clone(), std::mem::take(&mut *self.queues.lock().expect("no test panics with it")));
        let exchanges = std::mem::take(&mut *self.exchanges.lock().expect("no test panics with it"));
        // A server of the test may be gone with all that was in it.
        let _ = std::thread::spawn(move || {
            let runtime = Runtime::new().expect("a runtime can be built");
            runtime.block_on(async {
                let tidying = tidy(&url, queues, exchanges);
                let _ = tokio::time::timeout(Duration::from_secs(10), tidying).await;
            });
            runtime.shutdown_background();
        })
        .join();
    }
}

async fn tidy(url: &str, queues: BTreeSet<String>, exchanges: BTreeSet<String>) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in queues {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in exchanges {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "OK".into()).await
}

/// Leases and checkpoints with nothing in them.
pub fn new_store() -> Memory {
    Memory::open(Disk::default(), &no_setup())
}

/// The store is used for leases and checkpoints alone, which follow no setup.
fn no_setup() -> Setup {
    Setup {
        partitions: 1,
        topics: Vec::new(),
        groups: Vec::new(),
        event_bytes_max: 1 << 20,
        queue_events_max: 1,
        dedupe_window: Duration::from_secs(1),
        retention: Duration::from_secs(1),
        clock: Arc::new(ManualClock::new()),
    }
}

pub fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a name")
}

pub fn group(name: &str) -> Group {
    Group::new(name).expect("a name")
}

/// An event `<key>-<number>` of a key.
pub fn event(key: &str, number: usize) -> Event {
    Event {
        id: format!("{key}-{number}"),
        source: "/test".to_owned(),
        kind: "order.placed".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some(key.to_owned()),
        extensions: Vec::new(),
        data: Bytes::from(format!("{{\"number\":{number}}}")),
    }
}

pub fn events(key: &str, numbers: std::ops::Range<usize>) -> Vec<Event> {
    numbers.map(|number| event(key, number)).collect()
}

/// Publishes events that must all be taken.
pub async fn publish(rabbit: &RabbitMq, name: &str, events: Vec<Event>) {
    let answers = rabbit.publish(&topic(name), events).await;
    assert!(answers.iter().all(Result::is_ok), "not all are taken: {answers:?}");
}

/// Publishes events again and again until they are all taken, as the relay does: what was not taken, and all that is behind it.
pub async fn publish_somehow(rabbit: &RabbitMq, name: &str, mut events: Vec<Event>) {
    let until = Instant::now() + Duration::from_secs(60);
    while !events.is_empty() {
        let began = Instant::now();
        let answers = rabbit.publish(&topic(name), events.clone()).await;
        assert!(began.elapsed() < Duration::from_secs(15), "a publisher waited {:?}", began.elapsed());
        let taken = answers.iter().take_while(|answer| answer.is_ok()).count();
        events.drain(..taken);
        if !events.is_empty() {
            assert!(Instant::now() < until, "the broker takes nothing: {:?}", answers[taken]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A member of a group that finishes what it is given.
pub struct Reader {
    pub subscription: Box<dyn Subscription>,
    /// The ids in the order in which they came.
    pub came: Vec<String>,
    /// How many have come.
    pub count: Arc<AtomicUsize>,
}

impl Reader {
    pub async fn join(rabbit: &RabbitMq, name: &str, topics: &[&str]) -> Self {
        let topics: Vec<_> = topics.iter().map(|name| topic(name)).collect();
        let subscription = rabbit.subscribe(&group(name), &topics).await.expect("it is joined");
        Self { subscription, came: Vec::new(), count: Arc::default() }
    }

    /// The next deliveries; what is asked back is given back.
    pub async fn batch(&mut self) -> Vec<Delivery> {
        // A broker that was killed takes up to half a minute to start.
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let next = tokio::time::timeout_at(until, self.subscription.next()).await;
            match next.expect("something comes within a minute").expect("the subscription goes on") {
                Signal::Batch(batch) => {
                    self.came.extend(batch.deliveries.iter().map(|delivery| delivery.event.id.clone()));
                    self.count.store(self.came.len(), Ordering::Relaxed);
                    return batch.deliveries;
                }
                Signal::Assigned(_) => {}
                Signal::Revoked(revocation) => revocation.done(),
            }
        }
    }

    /// So many deliveries, not finished.
    pub async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.batch().await);
        }
        taken
    }

    /// Reads and finishes until these have all come.
    pub async fn until(&mut self, wanted: impl IntoIterator<Item = Event>) {
        let mut missing: HashSet<String> = wanted.into_iter().map(|event| event.id).collect();
        self.came.iter().for_each(|id| {
            missing.remove(id);
        });
        while !missing.is_empty() {
            for delivery in self.batch().await {
                missing.remove(&delivery.event.id);
                delivery.complete();
            }
        }
    }

    /// The order of first deliveries of a key.
    pub fn firsts(&self, key: &str) -> Vec<usize> {
        let mut seen = HashSet::new();
        let firsts = self.came.iter().filter(|id| seen.insert(id.as_str()));
        firsts
            .filter_map(|id| id.rsplit_once('-'))
            .filter(|(of, _)| *of == key)
            .map(|(_, number)| number.parse().expect("a number"))
            .collect()
    }
}
