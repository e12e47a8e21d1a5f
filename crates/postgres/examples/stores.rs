//! How fast the stores are, against the shared Postgres that `make up` starts, in a database of its own:
//! `cargo run --release -p crossdock-postgres --example stores [rows]`.
//!
//! Held events and letters carry 512 bytes of data, as JSON orders have; batches are as large as a dispatcher's writes.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use crossdock_core::{
    Act, Attempt, Class, ConnectionName, DeadLetter, DeadLetters, Event, Fault, Fingerprint, FlowName,
    HeldEvents, HeldId, LetterState, NewHeld, NewReplay, Owner, PageRequest, Partition, Position, Replays,
    Selection, Settled, Settlement, Settlements, Topic, hash_key,
};
use crossdock_postgres::{Postgres, PostgresOptions, Purpose};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const BATCH: u64 = 500;
const PAGE: usize = 500;

fn flow() -> FlowName {
    FlowName::new("billing").expect("a name")
}

fn partition() -> Partition {
    numbered(0)
}

fn numbered(number: u32) -> Partition {
    Partition { topic: Topic::new("orders").expect("a name"), number }
}

fn position(partition: &Partition, offset: u64) -> Position {
    Position { topic: partition.topic.clone(), partition: partition.number, offset }
}

fn event(n: u64) -> Arc<Event> {
    Arc::new(Event {
        id: uuid::Uuid::now_v7().to_string(),
        source: "/shop".to_owned(),
        kind: "order.placed".to_owned(),
        subject: Some(format!("orders/{n}")),
        time: Some(Timestamp::now()),
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some(format!("customer-{}", n % 10_000)),
        extensions: Vec::new(),
        data: Bytes::from(vec![b'x'; 512]),
    })
}

fn fault(n: u64) -> Fault {
    let status = Some(400 + (n % 20) as u16);
    Fault { status, ..Fault::new(Class::Rejected, "the order has no address").code("no_address") }
}

fn attempt(n: u64) -> Attempt {
    Attempt::failed(1, Timestamp::now(), 17, Some("POST http://127.0.0.1:9001/orders".to_owned()), &fault(n))
}

fn held(partition: &Partition, n: u64) -> NewHeld {
    let event = event(n);
    NewHeld {
        flow: flow(),
        position: position(partition, n),
        key_hash: hash_key(event.key.as_deref().unwrap_or_default()),
        key: event.key.clone(),
        event,
        attempts: vec![attempt(n)],
        tried: 1,
        first_tried_at: Some(Timestamp::now()),
        due: Some(Timestamp::now()),
        replay: None,
    }
}

fn letter(n: u64) -> DeadLetter {
    let (connection, event, fault) = (ConnectionName::new("crm").expect("a name"), event(n), fault(n));
    DeadLetter {
        id: crossdock_core::time_ordered_id('d', uuid::Uuid::now_v7().as_u128()),
        state: LetterState::Open,
        group: Fingerprint::of(&flow(), "call", &connection, "post", &fault).group(),
        flow: flow(),
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position: position(&partition(), n),
        key: event.key.clone(),
        event,
        request: None,
        idempotency_key: format!("billing-{n}"),
        class: fault.class,
        status: fault.status,
        code: fault.code,
        message: fault.message,
        reason: "the other side will never take it".to_owned(),
        advice: None,
        attempts: vec![attempt(n)],
        failed_at: Timestamp::now(),
        replays: 0,
    }
}

/// Says how long something took, and how many that are in a second.
fn told(what: &str, began: Instant, count: u64) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what:<44} {count:>9} in {seconds:>7.3} s {:>10.0}/s", count as f64 / seconds);
}

async fn settle(store: &Postgres, owner: &Owner, batch: Vec<Settlement>) -> Vec<Settled> {
    store.settle(Some(owner), batch).await.expect("it settles")
}

async fn hold(store: &Postgres, owner: &Owner, rows: u64) {
    for first in (0..rows).step_by(BATCH as usize) {
        let rows = (first..first + BATCH).map(|n| held(&owner.partition, n)).collect();
        settle(store, owner, vec![Settlement::Hold(rows)]).await;
    }
}

/// As one worker does it that has four partitions.
async fn hold_in_four(store: &Postgres, rows: u64) {
    let mut holding = tokio::task::JoinSet::new();
    let began = Instant::now();
    for number in 1..=4 {
        let store = store.clone();
        holding.spawn(async move {
            let owner = store.adopt(&flow(), &numbered(number)).await.expect("it is adopted").owner;
            hold(&store, &owner, rows / 4).await;
        });
    }
    holding.join_all().await;
    told("hold in four partitions at a time", began, rows);
    let began = Instant::now();
    let (count, _) = HeldEvents::count(store, &flow()).await.expect("it counts");
    println!("count {count} held events {:>30.1?}", began.elapsed());
}

async fn read_due(store: &Postgres) -> Vec<HeldId> {
    let (began, until) = (Instant::now(), Timestamp::now());
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.due(&flow(), &partition(), until, after, PAGE).await.expect("it reads");
        let Some(last) = page.last() else { break };
        after = last.held.due.map(|due| (due, last.id));
        ids.extend(page.iter().map(|row| row.id));
    }
    told("read due events, in pages of 500", began, ids.len() as u64);
    ids
}

async fn deliver(store: &Postgres, owner: &Owner, ids: &[HeldId]) {
    let began = Instant::now();
    for ids in ids.chunks(BATCH as usize) {
        let delivered = |id: &HeldId| Settlement::Delivered { held: Some(*id), replay: None };
        settle(store, owner, ids.iter().map(delivered).collect()).await;
    }
    told("settle delivered, in batches of 500", began, ids.len() as u64);
}

async fn bury(store: &Postgres, owner: &Owner, rows: u64) {
    let began = Instant::now();
    for first in (0..rows).step_by(BATCH as usize) {
        let dead = |n| Settlement::DeadLetter { letter: Arc::new(letter(n)), held: None, replay: None };
        settle(store, owner, (first..first + BATCH).map(dead).collect()).await;
    }
    told("bury, in batches of 500", began, rows);
}

async fn look(store: &Postgres) {
    let of_flow = Selection { flow: Some(flow()), ..Selection::default() };
    let since = Selection { since: Some(Timestamp::UNIX_EPOCH), ..Selection::default() };
    for (what, selection) in [("all", Selection::default()), ("a flow", of_flow), ("since", since)] {
        for _ in 0..2 {
            let began = Instant::now();
            DeadLetters::list(store, &selection, PageRequest::first(50)).await.expect("it reads");
            let list = began.elapsed();
            let began = Instant::now();
            store.groups(&selection, PageRequest::first(50)).await.expect("it reads");
            let groups = began.elapsed();
            let began = Instant::now();
            let count = DeadLetters::count(store, &selection).await.expect("it reads");
            println!(
                "letters, {what:<10} list {list:>9.1?}, groups {groups:>9.1?}, count {:>9.1?} of {count}",
                began.elapsed()
            );
        }
    }
}

async fn replay(store: &Postgres, owner: &Owner, rows: u64) {
    let act = Act { actor: "ada".to_owned(), reason: "a measurement".to_owned() };
    let began = Instant::now();
    let new = NewReplay { selection: Selection::default(), rate: None, test: false, act };
    let replay = store.create(new).await.expect("it is made");
    told("make a replay", began, replay.total);
    let (began, mut from, mut tickets) = (Instant::now(), 0, Vec::new());
    loop {
        let items = store.items(&replay.id, &flow(), &partition(), from, PAGE).await.expect("it reads");
        let Some(last) = items.last() else { break };
        from = last.ticket.item + 1;
        tickets.extend(items.into_iter().map(|item| item.ticket));
    }
    told("read its items, in pages of 500", began, tickets.len() as u64);
    assert_eq!(tickets.len() as u64, rows);
    let began = Instant::now();
    for tickets in tickets.chunks(BATCH as usize) {
        let delivered = |ticket: &_| Settlement::Delivered { held: None, replay: Some(Clone::clone(ticket)) };
        settle(store, owner, tickets.iter().map(delivered).collect()).await;
    }
    told("settle its items, in batches of 500", began, rows);
}

#[tokio::main]
async fn main() {
    let rows: u64 = std::env::args().nth(1).map_or(100_000, |rows| rows.parse().expect("a number of rows"));
    let server = crossdock_testkit::services::postgres();
    let (place, _) = server.rsplit_once('/').expect("the address names a database");
    let name = format!("crossdock_bench_{}", std::process::id());
    let mut admin = PgConnection::connect(&server).await.expect("it answers");
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.expect("made");
    let options = PostgresOptions::parse(&format!("{place}/{name}"), []).expect("it is read");
    let store = Postgres::open(options).await.expect("it opens");
    store.migrate().await.expect("it is migrated");

    let owner = store.adopt(&flow(), &partition()).await.expect("it is adopted").owner;
    let began = Instant::now();
    hold(&store, &owner, rows).await;
    told("hold, in batches of 500", began, rows);
    hold_in_four(&store, rows).await;
    let ids = read_due(&store).await;
    let began = Instant::now();
    let owner = {
        let adopted = store.adopt(&flow(), &partition()).await.expect("it is adopted");
        println!("adopt, with {} keys {:>30.1?}", adopted.keys.len(), began.elapsed());
        adopted.owner
    };
    deliver(&store, &owner, &ids).await;
    bury(&store, &owner, rows).await;
    let vacuum = store.call(Purpose::Admin, "vacuuming", |connection| {
        Box::pin(async move { Ok(sqlx::raw_sql("VACUUM ANALYZE").execute(connection).await?) })
    });
    vacuum.await.expect("it is done");
    look(&store).await;
    replay(&store, &owner, rows).await;

    store.close().await;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await.expect("it is dropped");
}
