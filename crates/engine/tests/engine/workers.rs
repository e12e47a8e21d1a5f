//! Several workers of one hub: who has what, who follows whom, and what a worker lets go.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::{
    Class, ConnectionState, Event, HeldEvents, LetterState, NewReplay, Outbox, Outcome, Partition,
    PublishError, Published, ReplayState, Selection, Topic,
};
use crossdock_engine::{Hub, IntakeError, ReplayChange, Roles, Stores};
use crossdock_testkit::{ManualClock, OutboxRows};
use tokio::time::Instant;

use crate::rig::{Options, Rig, act, event, fault, flow, list, ok, topic};

const SECOND: Duration = Duration::from_secs(1);
/// Keys enough for every one of four partitions.
const KEYS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

fn shared() -> Options {
    Options { partitions: 4, shared: true, ..Options::default() }
}

async fn publish(rig: &Rig, name: &str, count: usize) {
    rig.publish((0..count).map(|n| (format!("{name}{n}"), KEYS[n % KEYS.len()]))).await;
}

/// The events that the other side has, and how many calls that took.
fn arrived(rig: &Rig) -> (usize, usize) {
    (rig.remote.counts().len(), rig.remote.calls().len())
}

fn state(hub: &Hub) -> ConnectionState {
    hub.connections()[0].state
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_takes_its_share_and_one_that_goes_leaves_nothing() {
    let rig = Rig::new(shared()).await;
    publish(&rig, "first", 60).await;
    let second = rig.worker(Roles::default()).await;
    publish(&rig, "both", 240).await;
    rig.until("all arrived", async || arrived(&rig).0 == 300).await;
    let sent = async |hub: &Hub| hub.status().await.expect("a status").delivered;
    assert!(sent(&second).await > 0 && sent(&rig.hub).await > 0, "both have something to do");
    assert!(second.stop(20 * SECOND).await);
    publish(&rig, "last", 60).await;
    rig.until("all arrived", async || arrived(&rig).0 == 360).await;
    rig.wait(60 * SECOND).await;
    assert_eq!(arrived(&rig).1, 360, "nothing twice: all were let go in order");
}

#[tokio::test(start_paused = true)]
async fn who_lost_a_partition_without_knowing_it_completes_nothing_and_takes_it_over_anew() {
    let rig = Rig::new(Options { retry: list(&[60_000]), ..Options::default() }).await;
    rig.remote.answers(|call| if call.nth == 1 { fault(Class::Transient) } else { ok() });
    rig.wait(SECOND).await;
    let partition = Partition { topic: topic(), number: 0 };
    rig.memory.adopt(&flow(), &partition).await.expect("somebody else takes it over");
    publish(&rig, "e", 24).await;
    let began = Instant::now();
    let twice = async || rig.remote.counts().values().filter(|count| **count >= 2).count();
    rig.until("the first ones come again", async || twice().await > 0).await;
    // What would have waited a minute in the store was refused there, so the broker gave it again.
    assert!(began.elapsed() < 10 * SECOND, "after {:?}", began.elapsed());
    rig.until("all arrived", async || twice().await == 24).await;
    let held = async || rig.memory.count(&flow()).await.expect("the memory counts").0;
    rig.until("nothing is held", async || held().await == 0).await;
    assert_eq!(rig.letters(LetterState::Open).await, 0);
    let delivered: Vec<_> = (rig.remote.calls().into_iter().filter(|call| call.nth == 2))
        .map(|call| call.event[1..].parse::<usize>().expect("a number"))
        .collect();
    for key in 0..KEYS.len() {
        let of_key: Vec<_> = delivered.iter().filter(|number| *number % KEYS.len() == key).collect();
        assert!(of_key.is_sorted(), "the order of a key: {of_key:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_with_hanging_calls_is_let_go_within_ten_seconds() {
    let rig = Rig::new(Options { concurrency: 100, ..shared() }).await;
    rig.remote.answers(|call| if call.nth == 1 { (10_000 * SECOND, Ok(())) } else { ok() });
    publish(&rig, "e", 48).await;
    rig.until_called(KEYS.len()).await;
    let began = Instant::now();
    let second = rig.worker(Roles::default()).await;
    let delivered = async || second.status().await.expect("a status").delivered;
    rig.until("some of them are the second one's", async || delivered().await > 0).await;
    assert!(began.elapsed() < 15 * SECOND, "after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_person_does_to_a_connection_holds_for_every_worker() {
    let rig = Rig::new(shared()).await;
    let second = rig.worker(Roles::default()).await;
    rig.set_connection(ConnectionState::Paused).await;
    rig.until("the other follows", async || state(&second) == ConnectionState::Paused).await;
    assert_eq!(second.connections()[0].detail.as_deref(), Some("ann: because"));
    publish(&rig, "e", 48).await;
    rig.wait(60 * SECOND).await;
    assert_eq!(arrived(&rig), (0, 0));
    second.set_connection("shop", ConnectionState::Ok, &act()).await.expect("the store takes it");
    rig.until("all arrived", async || arrived(&rig) == (48, 48)).await;
    assert_eq!(rig.connection(), ConnectionState::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_one_worker_finds_refused_stops_the_others_until_it_works() {
    let rig = Rig::new(shared()).await;
    let second = rig.worker(Roles::default()).await;
    rig.remote.answers(|_| fault(Class::AuthBroken));
    // All of one key: one worker alone has them.
    rig.publish((0..50).map(|n| (format!("e{n}"), "a"))).await;
    let both = async |wanted| state(&rig.hub) == wanted && state(&second) == wanted;
    rig.until("both stop", async || both(ConnectionState::NeedsAuth).await).await;
    rig.remote.answers(|_| ok());
    rig.until("both go on", async || both(ConnectionState::Ok).await).await;
    rig.until("all arrived", async || arrived(&rig).0 == 50).await;
    rig.wait(10 * SECOND).await;
    assert_eq!(rig.kept().await, Some(ConnectionState::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_works_again_does_not_end_the_pause_that_a_person_made_meanwhile() {
    let rig = Rig::new(shared()).await;
    let second = rig.worker(Roles::default()).await;
    rig.remote.answers(|_| fault(Class::AuthBroken));
    rig.publish((0..50).map(|n| (format!("e{n}"), "a"))).await;
    let both = async |wanted| state(&rig.hub) == wanted && state(&second) == wanted;
    rig.until("both stop", async || both(ConnectionState::NeedsAuth).await).await;
    let before = rig.remote.calls().len();
    rig.remote.answers(|_| (SECOND / 5, Ok(())));
    rig.until_called(before + 1).await;
    // The probe is out when somebody pauses through the worker that does not make it, and is answered before the other follows.
    let calls = |hub: &Hub| hub.connections()[0].in_flight > 0;
    let (probing, other) = if calls(&second) { (&second, &rig.hub) } else { (&rig.hub, &second) };
    assert!(calls(probing) && !calls(other));
    other.set_connection("shop", ConnectionState::Paused, &act()).await.expect("the store takes it");
    assert_ne!(state(probing), ConnectionState::Paused, "it does not know of it yet");
    rig.until("both have stopped", async || both(ConnectionState::Paused).await).await;
    rig.wait(3 * SECOND).await;
    let calls = rig.remote.calls().len();
    rig.wait(600 * SECOND).await;
    assert_eq!((rig.kept().await, rig.remote.calls().len()), (Some(ConnectionState::Paused), calls));
    assert!(both(ConnectionState::Paused).await);
    assert_eq!(probing.connections()[0].detail.as_deref(), Some("ann: because"));
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_sent_by_the_owners_of_its_places_at_one_rate() {
    let rig = Rig::new(shared()).await;
    let second = rig.worker(Roles::default()).await;
    rig.dead_of(120, &KEYS).await;
    let (mine, others) = (rig.hub.status().await, second.status().await);
    let before = [mine, others].map(|status| status.expect("a status").delivered);
    let began = Instant::now();
    let replay = rig.replay_all(Some(20.0)).await;
    rig.until("it is over", async || rig.replay(&replay.id).await.state.is_final()).await;
    let took = began.elapsed();
    assert!(took > 5 * SECOND && took < 9 * SECOND, "120 at 20 a second took {took:?}");
    assert_eq!(rig.replay(&replay.id).await.delivered, 120);
    let after =
        [rig.hub.status().await, second.status().await].map(|status| status.expect("a status").delivered);
    assert!(after[0] > before[0] && after[1] > before[1], "both sent some: {before:?} {after:?}");
    assert_eq!(arrived(&rig), (120, 240), "each once dead and once delivered");
}

#[tokio::test(start_paused = true)]
async fn what_one_worker_says_of_a_replay_holds_for_all() {
    let rig = Rig::new(shared()).await;
    let second = rig.worker(Roles::default()).await;
    rig.dead_of(200, &KEYS).await;
    let replay = rig.replay_all(Some(10.0)).await;
    rig.wait(5 * SECOND).await;
    let change = async |change| {
        second.change_replay(&replay.id, change, &act()).await.expect("the store takes it");
    };
    change(ReplayChange::State(ReplayState::Paused)).await;
    rig.wait(2 * SECOND).await;
    let paused = arrived(&rig).1;
    rig.wait(60 * SECOND).await;
    assert_eq!(arrived(&rig).1, paused, "both have stopped");
    change(ReplayChange::Rate(Some(50.0))).await;
    change(ReplayChange::State(ReplayState::Running)).await;
    rig.wait(2 * SECOND).await;
    change(ReplayChange::State(ReplayState::Cancelled)).await;
    rig.wait(60 * SECOND).await;
    let over = rig.replay(&replay.id).await;
    assert!(over.delivered < 200 && over.delivered > 60, "{over:?}");
    assert_eq!((over.delivered + over.skipped, over.failed), (200, 0));
    assert_eq!(rig.letters(LetterState::Open).await, over.skipped);
    assert_eq!(rig.letters(LetterState::Replayed).await, over.delivered);
    assert_eq!(arrived(&rig).1 as u64, 200 + over.delivered);
}

#[tokio::test(start_paused = true)]
async fn a_test_is_made_by_whoever_has_its_place_through_a_closed_gate() {
    let rig = Rig::new(shared()).await;
    let second = rig.worker(Roles::default()).await;
    let api = rig.worker(Roles { ingest: false, deliver: false, relay: false, api: true }).await;
    rig.dead_of(12, &KEYS).await;
    rig.set_connection(ConnectionState::Paused).await;
    let all_stop = async || [&rig.hub, &second, &api].iter().all(|hub| state(hub) == ConnectionState::Paused);
    rig.until("all have stopped", all_stop).await;
    for (n, letter) in rig.open_letters().await.iter().enumerate() {
        let fails = n % 3 == 0;
        rig.remote.answers(move |_| if fails { fault(Class::Rejected) } else { ok() });
        // Each is asked of a worker; most places are those of another one.
        let asked = [&rig.hub, &second, &api][n / 3 % 3];
        let began = Instant::now();
        let result = asked.test_replay(&letter.id, &act()).await.expect("a result");
        assert!(began.elapsed() < 3 * SECOND, "after {:?}", began.elapsed());
        let (outcome, class, status) = match fails {
            true => (Outcome::Failed, Some(Class::Rejected), None),
            false => (Outcome::Delivered, None, Some(200)),
        };
        let attempt = &result.attempt;
        assert_eq!((result.outcome, attempt.class, attempt.status), (outcome, class, status));
        let request = attempt.request.as_deref();
        assert!(request == Some("POST /orders") && attempt.replay.is_some(), "the try itself: {attempt:?}");
    }
    rig.until("all are written", async || rig.letters(LetterState::Replayed).await == 8).await;
    assert_eq!(rig.letters(LetterState::Open).await, 4);
    assert_eq!(arrived(&rig).1, 24, "one try each");
    assert!(all_stop().await, "nobody has opened it");
    assert!(second.stop(20 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_test_that_nobody_makes_is_not_made_behind_the_persons_back() {
    let rig = Rig::new(shared()).await;
    let api = rig.worker(Roles { ingest: false, deliver: false, relay: false, api: true }).await;
    rig.dead_of(1, &KEYS).await;
    assert!(rig.hub.stop(20 * SECOND).await);
    let letter = rig.open_letters().await.remove(0);
    let refused = api.test_replay(&letter.id, &act()).await.expect_err("nobody is there");
    assert!(refused.to_string().contains("open again"), "{refused}");
    assert_eq!(rig.letters(LetterState::Open).await, 1);
    let late = rig.worker(Roles::default()).await;
    rig.wait(600 * SECOND).await;
    assert_eq!(arrived(&rig).1, 1);
    assert!(late.stop(20 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_full_holds_up_no_other_of_a_replay() {
    let rig = Rig::new(Options { partitions: 4, ..Options::default() }).await;
    // More of one key than its dispatcher has room for, and some of other partitions behind them.
    let mut keys = vec!["a"; 25];
    keys.extend(["b", "c", "d", "e", "f", "g", "h"]);
    rig.dead_of(25 * 120, &keys).await;
    rig.remote.answers(|call| {
        let number: usize = call.event[1..].parse().expect("a number");
        if number % 32 < 25 { (100_000 * SECOND, Ok(())) } else { ok() }
    });
    rig.replay_all(None).await;
    let others = (0..25 * 120).filter(|n| n % 32 >= 25).count() as u64;
    rig.until("the others arrive", async || rig.letters(LetterState::Replayed).await >= others / 2).await;
    assert!(rig.letters(LetterState::Replaying).await > 2048);
}

#[tokio::test(start_paused = true)]
async fn a_worker_does_what_its_roles_say() {
    let rig = Rig::new(shared()).await;
    let api = rig.worker(Roles { ingest: false, deliver: false, relay: false, api: true }).await;
    assert_eq!(api.check_topic("orders"), Err(IntakeError::NotHere));
    let refused = api.publish("orders", vec![event("e0", "k")]).await;
    assert_eq!(refused.expect_err("it takes none in"), IntakeError::NotHere);
    rig.dead_of(40, &KEYS).await;
    assert_eq!(api.status().await.expect("a status").failed_attempts, 0, "it delivers nothing");
    let new = NewReplay { selection: Selection::default(), rate: None, test: false, act: act() };
    let replay = api.replay(new).await.expect("it is made");
    rig.until("the others send it", async || rig.replay(&replay.id).await.state.is_final()).await;
    assert_eq!(rig.replay(&replay.id).await.delivered, 40);
    assert!(api.stop(SECOND).await);
}

/// An outbox that never answers.
struct Silent;

#[async_trait]
impl Outbox for Silent {
    async fn append(&self, _: &Topic, _: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_does_not_answer_is_not_waited_for_for_ever() {
    let rig = Rig::new(Options::default()).await;
    let stores = Stores { outbox: Arc::new(Silent), ..rig.stores() };
    let hub = rig.worker_on(stores, Roles { deliver: false, ..Roles::default() }).await;
    let began = Instant::now();
    let answers = hub.publish("orders", vec![event("e0", "k"), event("e1", "k")]).await;
    assert_eq!(answers.expect("answers"), [Err(PublishError::Unknown), Err(PublishError::Unknown)]);
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(hub.status().await.expect("a status").state, "degraded");
    rig.wait(61 * SECOND).await;
    assert_eq!(hub.status().await.expect("a status").state, "running", "nobody knows better since");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_starts_without_its_broker_takes_events_in_and_loses_none_of_them() {
    let rig = Rig::new(Options::default()).await;
    assert!(rig.hub.stop(20 * SECOND).await);
    let rows = OutboxRows::new(Arc::new(ManualClock::new()));
    let outbox: Arc<OutboxRows> = Arc::new(rows);
    let stores = Stores { outbox: outbox.clone(), outbox_log: Some(outbox), ..rig.stores() };
    rig.broker.refuse(true);
    let hub = rig.worker_on(stores, Roles::default()).await;
    let events = (0..20).map(|n| event(&format!("e{n}"), "k")).collect();
    assert!(hub.publish("orders", events).await.expect("they are taken").iter().all(Result::is_ok));
    rig.wait(60 * SECOND).await;
    assert_eq!(arrived(&rig), (0, 0));
    let relay = hub.status().await.expect("a status").relay.expect("there is one");
    assert_eq!(
        (relay.relayed, relay.outbox.waiting),
        (0, 20),
        "nothing is relayed before the flow has joined"
    );
    rig.broker.refuse(false);
    rig.until("all arrived", async || arrived(&rig) == (20, 20)).await;
    assert!(hub.stop(20 * SECOND).await);
}
