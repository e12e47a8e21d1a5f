//! Partitions that move: what a worker does with those that come, go, and come again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Adopted, Batch, Broker, BrokerError, Class, Delivery, Event, FlowName, Group, GroupLag, HeldEvent,
    HeldEvents, HeldId, LetterState, Offset, Partition, Position, PublishError, Published, Revocation,
    Settle, Signal, StoreError, Subscription, Topic,
};
use crossdock_engine::{Hub, Roles, Stores};
use crossdock_testkit::Memory;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use crate::rig::{Options, Rig, event, fault, flow, ok, topic};

const SECOND: Duration = Duration::from_secs(1);

/// Publishes events `e0`, `e1`… of eight keys in turn.
async fn publish(hub: &Hub, numbers: std::ops::Range<usize>) {
    let events = numbers.map(|n| event(&format!("e{n}"), &format!("k{}", n % 8))).collect();
    let published = hub.publish("orders", events).await.expect("the topic is there");
    assert!(published.iter().all(Result::is_ok));
}

fn partition() -> Partition {
    Partition { topic: topic(), number: 0 }
}

/// A broker that says what the test wants it to say.
struct Told {
    signals: mpsc::UnboundedSender<Signal>,
    heard: Mutex<Option<mpsc::UnboundedReceiver<Signal>>>,
    joined: AtomicUsize,
}

impl Told {
    fn new() -> Arc<Self> {
        let (signals, heard) = mpsc::unbounded_channel();
        Arc::new(Self { signals, heard: Mutex::new(Some(heard)), joined: AtomicUsize::new(0) })
    }

    fn says(&self, signal: Signal) {
        assert!(self.signals.send(signal).is_ok(), "the subscription is there");
    }

    /// Hands out an event, which has the same id wherever it comes again.
    fn gives(&self, offset: Offset) {
        let event = Arc::new(event(&format!("e{offset}"), &format!("k{offset}")));
        let position = Position { topic: topic(), partition: 0, offset };
        let deliveries = vec![Delivery::new(event, position, Arc::new(Nobody))];
        self.says(Signal::Batch(Batch { partition: partition(), deliveries }));
    }

    fn takes_away(&self) {
        // It does not wait for the end of the work, as a broker that has lost its member does not.
        self.says(Signal::Revoked(Revocation::new(vec![partition()]).0));
    }
}

struct Nobody;

impl Settle for Nobody {
    fn complete(&self, _: Offset) {}
}

#[async_trait]
impl Broker for Told {
    async fn publish(&self, _: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        events.into_iter().map(|_| Ok(Published::New(None))).collect()
    }

    async fn subscribe(&self, _: &Group, _: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        self.joined.fetch_add(1, Ordering::SeqCst);
        let heard = self.heard.lock().expect("no panic").take();
        let away = || BrokerError::Unavailable { doing: "joining", source: "it joins once".into() };
        heard.map(|heard| Box::new(Ears(heard)) as Box<dyn Subscription>).ok_or_else(away)
    }

    async fn lag(&self, _: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        Ok(Vec::new())
    }
}

struct Ears(mpsc::UnboundedReceiver<Signal>);

#[async_trait]
impl Subscription for Ears {
    async fn next(&mut self) -> Result<Signal, BrokerError> {
        self.0.recv().await.ok_or(BrokerError::Closed)
    }

    fn pause(&mut self, _: &Partition) {}

    fn resume(&mut self, _: &Partition) {}
}

/// Held events of the memory, whose adoption does not answer on command.
struct Hesitant {
    memory: Memory,
    hesitates: AtomicBool,
    asked: AtomicUsize,
    goes_on: Notify,
}

impl Hesitant {
    fn new(memory: &Memory) -> Arc<Self> {
        let (hesitates, asked) = (AtomicBool::new(true), AtomicUsize::new(0));
        Arc::new(Self { memory: memory.clone(), hesitates, asked, goes_on: Notify::new() })
    }

    fn go_on(&self) {
        self.hesitates.store(false, Ordering::SeqCst);
        self.goes_on.notify_waiters();
    }
}

#[async_trait]
impl HeldEvents for Hesitant {
    async fn adopt(&self, flow: &FlowName, partition: &Partition) -> Result<Adopted, StoreError> {
        let goes_on = self.goes_on.notified();
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hesitates.load(Ordering::SeqCst) {
            goes_on.await;
        }
        self.memory.adopt(flow, partition).await
    }

    async fn due(
        &self,
        flow: &FlowName,
        partition: &Partition,
        until: Timestamp,
        after: Option<(Timestamp, HeldId)>,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        self.memory.due(flow, partition, until, after, limit).await
    }

    async fn behind(
        &self,
        flow: &FlowName,
        partition: &Partition,
        key_hash: u64,
        after: HeldId,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        self.memory.behind(flow, partition, key_hash, after, limit).await
    }

    async fn count(&self, flow: &FlowName) -> Result<(u64, Option<Timestamp>), StoreError> {
        HeldEvents::count(&self.memory, flow).await
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<HeldEvent>, StoreError> {
        self.memory.of_event(position).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_on_its_way_out_takes_nothing_from_the_one_after_it() {
    let rig = Rig::new(Options::default()).await;
    assert!(rig.hub.stop(20 * SECOND).await);
    let broker = Told::new();
    let hub = rig.worker_of(broker.clone(), rig.stores(), Roles::default()).await;
    // The first call of the first event is out when its partition goes and comes again, and what it came to is refused then.
    rig.remote.answers(|call| match (call.event.as_str(), call.nth) {
        ("e0", 1) => (8 * SECOND, fault(Class::Rejected).1),
        _ => ok(),
    });
    broker.says(Signal::Assigned(vec![partition()]));
    broker.gives(0);
    rig.until_called(1).await;
    broker.takes_away();
    broker.says(Signal::Assigned(vec![partition()]));
    broker.gives(0);
    broker.gives(1);
    rig.until_called(3).await;
    rig.wait(60 * SECOND).await;
    assert_eq!(rig.letters(LetterState::Open).await, 0, "it was refused");
    broker.gives(2);
    rig.until_called(4).await;
    assert_eq!(broker.joined.load(Ordering::SeqCst), 1, "the flow has stayed in its group");
    assert!(hub.stop(20 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_goes_before_it_was_taken_over_is_let_go_at_once_and_never_taken_over() {
    let rig = Rig::new(Options { partitions: 4, shared: true, ..Options::default() }).await;
    rig.wait(SECOND).await;
    assert!(rig.hub.stop(20 * SECOND).await);
    let held = Hesitant::new(&rig.memory);
    let slow = rig.worker_on(Stores { held: held.clone(), ..rig.stores() }, Roles::default()).await;
    rig.until("it wants all partitions", async || held.asked.load(Ordering::SeqCst) >= 4).await;
    let began = tokio::time::Instant::now();
    let second = rig.worker(Roles::default()).await;
    publish(&second, 0..48).await;
    let delivered = async || second.status().await.expect("a status").delivered;
    rig.until("the second one has its share", async || delivered().await > 0).await;
    assert!(began.elapsed() < 2 * SECOND, "after {:?}", began.elapsed());
    let share = delivered().await;
    // Now the store answers: for what the first one still has, and for nothing else.
    held.go_on();
    rig.until("all arrived", async || rig.remote.counts().len() == 48).await;
    publish(&second, 48..96).await;
    rig.until("all arrived", async || rig.remote.counts().len() == 96).await;
    rig.wait(60 * SECOND).await;
    assert_eq!(rig.remote.calls().len(), 96, "nobody was fenced: nothing comes twice");
    assert!(share > 0 && delivered().await < 96, "both have some");
    // Each partition was taken over by the first hub of the test, and once by whoever has it.
    for number in 0..4 {
        let adopted = rig.memory.adopt(&flow(), &Partition { topic: topic(), number }).await;
        assert_eq!(adopted.expect("the memory answers").owner.epoch, 3, "partition {number}");
    }
    assert!(slow.stop(20 * SECOND).await && second.stop(20 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_a_partition_wait_until_it_is_taken_over() {
    let rig = Rig::new(Options { partitions: 2, ..Options::default() }).await;
    assert!(rig.hub.stop(20 * SECOND).await);
    let held = Hesitant::new(&rig.memory);
    let hub = rig.worker_on(Stores { held: held.clone(), ..rig.stores() }, Roles::default()).await;
    // More than the inbox of a dispatcher has room for.
    for n in 0..40 {
        publish(&hub, n * 10..n * 10 + 10).await;
        rig.wait(SECOND / 10).await;
    }
    assert_eq!(rig.remote.calls().len(), 0);
    held.go_on();
    rig.until("all arrived", async || rig.remote.calls().len() == 400).await;
    for key in 0..8 {
        let numbers =
            rig.remote.calls().into_iter().map(|call| call.event[1..].parse::<usize>().expect("a number"));
        let of_key: Vec<_> = numbers.filter(|number| number % 8 == key).collect();
        assert!(of_key.is_sorted(), "the order of a key: {of_key:?}");
    }
    assert!(hub.stop(20 * SECOND).await);
}
