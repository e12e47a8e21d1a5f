//! Dead letters and replays are every worker's.

use std::time::{Duration, Instant};

use crossdock_sim::{Answer, Rule};
use crossdock_tests::Hub;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::{Broker, Cluster, PATIENCE, set_tracker};

const KEYS: u64 = 24;

/// Two workers, and a dead letter of each key, in partitions of both.
async fn dead_letters(broker: Broker) -> (Cluster, [Hub; 2]) {
    let cluster = Cluster::new(broker, "").await;
    let workers = cluster.two_workers().await;
    cluster.sink.script().push(Rule::any(), Answer::status(422));
    cluster.write(KEYS, 1).await;
    for worker in &workers {
        worker.wait_until("/v1/status", |status| status["dead"] == KEYS).await.expect("all die");
    }
    cluster.sink.script().clear();
    (cluster, workers)
}

async fn replay(worker: &Hub, rate: u64) -> String {
    let body = json!({ "selection": {}, "rate": rate, "reason": "mended" });
    let replay = worker.post("/v1/replays", &body).await.expect("a replay");
    format!("/v1/replays/{}", replay["id"].as_str().expect("an id"))
}

async fn set(worker: &Hub, replay: &str, state: &str) {
    let body = json!({ "state": state, "reason": "test" });
    let (status, answer) = worker.call(Method::PATCH, replay, Some(&body)).await.expect("it answers");
    assert!(status.is_success(), "{answer}");
}

/// Every worker lists all, tries one, whoever owns its partition, and starts a replay that keeps its rate over all of them.
async fn a_replay_is_everybodys(broker: Broker) {
    let (cluster, workers) = dead_letters(broker).await;
    let letters = workers[1].get("/v1/dead-letters?limit=100").await.expect("every worker lists them");
    let letters = letters["items"].as_array().expect("a list").clone();
    assert_eq!(letters.len() as u64, KEYS);
    // Both workers try the same partitions, so that one of them tries those of the other: also while the connection is paused.
    set_tracker(&workers[0], "paused").await;
    let is_paused = |status: &Value| status["state"] == "paused";
    workers[1].wait_until("/v1/connections/tracker", is_paused).await.expect("both know");
    for (worker, letters) in workers.iter().zip([&letters[..4], &letters[4..8]]) {
        for letter in letters {
            let test = json!({ "dead_letter": letter["id"], "reason": "is it mended?" });
            let result = worker.post("/v1/replay-tests", &test).await.expect("the test is made");
            let told = (&result["outcome"], &result["attempt"]["status"]);
            assert_eq!(told, (&json!("delivered"), &json!(200)), "{result}");
        }
    }
    set_tracker(&workers[1], "ok").await;
    let (began, rate) = (Instant::now(), 8);
    let replay = replay(&workers[0], rate).await;
    let succeeded = |replay: &Value| replay["state"] == "succeeded";
    let done = workers[1].wait_until(&replay, succeeded).await.expect("it comes to its end");
    assert_eq!((&done["delivered"], &done["failed"]), (&json!(KEYS - 8), &json!(0)));
    // One is sent at once, all others at the rate.
    let least = Duration::from_secs(KEYS - 8 - 1) / u32::try_from(rate).expect("small");
    assert!(began.elapsed() >= least, "{} items at {rate} a second took {:?}", KEYS - 8, began.elapsed());
    assert_eq!(cluster.sink.ledger().counts().accepted, KEYS, "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_everybodys_with_kafka() {
    a_replay_is_everybodys(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_everybodys_with_rabbitmq() {
    a_replay_is_everybodys(Broker::RabbitMq).await;
}

/// What one worker has begun another one pauses, resumes and cancels; what was not sent stays a dead letter.
async fn another_worker_pauses_and_cancels(broker: Broker) {
    let (cluster, workers) = dead_letters(broker).await;
    let ledger = cluster.sink.ledger();
    let replay = replay(&workers[0], 5).await;
    ledger.wait_for_accepted(3, PATIENCE).await.expect("it is under way");
    set(&workers[1], &replay, "paused").await;
    workers[0].wait_until(&replay, |replay| replay["state"] == "paused").await.expect("both know");
    // Workers look at each other's replays every second.
    let (paused, most) = (ledger.counts().accepted, Duration::from_secs(3));
    let more = ledger.wait_for_accepted(paused + 10, most).await;
    more.expect_err("it does not go on at its rate");
    set(&workers[0], &replay, "running").await;
    let resumed = ledger.counts().accepted;
    ledger.wait_for_accepted(resumed + 2, PATIENCE).await.expect("it goes on");
    set(&workers[1], &replay, "cancelled").await;
    for worker in &workers {
        // What was out when it was cancelled still arrives, and counts a moment later.
        let sent = || ledger.counts().accepted;
        let counted = |replay: &Value| replay["state"] == "cancelled" && replay["delivered"] == sent();
        worker.wait_until(&replay, counted).await.expect("both know");
        let rest = |status: &Value| status["dead"] == KEYS - sent() && status["held"] == 0;
        worker.wait_until("/v1/status", rest).await.expect("the others are dead letters still");
    }
    let sent = ledger.counts().accepted;
    assert!((5..KEYS).contains(&sent), "some were sent, and not all: {sent}");
    assert_eq!(ledger.tally().twice, 0, "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_pauses_and_cancels_with_kafka() {
    another_worker_pauses_and_cancels(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_pauses_and_cancels_with_rabbitmq() {
    another_worker_pauses_and_cancels(Broker::RabbitMq).await;
}
