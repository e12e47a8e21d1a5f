//! A place of its own for each test: a prefix, and runtimes that can be cut off.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use crossdock_core::{Group, Topic};
use crossdock_rabbitmq::{RabbitMq, RabbitOptions, TopicShape, Wanted};
use crossdock_testkit::{Disk, ManualClock, Memory, Setup, services};
use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use std::sync::Arc;
use tokio::runtime::Runtime;

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
            memory: Memory::open(Disk::default(), &no_setup()),
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let rabbit = {
            let _context = runtime.enter();
            RabbitMq::open(options, Arc::new(self.memory.clone()), Arc::new(self.memory.clone()))
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
