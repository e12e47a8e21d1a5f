//! What the tests of this crate share: a Kafka of their own names on the shared server.
#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod proxy;
pub mod secured;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{
    Batch, Broker, Checkpoints, Delivery, Event, FlowName, Group, Partition, Signal, StoreError,
    Subscription, Topic,
};
use crossdock_kafka::{Kafka, KafkaOptions, TopicShape};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use tokio::time::timeout;

/// How long anything may take, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Remembers where groups have begun.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<Group, BTreeSet<Topic>>>);

#[async_trait]
impl Checkpoints for Remembered {
    async fn begun(&self, group: &Group) -> Result<Vec<Topic>, StoreError> {
        Ok(self.0.lock().expect("no test panics inside").get(group).into_iter().flatten().cloned().collect())
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), StoreError> {
        self.0
            .lock()
            .expect("no test panics inside")
            .entry(group.clone())
            .or_default()
            .extend(topics.iter().cloned());
        Ok(())
    }
}

/// Names of one test on a server: its prefix, what is remembered, and its topics, which are deleted at the end.
pub struct House {
    pub options: KafkaOptions,
    pub checkpoints: Arc<Remembered>,
    pub servers: String,
    topics: Mutex<BTreeSet<String>>,
}

impl House {
    /// On the shared server.
    pub fn shared() -> Arc<Self> {
        Self::at(&crossdock_testkit::services::kafka())
    }

    /// On a server, by its URL.
    pub fn at(url: &str) -> Arc<Self> {
        Self::with(KafkaOptions::parse(url, []).expect("the URL of a server"), url)
    }

    /// With options of its own; the URL is for deleting topics, without TLS or a login.
    pub fn with(mut options: KafkaOptions, url: &str) -> Arc<Self> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        options.topic_prefix = format!("t{name}.");
        options.group_prefix = format!("g{name}.");
        options.session_timeout = Duration::from_secs(6);
        let servers = url.trim_start_matches("kafka://").to_owned();
        Arc::new(Self { options, checkpoints: Arc::default(), servers, topics: Mutex::default() })
    }

    /// A Kafka with these topics.
    pub async fn open(&self, topics: &[&str], partitions: u32) -> Kafka {
        self.open_with(self.options.clone(), topics, partitions).await
    }

    pub async fn open_with(&self, options: KafkaOptions, topics: &[&str], partitions: u32) -> Kafka {
        let kafka = Kafka::open(options, self.checkpoints.clone()).expect("a client can be made");
        let shapes: Vec<_> = topics
            .iter()
            .map(|name| TopicShape { partitions: Some(partitions), ..TopicShape::new(topic(name)) })
            .collect();
        kafka.provision(&shapes).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let mut made = self.topics.lock().expect("no test panics inside");
        made.extend(topics.iter().map(|name| format!("{}{name}", self.options.topic_prefix)));
        kafka
    }

    /// A topic's name in Kafka.
    pub fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.options.topic_prefix)
    }

    /// A group's name in Kafka.
    pub fn group(&self, group: &str) -> String {
        format!("{}{group}", self.options.group_prefix)
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("a client can be made")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let topics = std::mem::take(&mut *self.topics.lock().expect("no test panics inside"));
        if topics.is_empty() || std::thread::panicking() {
            return;
        }
        let admin = self.admin();
        // Tests end inside a runtime, which must not be waited in.
        let deleted = std::thread::spawn(move || {
            let names: Vec<_> = topics.iter().map(String::as_str).collect();
            let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(3)));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // A server that is gone has no topics to delete.
            let _ = runtime.block_on(admin.delete_topics(&names, &options));
            std::io::Result::Ok(())
        });
        let _ = deleted.join();
    }
}

pub fn topic(name: &str) -> Topic {
    Topic::new(name).expect("tests use names")
}

pub fn flow(name: &str) -> FlowName {
    FlowName::new(name).expect("tests use names")
}

pub fn event(id: &str, key: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/test".to_owned(),
        kind: "order.placed".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some(key.to_owned()),
        extensions: Vec::new(),
        data: Bytes::from(format!("{{\"id\":\"{id}\"}}")),
    }
}

/// `key-0` to `key-n`, all of one key.
pub fn events(key: &str, numbers: std::ops::Range<usize>) -> Vec<Event> {
    numbers.map(|number| event(&format!("{key}-{number}"), key)).collect()
}

pub fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.event.id.clone()).collect()
}

pub fn ids_of(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

/// Publishes events that must all be taken.
pub async fn publish(kafka: &Kafka, name: &str, events: Vec<Event>) {
    let answers = timeout(SOON, kafka.publish(&topic(name), events)).await.expect("publish answers");
    answers.into_iter().for_each(|answer| drop(answer.expect("the event is taken")));
}

/// The next signal.
pub async fn signal(subscription: &mut Box<dyn Subscription>) -> Signal {
    let signal = timeout(SOON, subscription.next()).await.expect("something comes");
    signal.expect("the subscription goes on")
}

/// The next batch; lets go of what is revoked.
pub async fn batch(subscription: &mut Box<dyn Subscription>) -> Batch {
    loop {
        match signal(subscription).await {
            Signal::Batch(batch) => return batch,
            Signal::Assigned(_) => {}
            Signal::Revoked(revocation) => revocation.done(),
        }
    }
}

/// Deliveries until there are `count`.
pub async fn take(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    while deliveries.len() < count {
        deliveries.extend(batch(subscription).await.deliveries);
    }
    assert_eq!(deliveries.len(), count, "more came than was asked for: {deliveries:?}");
    deliveries
}

/// The first assignment.
pub async fn assigned(subscription: &mut Box<dyn Subscription>) -> Vec<Partition> {
    match signal(subscription).await {
        Signal::Assigned(partitions) => partitions,
        Signal::Batch(batch) => panic!("a batch of {} came first", batch.partition),
        Signal::Revoked(revocation) => panic!("{:?} is revoked", revocation.partitions),
    }
}

/// Asks until the answer is there.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What this process has in memory.
pub fn resident_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has one");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}
