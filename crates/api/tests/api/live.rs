//! The live stream.

use std::time::Duration;

use crossdock_api::ApiOptions;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Bench, PATIENCE, Reply};

async fn open(server: &Bench) -> Response {
    let response = server.request(Method::GET, "/v1/moments").send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response
}

/// The data of the next event of the stream.
async fn next(stream: &mut Response) -> Value {
    let chunk = timeout(PATIENCE, stream.chunk())
        .await
        .expect("in time")
        .expect("it can be read")
        .expect("it goes on");
    let text = String::from_utf8(chunk.to_vec()).expect("text");
    let data = text
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap_or_else(|| panic!("no data: {text}"));
    serde_json::from_str(data).expect("JSON")
}

#[tokio::test]
async fn what_comes_in_is_seen_as_it_happens() {
    let server = Bench::start().await;
    let mut stream = open(&server).await;
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "partitionkey": "k", "data": "secret" });
    server.publish("application/cloudevents+json", event.to_string()).await;
    let moment = next(&mut stream).await;
    let expected = json!({ "moment": "accepted", "topic": "orders", "event": "1", "type": "t", "key": "k", "duplicate": false });
    assert_eq!(moment, expected);
    let pause = json!({ "state": "paused", "reason": "maintenance" });
    server.send(Method::PATCH, "/v1/connections/shop", &pause).await;
    let moment = next(&mut stream).await;
    assert_eq!((&moment["moment"], &moment["state"]), (&json!("connection"), &json!("paused")));
}

#[tokio::test]
async fn receivers_are_bounded_and_a_place_becomes_free() {
    let server = Bench::with(ApiOptions { receivers_max: 1, ..ApiOptions::default() }).await;
    let first = open(&server).await;
    let refused = server.get("/v1/moments").await;
    refused.problem(429, "too-many-receivers");
    assert_eq!(refused.header("retry-after"), "1");
    drop(first);
    let again = async {
        loop {
            let response = server.request(Method::GET, "/v1/moments").send().await.expect("an answer");
            if response.status() == 200 {
                return response;
            }
            Reply::of(response).await.problem(429, "too-many-receivers");
        }
    };
    timeout(PATIENCE, again).await.expect("the place of the first is free");
}

#[tokio::test]
async fn the_stream_ends_when_the_server_shuts_down() {
    let server = Bench::with(ApiOptions { drain: Duration::from_secs(60), ..ApiOptions::default() }).await;
    let mut stream = open(&server).await;
    server.shutdown.cancel();
    let end = timeout(PATIENCE, stream.chunk()).await.expect("in time");
    assert!(end.expect("a clean end").is_none());
    timeout(PATIENCE, server.server.served).await.expect("long before the drain is over").expect("no panic");
}
