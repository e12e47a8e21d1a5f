//! What several workers do to one database at the same time, and what becomes of it in the long run.

mod template;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crossdock_core::{
    Act, Class, Clock, ConnectionName, DeadLetter, DeadLetters, Event, Fault, Fingerprint, FlowName,
    HeldEvents, LetterState, NewHeld, NewReplay, Partition, Placed, Position, ReplayItem, ReplayState,
    Replays, Selection, Settled, Settlement, Settlements, StoreError, Topic,
};
use crossdock_postgres::{Postgres, Purpose};
use crossdock_testkit::ManualClock;
use template::Database;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn flow() -> FlowName {
    FlowName::new("billing").expect("a name")
}

fn partition() -> Partition {
    Partition { topic: Topic::new("orders").expect("a name"), number: 0 }
}

fn position(offset: u64) -> Position {
    Position { topic: partition().topic, partition: 0, offset }
}

fn event(id: u64, data: Bytes) -> Arc<Event> {
    Arc::new(Event {
        id: format!("e{id}"),
        source: "/suite".to_owned(),
        kind: "order.placed".to_owned(),
        subject: None,
        time: None,
        content_type: None,
        schema: None,
        key: None,
        extensions: Vec::new(),
        data,
    })
}

fn held(offset: u64, clock: &ManualClock, data: Bytes) -> NewHeld {
    NewHeld {
        flow: flow(),
        position: position(offset),
        key: None,
        key_hash: 7,
        event: event(offset, data),
        attempts: Vec::new(),
        tried: 0,
        first_tried_at: None,
        due: Some(clock.now()),
        replay: None,
    }
}

fn letter(offset: u64, status: u16, clock: &ManualClock) -> DeadLetter {
    let fault = Fault { status: Some(status), ..Fault::new(Class::Rejected, "no") };
    let connection = ConnectionName::new("crm").expect("a name");
    DeadLetter {
        id: format!("d{offset:026}"),
        state: LetterState::Open,
        group: Fingerprint::of(&flow(), "call", &connection, "post", &fault).group(),
        flow: flow(),
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position: position(offset),
        key: None,
        event: event(offset, Bytes::from_static(b"{}")),
        request: None,
        idempotency_key: String::new(),
        class: fault.class,
        status: fault.status,
        code: None,
        message: fault.message,
        reason: String::new(),
        advice: None,
        attempts: Vec::new(),
        failed_at: clock.now(),
        replays: 0,
    }
}

fn bury(offset: u64, status: u16, clock: &ManualClock) -> Settlement {
    Settlement::DeadLetter { letter: Arc::new(letter(offset, status, clock)), held: None, replay: None }
}

fn act() -> Act {
    Act { actor: "ada".to_owned(), reason: "a test".to_owned() }
}

fn named(offsets: impl IntoIterator<Item = u64>) -> Selection {
    Selection { ids: offsets.into_iter().map(|n| format!("d{n:026}")).collect(), ..Selection::default() }
}

fn in_state(state: LetterState) -> Selection {
    Selection { state: Some(state), ..Selection::default() }
}

fn replay_of(selection: Selection) -> NewReplay {
    NewReplay { selection, rate: None, test: false, act: act() }
}

async fn open(database: &Database, clock: &Arc<ManualClock>) -> Postgres {
    let mut options = database.options();
    options.clock = clock.clone();
    Postgres::open(options).await.expect("the database opens")
}

async fn items(store: &Postgres, replay: &str) -> Vec<ReplayItem> {
    store.items(replay, &flow(), &partition(), 0, 1000).await.expect("the store reads")
}

/// A number that a statement answers with.
async fn number(store: &Postgres, sql: &'static str) -> i64 {
    let asked = store.call(Purpose::Admin, "asking", move |connection| {
        Box::pin(async move { Ok(sqlx::query_scalar(sql).fetch_one(connection).await?) })
    });
    asked.await.expect("it answers")
}

/// Groups whose counters are not what their letters say.
async fn miscounted(store: &Postgres) -> i64 {
    number(
        store,
        "SELECT count(*) FROM crossdock.failure_groups g CROSS JOIN LATERAL (
             SELECT count(*) FILTER (WHERE state = 0) AS open, count(*) FILTER (WHERE state = 1) AS replaying,
                    count(*) FILTER (WHERE state = 2) AS replayed, count(*) FILTER (WHERE state = 3) AS discarded
             FROM crossdock.letters l WHERE l.failure_group = g.number
         ) c WHERE (g.open, g.replaying, g.replayed, g.discarded)
             <> (c.open, c.replaying, c.replayed, c.discarded)",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adoption_that_nobody_waits_for_any_more_fences_nobody_who_came_later() {
    let (database, clock) = (Database::create().await, Arc::new(ManualClock::new()));
    let (slow, other) = (open(&database, &clock).await, open(&database, &clock).await);
    slow.adopt(&flow(), &partition()).await.expect("it is adopted");
    // Every connection of the slow one is taken.
    let pool = slow.pool(Purpose::Delivery);
    let mut taken = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        taken.push(pool.acquire().await.expect("a connection"));
    }
    let adopting =
        tokio::time::timeout(Duration::from_millis(200), async { slow.adopt(&flow(), &partition()).await });
    adopting.await.expect_err("it waits for a connection");
    let owner = other.adopt(&flow(), &partition()).await.expect("it is adopted").owner;
    drop(taken);
    // Connections are given in the order of asking: what was left behind has had its own by then.
    for _ in 0..20 {
        HeldEvents::count(&slow, &flow()).await.expect("it answers");
    }
    let settled =
        other.settle(Some(&owner), vec![Settlement::Hold(vec![held(1, &clock, Bytes::new())])]).await;
    assert!(settled.is_ok(), "{settled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_adopts_waits_for_what_the_former_owner_has_under_way() {
    let (database, clock) = (Database::create().await, Arc::new(ManualClock::new()));
    let (former, other) = (open(&database, &clock).await, open(&database, &clock).await);
    let owner = former.adopt(&flow(), &partition()).await.expect("it is adopted").owner;
    // A settlement of the former owner that has checked its epoch and has not committed yet.
    let mut under_way = former.pool(Purpose::Delivery).begin().await.expect("it begins");
    sqlx::query("SELECT epoch FROM crossdock.places FOR SHARE")
        .execute(&mut *under_way)
        .await
        .expect("it is checked");
    let adopting = tokio::spawn({
        let other = other.clone();
        async move { other.adopt(&flow(), &partition()).await }
    });
    crossdock_testkit::eventually("the other one waits", async || {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                       WHERE NOT granted AND datname = current_database()";
        if number(&former, waiting).await == 1 { Ok(()) } else { Err("it does not wait".to_owned()) }
    })
    .await;
    sqlx::query(
        "INSERT INTO crossdock.held (place, log_offset, key_hash, event_hash, tried, attempts, event, data)
         SELECT place, 1, 42, 0, 0, '[]', '', '' FROM crossdock.places",
    )
    .execute(&mut *under_way)
    .await
    .expect("it is held");
    assert!(!adopting.is_finished());
    under_way.commit().await.expect("it commits");
    let adopted = adopting.await.expect("it ends well").expect("it is adopted");
    let keys: Vec<_> = adopted.keys.iter().map(|key| (key.hash, key.count)).collect();
    assert_eq!(keys, [(42, 1)], "nothing comes in between");
    assert!(adopted.owner.epoch > owner.epoch);
    let late = former.settle(Some(&owner), vec![Settlement::Hold(vec![held(2, &clock, Bytes::new())])]).await;
    assert!(matches!(late, Err(StoreError::Fenced(_))), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_large_events_are_small() {
    let (database, clock) = (Database::create().await, Arc::new(ManualClock::new()));
    let store = open(&database, &clock).await;
    let data = Bytes::from(vec![7; 300 << 10]);
    let mut rows: Vec<_> = (0..20).map(|n| held(n, &clock, data.clone())).collect();
    rows[10].event = event(10, Bytes::from(vec![7; 3 << 20]));
    store.settle(None, vec![Settlement::Hold(rows)]).await.expect("it settles");
    let (mut after, mut pages) = (0, Vec::new());
    loop {
        let page = store.behind(&flow(), &partition(), 7, after, 1000).await.expect("it reads");
        let Some(last) = page.last() else { break };
        after = last.id;
        pages.push(page.iter().map(|row| row.held.position.offset).collect::<Vec<_>>());
    }
    assert_eq!(pages.concat(), (0..20).collect::<Vec<_>>());
    assert!(pages.iter().all(|page| page.len() <= 4), "a page ends at 1 MiB: {pages:?}");
    let due = store.due(&flow(), &partition(), clock.now(), None, 1000).await.expect("it reads");
    assert_eq!(due.len(), pages[0].len());
}

/// Workers hold and deliver at the same time while one of them adds up what was counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_events_are_counted_exactly_whoever_meets() {
    let (database, clock) = (Database::create().await, Arc::new(ManualClock::new()));
    let workers = (0..4u64).map(|worker| {
        let (options, clock) = (database.options(), clock.clone());
        tokio::spawn(async move {
            let store = Postgres::open(options).await.expect("the database opens");
            for round in 0..30u64 {
                hold_and_deliver(&store, (worker * 30 + round) * 20, &clock).await;
                if worker == 0 {
                    store.maintain().await.expect("it is maintained");
                }
            }
            store.close().await;
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("the worker ends well");
    }
    let store = open(&database, &clock).await;
    for maintained in [false, true] {
        assert_eq!(number(&store, "SELECT count(*) FROM crossdock.held").await, 4 * 30 * 10);
        assert_eq!(
            HeldEvents::count(&store, &flow()).await.expect("it counts").0,
            4 * 30 * 10,
            "{maintained}"
        );
        assert_eq!(store.held_by_flow().await.expect("it counts"), [(flow(), 4 * 30 * 10)]);
        store.maintain().await.expect("it is maintained");
    }
    assert_eq!(number(&store, "SELECT count(*) FROM crossdock.held_counts").await, 1);
}

/// Holds twenty, ten of them twice, and delivers ten, some twice.
async fn hold_and_deliver(store: &Postgres, base: u64, clock: &ManualClock) {
    let rows = |from, to| (base + from..base + to).map(|n| held(n, clock, Bytes::new())).collect();
    let first = store.settle(None, vec![Settlement::Hold(rows(0, 15))]).await.expect("it settles");
    store.settle(None, vec![Settlement::Hold(rows(5, 20))]).await.expect("it settles");
    let Settled::Held(placed) = &first[0] else { panic!("held") };
    let delivered = |placed: &Placed| Settlement::Delivered { held: Some(placed.id), replay: None };
    for some in [&placed[..10], &placed[..3]] {
        store.settle(None, some.iter().map(delivered).collect()).await.expect("it settles");
    }
}

/// Workers bury, discard, replay and cancel in the same groups, in different orders. Whatever comes of it, every counter is
/// what the letters say, and no deadlock reaches anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_exact_whoever_meets() {
    let (database, clock) = (Database::create().await, Arc::new(ManualClock::new()));
    let workers = (0..6u64).map(|worker| {
        let (database, clock) = (database.options(), clock.clone());
        tokio::spawn(async move {
            let mut options = database;
            options.clock = clock.clone();
            let store = Postgres::open(options).await.expect("the database opens");
            for round in 0..12u64 {
                work(&store, worker, round, &clock).await;
            }
            store.close().await;
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("the worker ends well");
    }
    let store = open(&database, &clock).await;
    assert_eq!(miscounted(&store).await, 0);
    let mut letters = 0;
    use LetterState::{Discarded, Open, Replayed, Replaying};
    for state in [Open, Replaying, Replayed, Discarded] {
        letters += DeadLetters::count(&store, &in_state(state)).await.expect("it counts");
    }
    assert_eq!(letters, 6 * 12 * 20);
    assert_eq!(
        number(&store, "SELECT count(*) FROM crossdock.replays WHERE delivered + failed + skipped > total")
            .await,
        0
    );
}

/// Buries twenty, each in one of four groups, then does something to letters that others look at as well.
async fn work(store: &Postgres, worker: u64, round: u64, clock: &ManualClock) {
    let base = (worker * 100 + round) * 20;
    let mut batch: Vec<_> = (base..base + 20).map(|n| bury(n, 400 + (n % 4) as u16, clock)).collect();
    if worker.is_multiple_of(2) {
        batch.reverse();
    }
    store.settle(None, batch).await.expect("it settles");
    let everywhere = (0..6).flat_map(|worker| (0..3).map(move |n| (worker * 100 + round) * 20 + n));
    match store.create(replay_of(named(everywhere))).await {
        Ok(replay) => {
            for ReplayItem { ticket, letter } in items(store, &replay.id).await.into_iter().step_by(2) {
                let settlement = match ticket.item % 4 {
                    0 => Settlement::Delivered { held: None, replay: Some(ticket) },
                    _ => {
                        Settlement::DeadLetter { letter: Arc::new(letter), held: None, replay: Some(ticket) }
                    }
                };
                store.settle(None, vec![settlement]).await.expect("it settles");
            }
            let changed = Replays::change(store, &replay.id, ReplayState::Cancelled, &act()).await;
            assert!(matches!(changed, Ok(_) | Err(StoreError::Conflict(_))), "{changed:?}");
        }
        Err(StoreError::Conflict(_)) => {}
        Err(error) => panic!("the store fails: {error}"),
    }
    let some = named((0..6).map(|worker| (worker * 100 + round) * 20 + 19));
    store.discard(&some, &act()).await.expect("it discards");
    store.unfinished().await.expect("it reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_settled_long_ago_goes_and_what_is_open_stays() {
    let (database, clock) = (Database::create().await, Arc::new(ManualClock::new()));
    let (store, other) = (open(&database, &clock).await, open(&database, &clock).await);
    store.settle(None, (0..1300).map(|n| bury(n, 422, &clock)).collect()).await.expect("it settles");
    let replay = store.create(replay_of(named(0..600))).await.expect("it is made");
    let delivered = items(&store, &replay.id).await.into_iter();
    let delivered = delivered.map(|item| Settlement::Delivered { held: None, replay: Some(item.ticket) });
    store.settle(None, delivered.collect()).await.expect("it settles");
    store.discard(&named(600..1200), &act()).await.expect("they are discarded");
    let running = store.create(replay_of(named(1200..1210))).await.expect("it is made");
    assert_eq!(store.maintain().await.expect("it is maintained"), 0, "nothing is old enough");
    clock.advance(31 * DAY);
    let (one, two) = tokio::join!(store.maintain(), other.maintain());
    let mut dropped = one.expect("it is maintained") + two.expect("it is maintained");
    // Should both have found the other one at it, one more does it.
    dropped += store.maintain().await.expect("it is maintained");
    assert_eq!(dropped, 1800, "600 replayed, 600 discarded, 600 items");
    for (state, count) in [(LetterState::Open, 90), (LetterState::Replaying, 10), (LetterState::Replayed, 0)]
    {
        assert_eq!(
            DeadLetters::count(&store, &in_state(state)).await.expect("it counts"),
            count,
            "{state:?}"
        );
    }
    assert_eq!(miscounted(&store).await, 0);
    assert_eq!(number(&store, "SELECT count(*) FROM crossdock.letter_bodies").await, 100);
    assert_eq!(number(&store, "SELECT count(*) FROM crossdock.replay_items").await, 10);
    let kept = Replays::get(&store, &replay.id).await.expect("it reads").expect("the replay stays");
    assert_eq!((kept.state, kept.delivered), (ReplayState::Succeeded, 600));
    assert_eq!(items(&store, &running.id).await.len(), 10);
}
