//! Every statement that the store runs finds its rows by an index: written down once, for all of them.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use crossdock_core::{
    Act, Attempt, Broker, Class, Clock, ConnectionName, ConnectionState, Connections, DeadLetter,
    DeadLetters, Event, EventLog, Fault, Fingerprint, FlowName, HeldEvents, LetterState, NewHeld, NewReplay,
    Outbox, Outcome, PageRequest, Partition, Position, ReplayState, ReplayTicket, Replays, Selection,
    Settled, Settlement, Settlements, StoredConnection, Topic, Tried,
};
use crossdock_testkit::ManualClock;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{Embedded, Options, schema};

/// What is read from one end to the other because it is small: names, runs of ids, causes of failures, replays, connections;
/// the lists of values that statements bring along; and pragmas.
const SMALL: &[&str] = &[
    "json_each",
    "pragma_",
    "partitions",
    "p",
    "flows",
    "topics",
    "seen_runs",
    "r",
    "replays",
    "failure_groups",
    "g",
    "connections",
    "CONSTANT ROW",
    "(subquery",
    "(join",
];
/// Where the answer is sorted: groups by size, the items of a new replay, sums; and what is few, the letters of one event,
/// the replays that run, and the places of one.
const SORTED: &[&str] = &[
    "ORDER BY n DESC",
    "row_number() OVER",
    "GROUP BY",
    "l.place = ?",
    "IN ('running', 'paused')",
    "SELECT DISTINCT l.flow",
];

#[derive(Default)]
struct Statements(Mutex<BTreeSet<String>>);

static STATEMENTS: OnceLock<Statements> = OnceLock::new();

/// Collects what sqlx logs.
struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut texts = Texts::default();
        event.record(&mut texts);
        let sql = if texts.statement.is_empty() { texts.summary } else { texts.statement };
        let statements = STATEMENTS.get_or_init(Statements::default);
        statements.0.lock().expect("no holder panics").insert(sql.trim().to_owned());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A short statement is logged as its own summary.
#[derive(Default)]
struct Texts {
    summary: String,
    statement: String,
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

fn orders() -> Topic {
    Topic::new("orders").expect("a name")
}

fn billing() -> FlowName {
    FlowName::new("billing").expect("a name")
}

fn position(offset: u64) -> Position {
    Position { topic: orders(), partition: 0, offset }
}

fn event(id: &str) -> Event {
    let json = format!(r#"{{"id":"{id}","source":"s","type":"t","partitionkey":"k"}}"#);
    serde_json::from_str(&json).expect("an event")
}

fn held(offset: u64) -> NewHeld {
    NewHeld {
        flow: billing(),
        position: position(offset),
        key: None,
        key_hash: 1,
        event: Arc::new(event("held")),
        attempts: Vec::new(),
        tried: 0,
        first_tried_at: None,
        due: Some(Timestamp::UNIX_EPOCH),
        replay: None,
    }
}

fn letter(offset: u64, at: Timestamp) -> DeadLetter {
    let (connection, fault) =
        (ConnectionName::new("crm").expect("a name"), Fault::new(Class::Rejected, "no"));
    DeadLetter {
        id: format!("d{offset}"),
        state: LetterState::Open,
        group: Fingerprint::of(&billing(), "call", &connection, "post", &fault).group(),
        flow: billing(),
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position: position(offset),
        key: None,
        event: Arc::new(event("dead")),
        request: None,
        idempotency_key: String::new(),
        class: fault.class,
        status: None,
        code: None,
        message: fault.message,
        reason: String::new(),
        advice: None,
        attempts: Vec::<Attempt>::new(),
        failed_at: at,
        replays: 0,
    }
}

fn act() -> Act {
    Act { actor: "ada".to_owned(), reason: "a test".to_owned() }
}

/// Every port, with every kind of question.
async fn use_everything(store: &Embedded, clock: &ManualClock) {
    let (now, partition) = (clock.now(), Partition { topic: orders(), number: 0 });
    for n in 0..200 {
        store.append(&orders(), vec![event(&n.to_string())]).await;
    }
    EventLog::list(store, Some(&orders()), PageRequest::first(5)).await.expect("the log");
    EventLog::list(store, None, PageRequest::first(5)).await.expect("the log");
    store.find("1").await.expect("the log");
    store.is_complete(&FlowName::new("gone").expect("a name"), &position(0)).await.expect("the log");
    let mut subscription = store.subscribe(&billing(), &[orders()]).await.expect("joined");
    for _ in 0..2 {
        if let crossdock_core::Signal::Batch(batch) = subscription.next().await.expect("a batch") {
            batch.deliveries.into_iter().for_each(crossdock_core::Delivery::complete);
        }
    }
    let bury =
        |offset| Settlement::DeadLetter { letter: Arc::new(letter(offset, now)), held: None, replay: None };
    let settled = store.settle(
        None,
        vec![Settlement::Hold(vec![held(900), held(901)]), bury(1), bury(2), bury(3), bury(4), bury(5)],
    );
    let settled = settled.await.expect("settled");
    let Settled::Held(ids) = &settled[0] else { panic!("held") };
    let id = ids[0].id;
    store.adopt(&billing(), &partition).await.expect("adopted");
    store.due(&billing(), &partition, now, Some((Timestamp::UNIX_EPOCH, 0)), 10).await.expect("due");
    store.behind(&billing(), &partition, 1, 0, 10).await.expect("behind");
    HeldEvents::count(store, &billing()).await.expect("a count");
    HeldEvents::of_event(store, &position(900)).await.expect("held");
    let again =
        Settlement::Again { held: id, attempts: Vec::new(), tried: 1, first_tried_at: None, due: now };
    store
        .settle(None, vec![again, Settlement::Delivered { held: Some(id), replay: None }])
        .await
        .expect("settled");
    use_letters(store, now).await;
    let state = StoredConnection {
        name: ConnectionName::new("crm").expect("a name"),
        state: ConnectionState::Paused,
        detail: None,
        since: now,
    };
    store.save(&state, Some(&act())).await.expect("saved");
    Connections::load(store).await.expect("loaded");
    clock.advance(Duration::from_secs(40 * 86_400));
    let inner = Arc::downgrade(&store.inner);
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while HeldEvents::count(store, &billing()).await.is_ok() && tokio::time::Instant::now() < until {
        let left = EventLog::list(store, None, PageRequest::first(1)).await.expect("the log").items.len();
        if left == 0 && inner.strong_count() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn use_letters(store: &Embedded, now: Timestamp) {
    let all = Selection::default();
    let narrow = [
        Selection { ids: vec!["d1".to_owned()], ..all.clone() },
        Selection { events: vec!["dead".to_owned()], ..all.clone() },
        Selection { groups: vec![letter(1, now).group], ..all.clone() },
        Selection { flow: Some(billing()), class: Some(Class::Rejected), ..all.clone() },
        Selection { since: Some(now), state: Some(LetterState::Replayed), ..all.clone() },
        all.clone(),
    ];
    for selection in &narrow {
        store.groups(selection, PageRequest::first(10)).await.expect("groups");
        DeadLetters::list(store, selection, PageRequest::first(10)).await.expect("letters");
        DeadLetters::count(store, selection).await.expect("a count");
    }
    DeadLetters::get(store, "d1").await.expect("a letter");
    DeadLetters::get(store, "nothing").await.expect("no letter");
    DeadLetters::of_event(store, &position(1)).await.expect("letters");
    let first = Selection { ids: vec!["d1".to_owned()], ..all.clone() };
    store.discard(&first, &act()).await.expect("discarded");
    let replay = store
        .create(NewReplay { selection: all, rate: None, test: false, act: act() })
        .await
        .expect("a replay");
    let partition = Partition { topic: orders(), number: 0 };
    assert_eq!(store.places(&replay.id).await.expect("places"), [(billing(), partition.clone())]);
    let items = store.items(&replay.id, &billing(), &partition, 0, 10).await.expect("items");
    let ticket = |n: usize| -> ReplayTicket { items[n].ticket.clone() };
    let waits = NewHeld { replay: Some(ticket(2)), ..held(4) };
    let failed =
        Settlement::DeadLetter { letter: Arc::new(letter(3, now)), held: None, replay: Some(ticket(1)) };
    let delivered = Settlement::Delivered { held: None, replay: Some(ticket(0)) };
    store.settle(None, vec![Settlement::Hold(vec![waits]), failed, delivered]).await.expect("settled");
    store.set_rate(&replay.id, Some(1.0), &act()).await.expect("a rate");
    store.change(&replay.id, ReplayState::Cancelled, &act()).await.expect("cancelled");
    let late = Settlement::Delivered { held: None, replay: Some(ticket(3)) };
    store.settle(None, vec![late]).await.expect("settled");
    store.unfinished().await.expect("replays");
    let fault = Fault::new(Class::Rejected, "no");
    let attempt = Attempt::failed(1, Timestamp::now(), 0, None, &fault);
    store.tried(&replay.id, &Tried { outcome: Outcome::Failed, attempt }).await.expect("kept");
    Replays::list(store, PageRequest::first(10)).await.expect("replays");
    Replays::get(store, &replay.id).await.expect("a replay");
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    // The only test of this program that sets one. What other tests run meanwhile is looked at as well, unless it begins with
    // a comment.
    tracing::subscriber::set_global_default(Collector).expect("nobody else collects");
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    let options = Options {
        partitions: 1,
        groups: vec![(billing(), vec![orders()])],
        recent_ids_max: 10,
        tail_bytes_max: 0,
        file_bytes_max: Some(1 << 30),
        ..Options::default()
    };
    let store = Embedded::open(folder.path(), options.clone(), clock.clone()).await.expect("it opens");
    use_everything(&store, &clock).await;
    store.close().await;
    let store = Embedded::open(folder.path(), options.clone(), clock.clone()).await.expect("it opens");
    store.close().await;

    let statements = STATEMENTS.get().expect("some ran").0.lock().expect("no holder panics").clone();
    let reads = ["SELECT", "UPDATE", "DELETE", "INSERT"];
    let statements: Vec<_> =
        statements.into_iter().filter(|sql| reads.iter().any(|verb| sql.starts_with(verb))).collect();
    assert!(statements.len() > 70, "only {} statements were seen", statements.len());
    let file = folder.path().join("crossdock.db");
    let mut connection = schema::writer(&file, false, &options).await.expect("it opens");
    let mut slow = Vec::new();
    for sql in &statements {
        for step in plan(&mut connection, sql).await {
            let scanned = step.strip_prefix("SCAN ");
            let scans = scanned.is_some_and(|what| !SMALL.iter().any(|small| is_scan_of(what, small)));
            let sorts =
                step.starts_with("USE TEMP B-TREE") && !SORTED.iter().any(|sorted| sql.contains(sorted));
            if scans || sorts {
                slow.push(format!("{step}\n    {sql}"));
            }
        }
    }
    let of_group = statements
        .iter()
        .filter(|sql| sql.contains("l.failure_group = (SELECT") && sql.contains("ORDER BY l."));
    for sql in of_group {
        let steps = plan(&mut connection, sql).await.join("\n");
        assert!(
            steps.contains("letters_group (failure_group=? AND state=? AND failed_at<?)"),
            "{sql}\n{steps}"
        );
    }
    connection.close().await.expect("it closes");
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

/// The steps that SQLite takes.
async fn plan(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
    let rows = rows.persistent(false).fetch_all(connection).await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter().map(|row| row.get("detail")).collect()
}

/// `SCAN what USING …`.
fn is_scan_of(what: &str, small: &str) -> bool {
    what == small
        || what.starts_with(&format!("{small} "))
        || small.starts_with('(') && what.starts_with(small)
        || small.ends_with('_') && what.starts_with(small)
        || what.ends_with("VALUES CLAUSE")
}
