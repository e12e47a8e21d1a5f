//! A hub with its API on a free port, and clients that are as rude as needed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crossdock_api::ApiOptions;
use crossdock_codec::CloudEvents;
use crossdock_core::{ConnectionName, EventLog, PageRequest, SystemClock, Topic};
use crossdock_engine::{ConnectionPlan, Hub, Plan, Roles, Stores};
use crossdock_testkit::{Disk, Memory, Setup};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::fake::{Moody, Vendor};

/// How long anything may take that happens by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running API.
pub struct Server {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<()>,
    client: Client,
}

impl Server {
    /// An API in front of a hub.
    pub async fn of(hub: Arc<Hub>, options: ApiOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let router = crossdock_api::router(hub, Arc::new(CloudEvents), options.clone());
        let served = tokio::spawn(crossdock_api::serve(listener, router, options, shutdown.clone()));
        let client = Client::builder().timeout(PATIENCE).no_proxy().build().expect("a client");
        Self { address, shutdown, served, client }
    }

    /// A request to a path.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path).send().await.expect("an answer")).await
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        Reply::of(self.request(method, path).json(body).send().await.expect("an answer")).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, body).await
    }

    /// Posts events in a media type.
    pub async fn publish(&self, media_type: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request =
            self.request(Method::POST, "/v1/topics/orders/events").header("content-type", media_type);
        Reply::of(request.body(body).send().await.expect("an answer")).await
    }

    /// A connection of its own, to be used byte by byte.
    pub async fn connect(&self) -> Raw {
        Raw { stream: TcpStream::connect(self.address).await.expect("a connection"), read: Vec::new() }
    }
}

/// Two connections that take webhooks, one topic, no flow.
pub fn plan() -> Plan {
    let connection = |name: &str| {
        Arc::new(ConnectionPlan {
            name: ConnectionName::new(name).expect("a name"),
            connector: "vendor".to_owned(),
            connection: Arc::new(Vendor),
            concurrency: 8,
            circuit: None,
        })
    };
    Plan {
        flows: Vec::new(),
        connections: vec![connection("shop"), connection("tracker")],
        topics: vec![orders()],
    }
}

fn orders() -> Topic {
    Topic::new("orders").expect("a name")
}

/// An API on a store in memory.
pub struct Bench {
    pub server: Server,
    pub hub: Arc<Hub>,
    pub store: Arc<Moody>,
}

impl std::ops::Deref for Bench {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(ApiOptions::default()).await
    }

    pub async fn with(options: ApiOptions) -> Self {
        let memory = Memory::open(Disk::default(), &setup());
        let store = Arc::new(Moody::new(memory.clone()));
        let stores = stores(&store);
        let hub = Hub::start(plan(), Arc::new(memory), stores, Arc::new(SystemClock), Roles::default());
        let hub = hub.await.expect("a hub");
        Self { server: Server::of(hub.clone(), options).await, hub, store }
    }

    /// The data of every event that was taken, the oldest first.
    pub async fn taken(&self) -> Vec<String> {
        let page = EventLog::list(&self.store.memory, None, PageRequest::first(1000))
            .await
            .expect("the store reads");
        let mut taken = Vec::new();
        for listed in page.items.iter().rev() {
            let found = self.store.memory.find(&listed.id).await.expect("the store reads");
            let whole = found.iter().find(|logged| logged.position == listed.position);
            taken.push(String::from_utf8_lossy(&whole.expect("it is found").event.data).into_owned());
        }
        taken
    }

    /// What people did: who, why, and to how many.
    pub fn acts(&self) -> Vec<(String, String, u64)> {
        self.store.memory.audit().into_iter().map(|(act, _, count)| (act.actor, act.reason, count)).collect()
    }
}

pub fn setup() -> Setup {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    Setup {
        partitions: 1,
        topics: vec![orders(), Topic::new("in.shop").expect("a name")],
        groups: Vec::new(),
        event_bytes_max: 2 << 20,
        queue_events_max: 1000,
        dedupe_window: DAY,
        retention: DAY,
        clock: Arc::default(),
    }
}

pub fn stores(store: &Arc<Moody>) -> Stores {
    let memory = Arc::new(store.memory.clone());
    Stores {
        outbox: store.clone(),
        outbox_log: None,
        settlements: memory.clone(),
        held: memory.clone(),
        dead_letters: memory.clone(),
        replays: memory,
        connections: store.clone(),
        event_log: store.clone(),
        shared: false,
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("a body") }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body of a problem, after a look at what every problem must have.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:crossdock:problem:{kind}"), "{problem}");
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for field in ["title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
        }
        problem
    }
}

/// A connection that is used byte by byte.
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("it takes bytes");
    }

    /// Sends as long as the other side takes it.
    pub async fn send_until_refused(&mut self, bytes: &[u8], times: usize) {
        for _ in 0..times {
            if self.stream.write_all(bytes).await.is_err() {
                return;
            }
        }
    }

    /// Sends something again and again, until the other side closes the connection; gives back what it answered. Fails if
    /// it never does.
    pub async fn drip(mut self, bytes: &[u8], every: Duration) -> String {
        let read = async {
            loop {
                match timeout(every, self.stream.read_buf(&mut self.read)).await {
                    Ok(Ok(0) | Err(_)) => return String::from_utf8_lossy(&self.read).into_owned(),
                    Ok(Ok(_)) => {}
                    // It may be closed by now, which the next read sees.
                    Err(_) => drop(self.stream.write_all(bytes).await),
                }
            }
        };
        timeout(PATIENCE, read).await.expect("it is closed, whatever comes in")
    }

    /// Reads until an answer with a body of known length is there.
    pub async fn answer(&mut self) -> String {
        let read = async {
            loop {
                if let Some(answer) = self.complete() {
                    return answer;
                }
                let count = self.stream.read_buf(&mut self.read).await.expect("it can be read");
                assert!(count > 0, "closed after {}", String::from_utf8_lossy(&self.read));
            }
        };
        timeout(PATIENCE, read).await.expect("an answer in time")
    }

    fn complete(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.read).into_owned();
        let (head, _) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let end = head.len() + 4 + length;
        (self.read.len() >= end).then(|| {
            self.read.drain(..end);
            text[..end].to_owned()
        })
    }

    /// Reads to the end of the connection.
    pub async fn rest(mut self) -> String {
        let read = async {
            while self.stream.read_buf(&mut self.read).await.is_ok_and(|count| count > 0) {}
            String::from_utf8_lossy(&self.read).into_owned()
        };
        timeout(PATIENCE, read).await.expect("it is closed in time")
    }
}
