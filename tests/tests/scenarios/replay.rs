//! Replays: a frozen set, at its own rate, in order, over restarts, and for the flow alone that failed.

use std::time::{Duration, Instant};

use crossdock_sim::{Answer, Rule};
use crossdock_tests::{Hub, Setup};
use serde_json::{Value, json};

use crate::common::{PATIENCE, config, event, publish, sink};

const FLOWS: &str = "  everything:
    from: { topic: orders }
    to: { connection: tracker, action: post, path: /all }
";

fn orders(keys: u64, each: u64) -> Vec<Value> {
    let one = |seq: u64, key: u64| {
        event(&format!("{key}-{seq}"), &format!("k{key}"), &json!({ "key": format!("k{key}"), "seq": seq }))
    };
    (1..=each).flat_map(|seq| (0..keys).map(move |key| one(seq, key))).collect()
}

async fn replay_all(hub: &Hub, rate: Option<u32>) -> Value {
    let group = hub.get("/v1/failure-groups").await.expect("groups")["items"][0]["id"].clone();
    let body = json!({ "selection": { "groups": [group] }, "rate": rate, "reason": "the sink is mended" });
    hub.post("/v1/replays", &body).await.expect("a replay")
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_replay_sends_the_rest_in_order_and_once() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, FLOWS)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::path("/orders"), Answer::status(422));
    publish(&hub, "orders", &orders(20, 20)).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 400).await.expect("all are dead in one flow");
    sink.ledger().wait_for_accepted(400, PATIENCE).await.expect("all arrived in the other");
    sink.script().clear();

    let job = replay_all(&hub, Some(200)).await;
    assert_eq!((&job["total"], &job["state"]), (&json!(400), &json!("running")));
    let path = format!("/v1/replays/{}", job["id"].as_str().expect("an id"));
    hub.wait_until(&path, |job| job["delivered"].as_u64() > Some(100)).await.expect("it is under way");
    hub.kill().await.expect("the hub dies");
    let hub = setup.start().await.expect("the hub starts");
    let done = hub.wait_until(&path, |job| job["state"] == "succeeded").await.expect("it goes on by itself");
    assert_eq!((&done["delivered"], &done["failed"]), (&json!(400), &json!(0)));

    let arrived: Vec<_> =
        sink.ledger().entries().into_iter().filter(|e| e.path == "/orders" && e.accepted()).collect();
    assert!(
        (400..=440).contains(&arrived.len()),
        "{} arrived: 400, and at most what was in flight twice",
        arrived.len()
    );
    for key in 0..20 {
        let name = format!("k{key}");
        // What was in flight may come a second time; the first time decides the order.
        let mut seqs: Vec<u64> = Vec::new();
        for seq in arrived.iter().filter(|e| e.key.as_deref() == Some(&name)).filter_map(|e| e.seq) {
            if !seqs.contains(&seq) {
                seqs.push(seq);
            }
        }
        assert_eq!(seqs, (1..=20).collect::<Vec<_>>(), "{name} in order");
    }
    let all = sink.ledger().entries().iter().filter(|e| e.path == "/all").count();
    assert_eq!(all, 400, "the other flow saw nothing of the replay");
    hub.wait_until("/v1/status", |status| status["dead"] == 0).await.expect("no dead letter is left");
}

#[tokio::test]
async fn a_replay_keeps_its_rate_and_its_webhook_ids() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(422));
    publish(&hub, "orders", &orders(40, 1)).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 40).await.expect("all are dead");
    sink.script().clear();
    let began = Instant::now();
    replay_all(&hub, Some(20)).await;
    sink.ledger().wait_for_accepted(40, PATIENCE).await.expect("all arrive");
    assert!(began.elapsed() >= Duration::from_millis(1800), "40 at 20/s took {:?}", began.elapsed());
    let ids = |accepted: bool| {
        let mut ids: Vec<_> = sink
            .ledger()
            .entries()
            .into_iter()
            .filter(|e| e.accepted() == accepted)
            .filter_map(|e| e.webhook_id)
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(true), ids(false), "each replayed delivery has the id of its first try");
}

#[tokio::test]
async fn what_fails_again_is_dead_again_and_a_test_of_one_tells_at_once() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(422));
    publish(&hub, "orders", &orders(3, 1)).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 3).await.expect("all are dead");
    let group = hub.get("/v1/failure-groups").await.expect("groups")["items"][0]["id"].clone();
    let test = json!({ "group": group, "reason": "is it mended?" });
    let letters = hub.get("/v1/dead-letters").await.expect("letters");
    let oldest = letters["items"].as_array().and_then(|letters| letters.last()).expect("three")["id"].clone();
    let failed = hub.post("/v1/replay-tests", &test).await.expect("a result");
    assert_eq!((&failed["outcome"], &failed["attempt"]["status"]), (&json!("failed"), &json!(422)));
    assert_eq!(failed["dead_letter"], oldest);

    let job = replay_all(&hub, None).await;
    let path = format!("/v1/replays/{}", job["id"].as_str().expect("an id"));
    let failed = hub.wait_until(&path, |job| job["state"] == "failed").await.expect("all fail again");
    assert_eq!((&failed["failed"], &failed["delivered"]), (&json!(3), &json!(0)));
    let letters = hub.get("/v1/dead-letters").await.expect("letters");
    assert_eq!(letters["items"].as_array().map(Vec::len), Some(3), "the same three, not six");

    sink.script().clear();
    let delivered = hub.post("/v1/replay-tests", &test).await.expect("a result");
    assert_eq!((&delivered["outcome"], &delivered["attempt"]["status"]), (&json!("delivered"), &json!(200)));
    hub.wait_until("/v1/status", |status| status["dead"] == 2).await.expect("two are left");
}

#[tokio::test]
async fn a_cancelled_replay_gives_back_what_it_had_not_sent() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(422));
    publish(&hub, "orders", &orders(50, 1)).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 50).await.expect("all are dead");
    sink.script().clear();
    let job = replay_all(&hub, Some(10)).await;
    let path = format!("/v1/replays/{}", job["id"].as_str().expect("an id"));
    hub.wait_until(&path, |job| job["delivered"].as_u64() > Some(3)).await.expect("it is under way");
    let (status, job) = hub
        .call(reqwest::Method::PATCH, &path, Some(&json!({ "state": "cancelled", "reason": "wrong group" })))
        .await
        .expect("an answer");
    assert_eq!((status.as_u16(), &job["state"]), (200, &json!("cancelled")));
    let sent = sink.ledger().counts().accepted;
    let status = hub.wait_until("/v1/status", |status| status["dead"].as_u64() == Some(50 - sent)).await;
    status.expect("what was not sent is an open dead letter again");
    assert_eq!(sink.ledger().counts().accepted, sent, "nothing more is sent");
}
