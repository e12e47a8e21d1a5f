//! What the relay itself costs: pages that are there already, and a broker that takes everything at once.
//!
//! `cargo run --release -p crossdock-engine --example relay`

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{
    Broker, BrokerError, Event, Group, GroupLag, OutboxEvent, OutboxLog, OutboxPage, OutboxReader,
    OutboxStatus, PageMark, PublishError, Published, RefusedEvent, StoreError, Subscription, SystemClock,
    Topic,
};
use crossdock_engine::{Hub, Plan, Roles, Stores};
use crossdock_testkit::{Disk, ManualClock, Memory, Setup};

const PAGES: usize = 100;
const EVENTS: u64 = (PAGES * OutboxPage::EVENTS_MAX) as u64;
static DATA: [u8; 512] = [b'x'; 512];

/// Pages that were made before.
#[derive(Clone, Default)]
struct Ready {
    pages: Arc<Mutex<VecDeque<OutboxPage>>>,
    advanced: Arc<AtomicU64>,
}

impl Ready {
    fn fill(&self, topic: &Topic) {
        let mut pages = self.pages.lock().expect("no holder of this lock panics");
        for page in 0..PAGES {
            let events =
                (0..OutboxPage::EVENTS_MAX).map(|n| outbox_event(topic, page * OutboxPage::EVENTS_MAX + n));
            let (events, mark) = (events.collect(), page as PageMark + 1);
            pages.push_back(OutboxPage { mark, events, malformed: Vec::new(), more: true });
        }
    }
}

fn outbox_event(topic: &Topic, number: usize) -> OutboxEvent {
    let event = Event {
        id: format!("018f3f1e-8f6a-7c3a-9a51-{number:012}"),
        source: "/outbox".to_owned(),
        kind: "order.paid".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some(format!("order-{}", number % 10_000)),
        extensions: Vec::new(),
        data: Bytes::from_static(&DATA),
    };
    OutboxEvent { seq: number as i64 + 1, topic: topic.clone(), event }
}

#[async_trait]
impl OutboxLog for Ready {
    async fn claim(&self) -> Result<Option<Box<dyn OutboxReader>>, StoreError> {
        Ok(Some(Box::new(self.clone())))
    }

    async fn status(&self) -> Result<OutboxStatus, StoreError> {
        Ok(OutboxStatus { reader: None, waiting: 0, oldest_at: None, gaps: 0, refused: 0 })
    }
}

#[async_trait]
impl OutboxReader for Ready {
    async fn read(&self) -> Result<OutboxPage, StoreError> {
        let next = self.pages.lock().expect("no holder of this lock panics").pop_front();
        let none = OutboxPage { mark: u64::MAX, events: Vec::new(), malformed: Vec::new(), more: false };
        Ok(next.unwrap_or(none))
    }

    async fn advance(&self, mark: PageMark, _: Vec<RefusedEvent>) -> Result<(), StoreError> {
        self.advanced.store(mark, Ordering::Release);
        Ok(())
    }

    async fn renew(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Takes everything at once.
struct Nowhere;

#[async_trait]
impl Broker for Nowhere {
    async fn publish(&self, _: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        vec![Ok(Published::New(None)); events.len()]
    }

    async fn subscribe(&self, _: &Group, _: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        Err(BrokerError::Closed)
    }

    async fn lag(&self, _: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        Ok(Vec::new())
    }
}

fn stores(outbox: Ready) -> Stores {
    let setup = Setup {
        partitions: 1,
        topics: Vec::new(),
        groups: Vec::new(),
        event_bytes_max: 1 << 20,
        queue_events_max: 1000,
        dedupe_window: Duration::from_secs(60),
        retention: Duration::from_secs(60),
        clock: Arc::new(ManualClock::new()),
    };
    let memory = Arc::new(Memory::open(Disk::default(), &setup));
    Stores {
        outbox: memory.clone(),
        outbox_log: Some(Arc::new(outbox)),
        settlements: memory.clone(),
        held: memory.clone(),
        dead_letters: memory.clone(),
        replays: memory.clone(),
        connections: memory.clone(),
        event_log: memory,
        shared: false,
    }
}

/// The time from the start of the hub until the last page was advanced.
async fn relay(outbox: Ready) -> Duration {
    let plan = Plan { flows: Vec::new(), connections: Vec::new(), topics: Vec::new() };
    let began = Instant::now();
    let hub =
        Hub::start(plan, Arc::new(Nowhere), stores(outbox.clone()), Arc::new(SystemClock), Roles::default());
    let hub = hub.await.expect("the hub starts");
    while outbox.advanced.load(Ordering::Acquire) < PAGES as u64 {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let took = began.elapsed();
    assert!(hub.stop(Duration::from_secs(10)).await);
    took
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let topic = Topic::new("orders").expect("a name");
    for round in 1..=5 {
        let outbox = Ready::default();
        let began = Instant::now();
        outbox.fill(&topic);
        let made = began.elapsed();
        let took = relay(outbox).await;
        let per_event = |took: Duration| took.as_nanos() as f64 / EVENTS as f64;
        println!(
            "round {round}: {EVENTS} events, {:.0} ns each to relay (to make one: {:.0} ns), {:.1} million/s",
            per_event(took),
            per_event(made),
            1000.0 / per_event(took)
        );
    }
}
