//! What the tests of this folder need.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use crossdock_core::{
    Batch, Broker, Class, ConnectionName, DeadLetter, Delivery, Event, Fault, Fingerprint, FlowName,
    LetterState, NewHeld, Outbox, Position, PublishError, Published, Signal, Subscription, Topic,
};
use crossdock_embedded::{Embedded, Options};
use crossdock_testkit::ManualClock;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long anything may take, under load.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn orders() -> Topic {
    Topic::new("orders").expect("a name")
}

pub fn billing() -> FlowName {
    FlowName::new("billing").expect("a name")
}

/// The topic `orders` with one partition, read by the group `billing`.
pub fn options() -> Options {
    Options { partitions: 1, groups: vec![(billing(), vec![orders()])], ..Options::default() }
}

pub async fn open(folder: &Path, options: Options) -> Embedded {
    open_at(folder, options, &Arc::new(ManualClock::new())).await
}

pub async fn open_at(folder: &Path, options: Options, clock: &Arc<ManualClock>) -> Embedded {
    Embedded::open(folder, options, clock.clone()).await.expect("the store opens")
}

/// An event whose data are so many bytes that do not occur elsewhere.
pub fn event(id: &str, bytes: usize) -> Event {
    let json = format!(r#"{{"id":"{id}","source":"/test","type":"order.placed","partitionkey":"k"}}"#);
    let data = Bytes::from(vec![b'~'; bytes]);
    Event { data, ..serde_json::from_str(&json).expect("an event") }
}

/// Appends one event.
pub async fn append(store: &Embedded, event: Event) -> Result<Published, PublishError> {
    let mut answers = store.append(&orders(), vec![event]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Appends one event that must be new.
pub async fn put(store: &Embedded, id: &str) {
    let answer = append(store, event(id, 10)).await;
    assert!(matches!(answer, Ok(Published::New(_))), "{id}: {answer:?}");
}

pub async fn join(store: &Embedded) -> Box<dyn Subscription> {
    store.subscribe(&billing(), &[orders()]).await.expect("the group can be joined")
}

/// The next batch; none if none comes within a moment.
pub async fn next(subscription: &mut Box<dyn Subscription>, within: Duration) -> Option<Batch> {
    loop {
        match timeout(within, subscription.next()).await {
            Ok(Ok(Signal::Batch(batch))) => return Some(batch),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => panic!("the subscription broke: {error}"),
            Err(_) => return None,
        }
    }
}

/// So many deliveries.
pub async fn deliveries(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        let batch = next(subscription, PATIENCE).await.expect("more deliveries come");
        deliveries.extend(batch.deliveries);
    }
    deliveries
}

/// Everything that is not finished, read by a new member.
pub async fn unfinished(store: &Embedded) -> BTreeSet<String> {
    let (mut subscription, mut ids) = (join(store).await, BTreeSet::new());
    while let Some(batch) = next(&mut subscription, Duration::from_millis(100)).await {
        ids.extend(batch.deliveries.iter().map(|delivery| delivery.event.id.clone()));
    }
    ids
}

/// Waits until something is so, for what happens in the background.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a statement in the file, past the store.
pub async fn sql(folder: &Path, statement: &'static str) {
    use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
    let options = SqliteConnectOptions::new().filename(folder.join("crossdock.db"));
    let options = options.busy_timeout(Duration::from_secs(5));
    let mut connection = options.connect().await.expect("the file opens");
    sqlx::query(statement).execute(&mut connection).await.expect("the statement runs");
    connection.close().await.expect("the file closes");
}

/// The only number that a query has for an answer, asked past the store.
pub async fn number(folder: &Path, query: &'static str) -> i64 {
    use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
    let options = SqliteConnectOptions::new().filename(folder.join("crossdock.db")).read_only(true);
    let mut connection = options.connect().await.expect("the file opens");
    let number = sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a number");
    connection.close().await.expect("the file closes");
    number
}

/// A delivery to be held as the head of a key of its own, with so many bytes of data.
pub fn held(offset: u64, bytes: usize) -> NewHeld {
    NewHeld {
        flow: billing(),
        position: Position { topic: orders(), partition: 0, offset },
        key: Some(offset.to_string()),
        key_hash: offset,
        event: Arc::new(event(&format!("held-{offset}"), bytes)),
        attempts: Vec::new(),
        tried: 1,
        first_tried_at: None,
        due: Some(Timestamp::UNIX_EPOCH),
        replay: None,
    }
}

/// An open dead letter.
pub fn letter(offset: u64, bytes: usize, at: Timestamp) -> DeadLetter {
    let (flow, connection) = (billing(), ConnectionName::new("crm").expect("a name"));
    let fault = Fault { status: Some(422), ..Fault::new(Class::Rejected, "never") };
    DeadLetter {
        id: format!("d{offset:026}"),
        state: LetterState::Open,
        group: Fingerprint::of(&flow, "call", &connection, "post", &fault).group(),
        flow,
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position: Position { topic: orders(), partition: 0, offset },
        key: None,
        event: Arc::new(event(&format!("dead-{offset}"), bytes)),
        request: None,
        idempotency_key: offset.to_string(),
        class: fault.class,
        status: fault.status,
        code: None,
        message: fault.message,
        reason: "it is refused".to_owned(),
        advice: None,
        attempts: Vec::new(),
        failed_at: at,
        replays: 0,
    }
}
