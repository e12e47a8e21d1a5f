//! Events come in, or a clear answer goes out.

use std::io::Write;

use crossdock_api::ApiOptions;
use crossdock_core::PublishError;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Bench, Reply};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

fn event(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "test.made", "data": { "id": id } })
}

async fn webhook(server: &Bench, connection: &str, headers: &[(&str, &str)], body: &'static str) -> Reply {
    let mut request = server.request(Method::POST, &format!("/in/{connection}?a=b")).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Reply::of(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn a_structured_event_is_taken_and_the_second_time_known() {
    let server = Bench::start().await;
    let first = server.publish(ONE, event("1").to_string()).await;
    assert_eq!(
        (first.status, first.json()),
        (202, json!({ "items": [{ "id": "1", "status": "accepted" }] }))
    );
    let second = server.publish(ONE, event("1").to_string()).await;
    assert_eq!((second.status, &second.json()["items"][0]["status"]), (202, &json!("duplicate")));
    assert_eq!(server.taken().await, [r#"{"id":"1"}"#]);
}

#[tokio::test]
async fn a_binary_event_keeps_its_bytes() {
    let server = Bench::start().await;
    let request = server.request(Method::POST, "/v1/topics/orders/events").body("{ \"n\": 1.0 }");
    let headers = [("ce-specversion", "1.0"), ("ce-id", "b1"), ("ce-source", "/s"), ("ce-type", "t")];
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let reply = Reply::of(request.header("content-type", "application/json").send().await.unwrap()).await;
    assert_eq!((reply.status, &reply.json()["items"][0]["id"]), (202, &json!("b1")));
    assert_eq!(server.taken().await, ["{ \"n\": 1.0 }"]);
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_event_in_its_order() {
    let server = Bench::start().await;
    let mut bad = event("bad");
    bad["type"] = json!(7);
    let reply = server.publish(BATCH, json!([event("1"), bad, event("2"), event("1")]).to_string()).await;
    assert_eq!(reply.status, 207);
    let items = reply.json()["items"].clone();
    let statuses: Vec<_> = (0..4).map(|n| items[n]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["accepted", "refused", "accepted", "duplicate"]);
    assert_eq!(items[1]["problem"]["pointer"], "/1/type");
    assert_eq!(server.taken().await.len(), 2);
}

#[tokio::test]
async fn an_empty_batch_is_taken() {
    let reply = Bench::start().await.publish(BATCH, "[]").await;
    assert_eq!((reply.status, reply.json()), (202, json!({ "items": [] })));
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_taken_is_a_problem_with_its_items() {
    let server = Bench::start().await;
    let problem = server.publish(BATCH, "[{}, 7]").await.problem(400, "malformed");
    assert_eq!(problem["pointer"], "/0/specversion");
    assert_eq!(problem["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_small_request_does_not_become_a_large_answer() {
    let server = Bench::start().await;
    let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
    let request = server.request(Method::POST, "/v1/topics/orders/events").header("content-type", BATCH);
    let packed = request.header("content-encoding", "gzip").body(gzip(list(500_000).as_bytes()));
    let reply = Reply::of(packed.send().await.unwrap()).await;
    let problem = reply.problem(400, "malformed");
    assert!(problem["detail"].as_str().unwrap().contains("10,000"), "{problem}");
    assert!(reply.text.len() < 1000, "{} bytes", reply.text.len());

    let reply = server.publish(BATCH, list(10_000)).await;
    let problem = reply.problem(400, "malformed");
    assert!(reply.text.len() < 300_000, "{} bytes", reply.text.len());
    let items = problem["items"].as_array().unwrap();
    assert_eq!((items.len(), &problem["problems_left_out"]), (10_000, &json!(9_900)));
    assert_eq!(items[99]["problem"]["pointer"], "/99");
    assert_eq!(items[100], json!({ "status": "refused" }));
    assert!(server.taken().await.is_empty());
}

#[tokio::test]
async fn the_largest_batch_is_taken_and_one_event_more_is_not() {
    let server = Bench::start().await;
    let mut events: Vec<_> = (0..10_000)
        .map(|n| json!({ "specversion": "1.0", "id": n.to_string(), "source": "/t", "type": "t" }))
        .collect();
    assert_eq!(server.publish(BATCH, json!(events).to_string()).await.status, 202);
    events.push(event("more"));
    server.publish(BATCH, json!(events).to_string()).await.problem(400, "malformed");
    let status = server.get("/v1/status").await.json();
    assert_eq!((&status["accepted"], &status["duplicates"]), (&json!(10_000), &json!(0)));
}

#[tokio::test]
async fn what_is_no_event_is_refused_with_its_place() {
    let server = Bench::start().await;
    for (media_type, body, pointer) in [
        (ONE, "", ""),
        (ONE, "{\"specversion\":", ""),
        (ONE, "[]", ""),
        (BATCH, "{}", ""),
        (BATCH, "[{]", ""),
        (ONE, r#"{"specversion":"1.0","id":"1","source":"/s"}"#, "/type"),
        (ONE, r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#, "/specversion"),
        (ONE, r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"noon"}"#, "/time"),
        ("application/json", "{}", ""),
        ("text/plain", "hello", ""),
    ] {
        let problem = server.publish(media_type, body).await.problem(400, "malformed");
        assert_eq!(problem["pointer"], pointer, "{media_type} {body}: {problem}");
    }
    assert!(server.taken().await.is_empty());
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_one_that_was_meant() {
    let server = Bench::start().await;
    let problem = server.post("/v1/topics/ordres/events", &json!({})).await.problem(404, "not-found");
    assert_eq!((&problem["nearest"], &problem["known"]), (&json!("orders"), &json!(["orders"])));
    let problem = webhook(&server, "shpo", &[], "{}").await.problem(404, "not-found");
    assert_eq!(problem["nearest"], "shop");
    // A topic of a source takes events through its connection only, which verifies them.
    server.post("/v1/topics/in.shop/events", &json!({})).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_webhook_is_taken_once() {
    let server = Bench::start().await;
    let headers = [("x-signature", "good"), ("x-delivery", "d1")];
    let first = webhook(&server, "shop", &headers, "{ \"a\":1}").await;
    assert_eq!((first.status, first.json()), (202, json!({ "accepted": 1, "duplicates": 0 })));
    let again = webhook(&server, "shop", &headers, "{ \"a\":1}").await;
    assert_eq!((again.status, again.json()), (202, json!({ "accepted": 0, "duplicates": 1 })));
    assert_eq!(server.taken().await, ["{ \"a\":1}"]);
}

#[tokio::test]
async fn a_webhook_that_is_not_the_vendors_is_refused() {
    let server = Bench::start().await;
    webhook(&server, "shop", &[], "{}").await.problem(401, "unauthorized");
    webhook(&server, "shop", &[("x-signature", "bad"), ("x-delivery", "1")], "{}")
        .await
        .problem(401, "unauthorized");
    let problem = webhook(&server, "shop", &[("x-signature", "good")], "{}").await.problem(400, "malformed");
    assert_eq!(problem["pointer"], "/id");
    assert!(server.taken().await.is_empty());
}

#[tokio::test]
async fn a_handshake_is_answered_as_the_connector_says() {
    let server = Bench::start().await;
    let reply = webhook(&server, "shop", &[("x-signature", "good")], "hello").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain"));
    assert_eq!(reply.text, "POST /in/shop?a=b");
}

#[tokio::test]
async fn a_packed_body_is_unpacked_and_counted_after_that() {
    let server = Bench::with(ApiOptions { body_bytes_max: 10_000, ..ApiOptions::default() }).await;
    let send = |coding: &'static str, body: Vec<u8>| {
        let request = server.request(Method::POST, "/v1/topics/orders/events").header("content-type", ONE);
        request.header("content-encoding", coding).body(body).send()
    };
    let reply = Reply::of(send("gzip", gzip(event("1").to_string().as_bytes())).await.unwrap()).await;
    assert_eq!((reply.status, server.taken().await), (202, vec![r#"{"id":"1"}"#.to_owned()]));
    let mut large = event("2");
    large["data"] = json!("x".repeat(10_000));
    let reply = Reply::of(send("gzip", gzip(large.to_string().as_bytes())).await.unwrap()).await;
    reply.problem(413, "too-large");
    Reply::of(send("gzip", b"{}".to_vec()).await.unwrap()).await.problem(400, "malformed");
    Reply::of(send("br", b"{}".to_vec()).await.unwrap()).await.problem(415, "unsupported-media-type");
    assert_eq!(server.taken().await.len(), 1);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_store_that_cannot_write_is_told_as_503_with_a_time_to_come_again() {
    let server = Bench::start().await;
    for (refusal, kind) in [
        (PublishError::Unavailable("the disk is full".to_owned()), "unavailable"),
        (PublishError::Unknown, "unavailable"),
        (PublishError::Busy, "busy"),
    ] {
        *server.store.refusal.lock().unwrap() = Some(refusal);
        let reply = server.publish(ONE, event("1").to_string()).await;
        reply.problem(503, kind);
        assert_eq!(reply.header("retry-after"), "1");
        let headers = [("x-signature", "good"), ("x-delivery", "d1")];
        webhook(&server, "shop", &headers, "{}").await.problem(503, kind);
    }
    let partly = server.publish(BATCH, json!([event("1"), event("always")]).to_string()).await;
    assert_eq!((partly.status, &partly.json()["items"][0]["problem"]["status"]), (207, &json!(503)));
    *server.store.refusal.lock().unwrap() = None;
    assert_eq!(server.publish(ONE, event("1").to_string()).await.status, 202);
}

#[tokio::test]
async fn an_event_that_is_too_large_for_the_store_is_told_so() {
    let server = Bench::start().await;
    *server.store.refusal.lock().unwrap() = Some(PublishError::TooLarge { bytes: 9, bytes_max: 8 });
    server.publish(ONE, event("1").to_string()).await.problem(413, "too-large");
}

#[tokio::test]
async fn more_events_than_the_rate_wait_and_are_told_how_long() {
    let server = Bench::with(ApiOptions { rate: Some(3.0), ..ApiOptions::default() }).await;
    let batch =
        |count: usize| json!((0..count).map(|n| event(&n.to_string())).collect::<Vec<_>>()).to_string();
    let problem = server.publish(BATCH, batch(31)).await.problem(413, "too-large");
    assert!(problem["detail"].as_str().unwrap().contains("at most 30"), "{problem}");
    assert_eq!(server.publish(BATCH, batch(30)).await.status, 202, "what was refused was not counted");
    let reply = server.publish(ONE, event("next").to_string()).await;
    reply.problem(429, "rate-limited");
    let seconds: u64 = reply.header("retry-after").parse().expect("whole seconds");
    assert!((1..=10).contains(&seconds), "28 events over at 3/s: {seconds} s");
    webhook(&server, "shop", &[("x-signature", "good"), ("x-delivery", "1")], "{}")
        .await
        .problem(429, "rate-limited");
}

#[tokio::test]
async fn what_is_refused_costs_nobody_his_rate() {
    let server = Bench::with(ApiOptions { rate: Some(0.001), ..ApiOptions::default() }).await;
    for _ in 0..5 {
        webhook(&server, "shop", &[("x-signature", "bad")], "{}").await.problem(401, "unauthorized");
        webhook(&server, "shop", &[("x-signature", "good")], "{}").await.problem(400, "malformed");
        server.publish(BATCH, "[0,{},0]").await.problem(400, "malformed");
        server.publish(ONE, "nonsense").await.problem(400, "malformed");
    }
    let headers = [("x-signature", "good"), ("x-delivery", "1")];
    assert_eq!(webhook(&server, "shop", &headers, "{}").await.status, 202, "the only event of this hour");
    let headers = [("x-signature", "good"), ("x-delivery", "2")];
    webhook(&server, "shop", &headers, "{}").await.problem(429, "rate-limited");
    server.publish(ONE, event("1").to_string()).await.problem(429, "rate-limited");
}

#[tokio::test]
async fn a_hub_that_stops_takes_nothing_and_says_so() {
    let server = Bench::start().await;
    assert!(server.hub.stop(std::time::Duration::from_secs(1)).await);
    let reply = server.publish(ONE, event("1").to_string()).await;
    reply.problem(503, "stopping");
    assert_eq!(reply.header("retry-after"), "1");
    webhook(&server, "shop", &[("x-signature", "good"), ("x-delivery", "1")], "{}")
        .await
        .problem(503, "stopping");
    server.get("/health/ready").await.problem(503, "stopping");
    assert_eq!(server.get("/health/live").await.status, 200);
    assert_eq!(server.get("/v1/status").await.json()["state"], "stopping");
    assert!(server.taken().await.is_empty());
}
