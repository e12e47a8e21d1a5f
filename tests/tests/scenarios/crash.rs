//! `kill -9` at any moment: nothing accepted is lost, order is kept, only what was in flight comes twice.

use std::time::Duration;

use crossdock_sim::{Answer, Rule, Sink};
use crossdock_tests::{Hub, Setup, Writer};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::common::{check_nothing_lost, config, duplicates, sink};

/// Retries in both tiers: the first in the lane, the second in the store.
const RETRY: &str = "    retry: { schedule: [20ms, 2500ms, 2500ms, 2500ms], jitter: 0.1 }\n";
/// What may come twice after a death: what was sent and not answered, one for each of the writers' 16 keys, and what was
/// answered in the last milliseconds and not yet durable, another one for each.
const IN_FLIGHT: usize = 32;

/// Every named point at which the hub can be made to die.
const POINTS: [&str; 12] = [
    "append.before_commit",
    "append.after_commit",
    "settle.before_commit",
    "settle.after_commit",
    "completed.before_commit",
    "completed.after_commit",
    "dedupe.merge",
    "checkpoint",
    "attempt.before_call",
    "attempt.after_call",
    "held.loaded",
    "batch.route",
];

/// A few failures all the time, so that lanes, held events and their removal are under way when the hub dies.
fn disturb(sink: &Sink, random: &mut StdRng) {
    sink.script().clear();
    for _ in 0..3 {
        let key = format!("k{}", random.random_range(0..16));
        sink.script().push(Rule::any().key(key).times(random.random_range(1..4)), Answer::status(503));
    }
}

async fn start(setup: &Setup, writer: Option<&Writer>, variables: &[(&str, &str)]) -> Hub {
    let hub = setup.start_with(variables).await.expect("the hub starts");
    if let Some(writer) = writer {
        writer.moved_to(&hub.url);
    }
    hub
}

#[tokio::test]
async fn twelve_kills_at_random_moments_lose_nothing() {
    let seed = std::env::var("CROSSDOCK_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("CROSSDOCK_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, RETRY)).expect("a folder");
    let mut hub = start(&setup, None, &[]).await;
    let writer = Writer::start(&hub.url, "orders", 16, Duration::from_millis(2));
    for _ in 0..12 {
        disturb(&sink, &mut random);
        tokio::time::sleep(Duration::from_millis(random.random_range(20..700))).await;
        hub.kill().await.expect("the hub dies");
        hub = start(&setup, Some(&writer), &[]).await;
    }
    sink.script().clear();
    let accepted = writer.finish().await;
    check_nothing_lost(&accepted, sink.ledger()).await;
    let twice = duplicates(sink.ledger());
    assert!(twice <= 12 * IN_FLIGHT, "{twice} came twice; at most {IN_FLIGHT} may at each of 12 kills");
    drop(hub);
}

#[tokio::test]
async fn a_death_at_each_named_point_loses_nothing() {
    let mut random = StdRng::seed_from_u64(12);
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, RETRY)).expect("a folder");
    let mut hub = start(&setup, None, &[]).await;
    let writer = Writer::start(&hub.url, "orders", 16, Duration::from_millis(2));
    for point in POINTS {
        hub.kill().await.expect("the hub dies");
        disturb(&sink, &mut random);
        let nth = random.random_range(2..6);
        hub = setup.spawn(&[("CROSSDOCK_FAILPOINT", &format!("{point}:{nth}"))]).expect("the hub starts");
        // What waited for it goes out at once, so it may die before it is ready.
        if hub.wait_ready().await.is_ok() {
            writer.moved_to(&hub.url);
        }
        let status =
            hub.wait_end().await.unwrap_or_else(|error| panic!("the hub never came to {point}: {error:#}"));
        assert!(!status.success(), "the hub died at {point}");
        hub = start(&setup, Some(&writer), &[]).await;
    }
    sink.script().clear();
    let accepted = writer.finish().await;
    check_nothing_lost(&accepted, sink.ledger()).await;
    let deaths = 2 * POINTS.len();
    let twice = duplicates(sink.ledger());
    assert!(
        twice <= deaths * IN_FLIGHT,
        "{twice} came twice; at most {IN_FLIGHT} may at each of {deaths} deaths"
    );
    drop(hub);
}
