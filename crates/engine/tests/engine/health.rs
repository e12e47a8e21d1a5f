//! What is told of a worker that does not do its work, and what of one that cannot help it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    ConnectionState, Event, Outbox, OutboxLog, OutboxReader, OutboxStatus, PublishError, Published,
    StoreError, Topic,
};
use crossdock_engine::{Hub, Roles, Stores};
use crossdock_testkit::{ManualClock, OutboxRows};

use crate::rig::{Options, Rig, event, ok};

const SECOND: Duration = Duration::from_secs(1);
const NONE: [String; 0] = [];

async fn publish(rig: &Rig, name: &str, count: usize) {
    rig.publish((0..count).map(|n| (format!("{name}{n}"), "k"))).await;
}

fn arrived(rig: &Rig) -> usize {
    rig.remote.counts().len()
}

async fn problems(hub: &Hub) -> Vec<String> {
    hub.status().await.expect("a status").problems
}

#[track_caller]
fn assert_one(problems: &[String], says: &str) {
    assert!(problems.len() == 1 && problems[0].contains(says), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_stands_still_is_told_of_until_it_goes_on() {
    let rig = Rig::new(Options::default()).await;
    rig.wait(SECOND).await;
    rig.broker.refuse(true);
    rig.broker.break_now();
    rig.wait(SECOND).await;
    publish(&rig, "e", 5).await;
    rig.wait(45 * SECOND).await;
    assert_eq!(rig.hub.stalled(), Vec::<String>::new(), "not yet");
    rig.wait(60 * SECOND).await;
    let status = rig.hub.status().await.expect("a status");
    assert!(
        status.problems.iter().any(|problem| problem.contains("stands still at orders/0: 5 events")),
        "{status:?}"
    );
    rig.wait(600 * SECOND).await;
    assert_eq!(rig.hub.broken(), Vec::<String>::new(), "another process would be refused as well");
    rig.broker.refuse(false);
    rig.until("it goes on", async || rig.hub.status().await.expect("a status").state == "running").await;
    rig.set_connection(ConnectionState::Paused).await;
    publish(&rig, "later", 5).await;
    rig.wait(600 * SECOND).await;
    assert_eq!(rig.hub.stalled(), Vec::<String>::new(), "a closed connection is a reason");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_say_how_far_a_flow_is_is_told_of_and_the_rest_is_shown() {
    let rig = Rig::new(Options::default()).await;
    publish(&rig, "e", 5).await;
    rig.until("all arrived", async || arrived(&rig) == 5).await;
    rig.broker.silence(true);
    let status = rig.hub.status().await.expect("a status all the same");
    assert_eq!((status.state, status.delivered), ("degraded", 5));
    assert!(status.problems[0].starts_with("the broker does not say how far flow billing is"), "{status:?}");
    rig.broker.silence(false);
    assert_eq!(rig.hub.status().await.expect("a status").state, "running");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_minutes_is_no_standstill() {
    let rig = Rig::new(Options::default()).await;
    rig.remote.answers(|_| (580 * SECOND, Ok(())));
    publish(&rig, "e", 3).await;
    rig.wait(570 * SECOND).await;
    assert_eq!((rig.hub.stalled().as_slice(), rig.hub.broken().as_slice()), (&NONE[..], &NONE[..]));
    rig.remote.answers(|_| ok());
    rig.until("all arrive", async || arrived(&rig) == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_says_nothing_breaks_no_worker() {
    let rig = Rig::new(Options::default()).await;
    rig.broker.refuse(true);
    rig.broker.break_now();
    rig.wait(SECOND).await;
    publish(&rig, "e", 3).await;
    rig.wait(30 * SECOND).await;
    rig.broker.silence(true);
    rig.wait(3600 * SECOND).await;
    assert_eq!((rig.hub.stalled().as_slice(), rig.hub.broken().as_slice()), (&NONE[..], &NONE[..]));
    assert_eq!(rig.hub.unready(), None, "events are taken in");
    assert_one(&problems(&rig.hub).await, "the broker does not say how far flow billing is");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_ended_by_an_error_of_ours_wants_another_process() {
    let rig = Rig::new(Options::default()).await;
    rig.wait(SECOND).await;
    assert_eq!(rig.hub.broken(), NONE);
    rig.broker.panic_now();
    rig.wait(SECOND).await;
    assert_eq!(rig.hub.broken(), ["flow billing has stopped by an error of ours"]);
    assert_one(&problems(&rig.hub).await, "flow billing has stopped by an error of ours: restart the hub");
    rig.hub.stop(SECOND).await;
    assert_eq!(rig.hub.broken(), NONE, "a hub that stops is not broken");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_nothing_in_is_ready_once_its_flows_have_joined() {
    let rig = Rig::new(Options::default()).await;
    assert!(rig.hub.stop(20 * SECOND).await);
    let rows = Arc::new(OutboxRows::new(Arc::new(ManualClock::new())));
    let stores = Stores { outbox: rows.clone(), outbox_log: Some(rows), ..rig.stores() };
    rig.broker.refuse(true);
    let takes = rig.worker_on(stores.clone(), Roles { deliver: false, ..Roles::default() }).await;
    let delivers = rig.worker_on(stores, Roles { ingest: false, ..Roles::default() }).await;
    assert_eq!((takes.unready(), delivers.unready().is_some()), (None, true));
    rig.broker.refuse(false);
    rig.until("it has joined", async || delivers.unready().is_none()).await;
    rig.broker.refuse(true);
    rig.broker.break_now();
    rig.wait(SECOND).await;
    assert_eq!(delivers.unready().as_deref(), Some("flow billing has not joined its topics"));
    assert_eq!((takes.unready(), delivers.broken().as_slice()), (None, &NONE[..]));
}

/// An outbox whose relay side panics as long as it is told to.
struct Panics(OutboxRows, AtomicBool);

#[async_trait]
impl OutboxLog for Panics {
    async fn claim(&self) -> Result<Option<Box<dyn OutboxReader>>, StoreError> {
        assert!(!self.1.load(Ordering::SeqCst), "the test wants a panic");
        self.0.claim().await
    }

    async fn status(&self) -> Result<OutboxStatus, StoreError> {
        self.0.status().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_does_nothing_but_panic_wants_another_process() {
    let rig = Rig::new(Options::default()).await;
    let rows = OutboxRows::new(Arc::new(ManualClock::new()));
    let outbox = Arc::new(Panics(rows.clone(), AtomicBool::new(true)));
    let stores = Stores { outbox: Arc::new(rows), outbox_log: Some(outbox.clone()), ..rig.stores() };
    let hub = rig.worker_on(stores, Roles { deliver: false, ..Roles::default() }).await;
    rig.wait(2 * SECOND).await;
    assert_eq!(hub.broken(), NONE, "not at once");
    rig.wait(60 * SECOND).await;
    assert_eq!(hub.broken(), ["the relay of the outbox has stopped by an error of ours"]);
    assert_one(
        &problems(&hub).await,
        "the relay of the outbox has stopped by an error of ours: restart the hub",
    );
    outbox.1.store(false, Ordering::SeqCst);
    rig.until("it works after all", async || hub.broken().is_empty()).await;
}

/// An outbox that is full as long as it is told to be.
#[derive(Default)]
struct Full(AtomicBool);

#[async_trait]
impl Outbox for Full {
    async fn append(&self, _: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let answer =
            || if self.0.load(Ordering::SeqCst) { Err(PublishError::Busy) } else { Ok(Published::New(None)) };
        events.iter().map(|_| answer()).collect()
    }

    fn refusal(&self) -> Option<String> {
        self.0.load(Ordering::SeqCst).then(|| "10 events wait for the relay".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_is_full_is_told_of_as_long_as_it_is() {
    let rig = Rig::new(Options::default()).await;
    let outbox = Arc::new(Full::default());
    let stores = Stores { outbox: outbox.clone(), ..rig.stores() };
    let hub = rig.worker_on(stores, Roles { deliver: false, ..Roles::default() }).await;
    assert_eq!(problems(&hub).await, NONE);
    outbox.0.store(true, Ordering::SeqCst);
    let answers = hub.publish("orders", vec![event("e0", "k")]).await.expect("answers");
    assert_eq!(answers, [Err(PublishError::Busy)]);
    assert_one(&problems(&hub).await, "intake is stopped: 10 events wait for the relay");
    outbox.0.store(false, Ordering::SeqCst);
    assert_eq!(problems(&hub).await, NONE, "by itself, before another event comes");
}
