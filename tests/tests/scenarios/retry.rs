//! Every kind of schedule, over the real binary: how often it is tried, how long it waits, and when it gives up.

use std::time::Duration;

use crossdock_sim::{Answer, Rule};
use crossdock_tests::Setup;
use serde_json::json;

use crate::common::{config, event, publish, sink};

/// Fails one event until it is dead; gives the waits between its attempts.
async fn waits_under(retry: &str) -> Vec<Duration> {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, &format!("    retry: {retry}\n"))).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(503));
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 1).await.expect("it is given up");
    let at: Vec<_> = sink.ledger().entries().into_iter().map(|entry| entry.at).collect();
    at.windows(2).map(|pair| pair[1].duration_since(pair[0]).unsigned_abs()).collect()
}

fn each_at_least(waits: &[Duration], milliseconds: &[u64]) {
    assert_eq!(waits.len(), milliseconds.len(), "{waits:?}");
    for (wait, least) in waits.iter().zip(milliseconds) {
        assert!(*wait >= Duration::from_millis(*least), "{waits:?}");
    }
}

#[tokio::test]
async fn a_list_gives_one_attempt_more_than_it_has_waits() {
    each_at_least(&waits_under("{ schedule: [50ms, 150ms], jitter: 0 }").await, &[50, 150]);
}

#[tokio::test]
async fn immediate_tries_three_times() {
    each_at_least(&waits_under("{ schedule: immediate }").await, &[0, 0]);
}

#[tokio::test]
async fn a_fixed_wait_ends_with_the_attempts_that_are_allowed() {
    let retry = "{ schedule: { fixed: 100ms }, jitter: 0, max_attempts: 4 }";
    each_at_least(&waits_under(retry).await, &[100, 100, 100]);
}

#[tokio::test]
async fn an_exponential_wait_grows_to_its_maximum() {
    let retry =
        "{ schedule: { exponential: { initial: 50ms, factor: 3, max: 200ms } }, jitter: 0, max_attempts: 5 }";
    each_at_least(&waits_under(retry).await, &[50, 150, 200, 200]);
}

#[tokio::test]
async fn full_jitter_waits_anything_up_to_the_schedule() {
    let retry = "{ schedule: { exponential: { initial: 100ms, factor: 2, max: 1s } }, jitter: full, max_attempts: 4 }";
    each_at_least(&waits_under(retry).await, &[0, 0, 0]);
}

#[tokio::test]
async fn an_event_that_is_too_old_is_given_up() {
    let waits = waits_under("{ schedule: { fixed: 300ms }, jitter: 0, max_age: 1s }").await;
    assert!((1..=3).contains(&waits.len()), "{waits:?}");
}
