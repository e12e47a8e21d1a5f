//! A writer outside the hub, with its own ledger of what was accepted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use serde_json::json;
use tokio::task::JoinHandle;

/// What was accepted: per key the highest sequence that was answered with 202. Each key counts from 1 without gaps, so
/// this number is the whole ledger.
pub type Accepted = BTreeMap<String, u64>;

/// Writes numbered events of several keys to a topic, one after the other within a key. An event that was not answered,
/// or refused for the moment, is sent again with the same id until it is accepted, as the promise asks of a source.
pub struct Writer {
    url: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<Accepted>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Begins to write. `url` may be changed while it writes, since a hub that starts again may have another port.
    pub fn start(url: &str, topic: &str, keys: usize, pause: Duration) -> Self {
        let writer = Self {
            url: Arc::new(Mutex::new(url.to_owned())),
            stop: Arc::new(AtomicBool::new(false)),
            accepted: Arc::default(),
            tasks: Vec::new(),
        };
        let client = Client::new();
        let task = |n: usize| {
            let key = Key {
                name: format!("k{n}"),
                topic: topic.to_owned(),
                url: writer.url.clone(),
                stop: writer.stop.clone(),
                accepted: writer.accepted.clone(),
                client: client.clone(),
            };
            tokio::spawn(key.write(pause))
        };
        let tasks = (0..keys).map(task).collect();
        Self { tasks, ..writer }
    }

    /// Where the hub is now.
    pub fn moved_to(&self, url: &str) {
        url.clone_into(&mut self.url.lock().expect("no holder of this lock panics"));
    }

    /// How many events were accepted so far.
    pub fn count(&self) -> u64 {
        self.accepted.lock().expect("no holder of this lock panics").values().sum()
    }

    /// Finishes the event that each key is at, and gives the ledger. The hub must be up.
    pub async fn finish(self) -> Accepted {
        self.stop.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.expect("a writer does not panic");
        }
        self.accepted.lock().expect("no holder of this lock panics").clone()
    }
}

struct Key {
    name: String,
    topic: String,
    url: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<Accepted>>,
    client: Client,
}

impl Key {
    async fn write(self, pause: Duration) {
        let mut seq = 0;
        while !self.stop.load(Ordering::Acquire) {
            seq += 1;
            while !self.send(seq).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.accepted.lock().expect("no holder of this lock panics").insert(self.name.clone(), seq);
            tokio::time::sleep(pause).await;
        }
    }

    async fn send(&self, seq: u64) -> bool {
        let url = self.url.lock().expect("no holder of this lock panics").clone();
        let event = json!({
            "specversion": "1.0", "id": format!("{}-{seq}", self.name), "source": "/writer", "type": "test.written",
            "partitionkey": self.name, "data": { "key": self.name, "seq": seq },
        });
        let request = self
            .client
            .post(format!("{url}/v1/topics/{}/events", self.topic))
            .header("content-type", "application/cloudevents+json")
            .body(event.to_string())
            .timeout(Duration::from_secs(10));
        request.send().await.is_ok_and(|answer| answer.status() == 202)
    }
}
