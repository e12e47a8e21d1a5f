//! How fast the embedded store is on this machine's disk, every commit flushed. Run it optimised:
//!
//! ```text
//! cargo run --release -p crossdock-embedded --example speed
//! ```

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossdock_core::{
    Act, Broker, Class, ConnectionName, DeadLetter, DeadLetters, Event, EventLog, Fault, Fingerprint,
    FlowName, HeldEvents, HeldId, LetterState, NewHeld, NewReplay, Outbox, PageRequest, Partition, Position,
    Published, Replays, Selection, Settled, Settlement, Settlements, Signal, SystemClock, Topic,
};
use crossdock_embedded::{Embedded, Options};
use futures::future::try_join_all;
use jiff::Timestamp;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Bytes of data in each event.
const DATA_BYTES: usize = 1024;
const CALLERS: usize = 64;
const HELD: usize = 100_000;
/// Deliveries that the engine settles in one call, roughly.
const SETTLED_AT_ONCE: usize = 256;

#[tokio::main]
async fn main() -> Outcome {
    let folder = tempfile::tempdir()?;
    println!(
        "{:<58}{:>12}",
        format!("events of {DATA_BYTES} bytes, in {}", folder.path().display()),
        "a second"
    );
    let store = open(folder.path()).await?;
    tell("appended, one a call, one caller", append(&store, ("a", 1, 1), 2_000).await?);
    tell("appended, one a call, 64 callers", append(&store, ("b", CALLERS, 1), 100_000).await?);
    tell("appended, 100 a call, 64 callers", append(&store, ("c", CALLERS, 100), 500_000).await?);
    tell("duplicates told, 100 a call, 64 callers", append(&store, ("c", CALLERS, 100), 500_000).await?);
    tell("read by a group that is behind, finished at once", read(&store, 602_000).await?);
    tell("listed by pages of 100", list(&store, 20_000).await?);
    tell("looked up by id", find(&store, 2_000).await?);
    let (held, ids) = hold(&store).await?;
    tell("held, 256 a call", held);
    tell("due events read, 512 a page", due(&store).await?);
    tell("held events delivered (removed), 256 a call", deliver(&store, ids).await?);
    tell("dead-lettered, 256 a call", bury(&store).await?);
    tell("put into a replay, all at once", replay(&store).await?);
    tell("items of a replay read, 500 a page", items(&store).await?);
    let began = Instant::now();
    store.close().await;
    println!("{:<58}{:>9} ms", "closed in", began.elapsed().as_millis());
    let began = Instant::now();
    let store = open(folder.path()).await?;
    println!("{:<58}{:>9} ms", "opened again in", began.elapsed().as_millis());
    store.close().await;
    Ok(())
}

fn tell(what: &str, (count, took): (usize, Duration)) {
    println!("{what:<58}{:>12.0}", count as f64 / took.as_secs_f64());
}

type Measured = (usize, Duration);

fn orders() -> Topic {
    Topic::new("orders").expect("a name")
}

fn billing() -> FlowName {
    FlowName::new("billing").expect("a name")
}

async fn open(folder: &Path) -> Outcome<Embedded> {
    let options = Options { groups: vec![(billing(), vec![orders()])], ..Options::default() };
    Ok(Embedded::open(folder, options, Arc::new(SystemClock)).await?)
}

fn event(id: String) -> Event {
    Event {
        key: Some(format!("k{}", id.len() % 7)),
        id,
        source: "/speed".to_owned(),
        kind: "order.placed".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        extensions: Vec::new(),
        data: Bytes::from(vec![b'x'; DATA_BYTES]),
    }
}

/// `total` events with ids that begin with `prefix`, by so many callers with so many in a call.
async fn append(
    store: &Embedded,
    (prefix, callers, batch): (&str, usize, usize),
    total: usize,
) -> Outcome<Measured> {
    let calls = total / callers / batch;
    let began = Instant::now();
    let caller = |caller: usize| {
        let (store, prefix) = (store.clone(), prefix.to_owned());
        tokio::spawn(async move {
            for call in 0..calls {
                let events = (0..batch).map(|n| Event {
                    key: Some(format!("{caller}")),
                    ..event(format!("{prefix}-{caller}-{call}-{n}"))
                });
                let answers = store.append(&orders(), events.collect()).await;
                answers.into_iter().collect::<Result<Vec<Published>, _>>()?;
            }
            Outcome::Ok(())
        })
    };
    for done in try_join_all((0..callers).map(caller)).await? {
        done?;
    }
    Ok((calls * callers * batch, began.elapsed()))
}

async fn read(store: &Embedded, at_least: usize) -> Outcome<Measured> {
    let mut subscription = store.subscribe(&billing(), &[orders()]).await?;
    let (began, mut count) = (Instant::now(), 0);
    while count + CALLERS * 100 < at_least {
        if let Signal::Batch(batch) = subscription.next().await? {
            count += batch.deliveries.len();
            batch.deliveries.into_iter().for_each(crossdock_core::Delivery::complete);
        }
    }
    Ok((count, began.elapsed()))
}

async fn list(store: &Embedded, total: usize) -> Outcome<Measured> {
    let (began, mut count, mut cursor) = (Instant::now(), 0, None);
    while count < total {
        let page = EventLog::list(store, None, PageRequest { limit: 100, cursor }).await?;
        count += page.items.len();
        cursor = page.next;
    }
    Ok((count, began.elapsed()))
}

async fn find(store: &Embedded, total: usize) -> Outcome<Measured> {
    let began = Instant::now();
    for n in 0..total {
        let found = store.find(&format!("c-{}-{}-{}", n % CALLERS, n % 70, n % 100)).await?;
        assert_eq!(found.len(), 1, "it was appended");
    }
    Ok((total, began.elapsed()))
}

fn position(offset: usize) -> Position {
    Position { topic: orders(), partition: 0, offset: offset as u64 }
}

async fn hold(store: &Embedded) -> Outcome<(Measured, Vec<HeldId>)> {
    let held = |n: usize| NewHeld {
        flow: billing(),
        position: position(n),
        key: Some(n.to_string()),
        key_hash: n as u64,
        event: Arc::new(event(n.to_string())),
        attempts: Vec::new(),
        tried: 1,
        first_tried_at: None,
        due: Some(Timestamp::UNIX_EPOCH),
        replay: None,
    };
    let (began, mut ids) = (Instant::now(), Vec::new());
    for first in (0..HELD).step_by(SETTLED_AT_ONCE) {
        let one = (first..(first + SETTLED_AT_ONCE).min(HELD)).map(|n| Settlement::Hold(vec![held(n)]));
        for settled in store.settle(None, one.collect()).await? {
            if let Settled::Held(held) = settled {
                ids.extend(held.into_iter().map(|placed| placed.id));
            }
        }
    }
    Ok(((HELD, began.elapsed()), ids))
}

async fn due(store: &Embedded) -> Outcome<Measured> {
    let partition = Partition { topic: orders(), number: 0 };
    let (began, mut count, mut after) = (Instant::now(), 0, None);
    loop {
        let page = store.due(&billing(), &partition, Timestamp::now(), after, 512).await?;
        let Some(last) = page.last() else { return Ok((count, began.elapsed())) };
        after = last.held.due.map(|due| (due, last.id));
        count += page.len();
    }
}

async fn deliver(store: &Embedded, ids: Vec<HeldId>) -> Outcome<Measured> {
    let began = Instant::now();
    for ids in ids.chunks(SETTLED_AT_ONCE) {
        let delivered = ids.iter().map(|id| Settlement::Delivered { held: Some(*id), replay: None });
        store.settle(None, delivered.collect()).await?;
    }
    Ok((ids.len(), began.elapsed()))
}

fn letter(n: usize) -> Outcome<DeadLetter> {
    let connection = ConnectionName::new("crm")?;
    let fault = Fault { status: Some(422), ..Fault::new(Class::Rejected, "never") };
    Ok(DeadLetter {
        id: format!("d{n:026}"),
        state: LetterState::Open,
        group: Fingerprint::of(&billing(), "call", &connection, "post", &fault).group(),
        flow: billing(),
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position: position(n),
        key: Some(n.to_string()),
        event: Arc::new(event(n.to_string())),
        request: None,
        idempotency_key: n.to_string(),
        class: fault.class,
        status: fault.status,
        code: None,
        message: fault.message,
        reason: "it is refused".to_owned(),
        advice: None,
        attempts: Vec::new(),
        failed_at: Timestamp::now(),
        replays: 0,
    })
}

async fn bury(store: &Embedded) -> Outcome<Measured> {
    let began = Instant::now();
    for first in (0..HELD).step_by(SETTLED_AT_ONCE) {
        let letters: Outcome<Vec<_>> = (first..(first + SETTLED_AT_ONCE).min(HELD)).map(letter).collect();
        let settlements = letters?.into_iter().map(|letter| Settlement::DeadLetter {
            letter: Arc::new(letter),
            held: None,
            replay: None,
        });
        store.settle(None, settlements.collect()).await?;
    }
    Ok((HELD, began.elapsed()))
}

async fn replay(store: &Embedded) -> Outcome<Measured> {
    let act = Act { actor: "ada".to_owned(), reason: "speed".to_owned() };
    let count = DeadLetters::count(store, &Selection::default()).await?;
    let began = Instant::now();
    store.create(NewReplay { selection: Selection::default(), rate: None, test: false, act }).await?;
    Ok((count as usize, began.elapsed()))
}

async fn items(store: &Embedded) -> Outcome<Measured> {
    let replay = store.unfinished().await?.pop().ok_or("there is no replay")?;
    let (began, mut count) = (Instant::now(), 0);
    for (flow, partition) in store.places(&replay.id).await? {
        let mut from = 0;
        loop {
            let items = store.items(&replay.id, &flow, &partition, from, 500).await?;
            let Some(last) = items.last() else { break };
            (from, count) = (last.ticket.item + 1, count + items.len());
        }
    }
    Ok((count, began.elapsed()))
}
