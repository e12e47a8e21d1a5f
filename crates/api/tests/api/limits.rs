//! Clients that are slow, large or many.

use std::time::{Duration, Instant};

use crossdock_api::ApiOptions;
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Bench, PATIENCE, Reply};

const POST: &str = "POST /v1/topics/orders/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cloudevents+json\r\n";
const SOON: Duration = Duration::from_millis(300);

fn event(id: &str) -> String {
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "test.made" }).to_string()
}

fn whole(id: &str) -> String {
    let event = event(id);
    format!("{POST}content-length: {}\r\n\r\n{event}", event.len())
}

#[tokio::test]
async fn what_is_announced_as_too_large_is_refused_before_it_is_sent() {
    let server = Bench::start().await;
    let mut client = server.connect().await;
    client.send(format!("{POST}content-length: 1048577\r\n\r\n")).await;
    let answer = client.answer().await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("problem:too-large"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_no() {
    let server = Bench::start().await;
    let mut client = server.connect().await;
    client.send(format!("{POST}expect: 100-continue\r\ncontent-length: 9999999\r\n\r\n")).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 413 "));
    let mut client = server.connect().await;
    let event = event("1");
    client.send(format!("{POST}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", event.len())).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 100 "));
    client.send(event).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 202 "));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_at_the_limit_and_the_answer_is_seen() {
    let server = Bench::start().await;
    let mut client = server.connect().await;
    client.send(format!("{POST}transfer-encoding: chunked\r\n\r\n")).await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    client.send_until_refused(chunk.as_bytes(), 32).await;
    let answer = client.answer().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn the_largest_body_passes() {
    let server = Bench::with(ApiOptions { body_bytes_max: event("1").len(), ..ApiOptions::default() }).await;
    assert_eq!(server.publish("application/cloudevents+json", event("1")).await.status, 202);
    server.publish("application/cloudevents+json", event("12")).await.problem(413, "too-large");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let server = Bench::with(ApiOptions { header_timeout: SOON, ..ApiOptions::default() }).await;
    let mut client = server.connect().await;
    client.send("POST /v1/topics/orders/events HTTP/1.1\r\nhost: loc").await;
    let began = Instant::now();
    let answer = client.rest().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(began.elapsed() >= SOON / 2, "it had its time: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_head_that_drips_does_not_win_time() {
    let server = Bench::with(ApiOptions { header_timeout: SOON, ..ApiOptions::default() }).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\n").await;
    let answer = client.drip(b"x: y\r\n", SOON / 10).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Bench::with(ApiOptions { header_timeout: SOON, ..ApiOptions::default() }).await;
    let mut client = server.connect().await;
    client.send(whole("1")).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 202 "));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_slow_body_is_cut_with_408_even_if_it_drips() {
    let server = Bench::with(ApiOptions { body_timeout: SOON, ..ApiOptions::default() }).await;
    for drip in ["", " "] {
        let mut client = server.connect().await;
        client.send(format!("{POST}content-length: 100000\r\n\r\n")).await;
        let began = Instant::now();
        let answer = client.drip(drip.as_bytes(), SOON / 10).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("problem:body-timeout"), "{answer}");
        assert!(began.elapsed() >= SOON, "it had its time: {:?}", began.elapsed());
    }
    assert!(server.taken().await.is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing_behind() {
    let server = Bench::start().await;
    let mut client = server.connect().await;
    client.send(format!("{POST}content-length: 1000\r\n\r\n{}", event("1"))).await;
    drop(client);
    assert_eq!(server.publish("application/cloudevents+json", event("2")).await.status, 202);
    assert_eq!(server.get("/v1/events/1").await.status, 404);
    assert_eq!(server.taken().await.len(), 1);
}

#[tokio::test]
async fn bodies_in_memory_are_bounded_and_the_room_is_given_back() {
    let options =
        ApiOptions { bodies_bytes_max: 1000, body_timeout: Duration::from_secs(20), ..ApiOptions::default() };
    let server = Bench::with(options).await;
    let mut holds = server.connect().await;
    holds.send(format!("{POST}content-length: 1001\r\n\r\n{}", " ".repeat(990))).await;
    // Its bytes count once they are there, and until it is seen to be gone.
    let refused = publish_until(&server, 503).await;
    refused.problem(503, "busy");
    assert_eq!(refused.header("retry-after"), "1");
    drop(holds);
    publish_until(&server, 202).await;
}

/// Publishes an event until the answer has this status.
async fn publish_until(server: &Bench, status: u16) -> Reply {
    let answered = async {
        loop {
            let reply = server.publish("application/cloudevents+json", event("1")).await;
            if reply.status == status {
                return reply;
            }
            assert!([202, 503].contains(&reply.status), "{reply:?}");
        }
    };
    timeout(PATIENCE, answered).await.unwrap_or_else(|_| panic!("it never answers {status}"))
}

#[tokio::test]
async fn a_further_connection_waits_for_one_to_end() {
    let server = Bench::with(ApiOptions { connections_max: 1, ..ApiOptions::default() }).await;
    let mut first = server.connect().await;
    first.send(whole("1")).await;
    assert!(first.answer().await.starts_with("HTTP/1.1 202 "));
    let mut second = server.connect().await;
    second.send(whole("2")).await;
    let early = timeout(SOON, second.answer()).await;
    assert!(early.is_err(), "the first connection is still there");
    drop(first);
    assert!(second.answer().await.starts_with("HTTP/1.1 202 "));
}

#[tokio::test]
async fn a_head_that_never_ends_is_refused() {
    let server = Bench::start().await;
    for head in ["x".repeat(1 << 20), format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(5000))] {
        let mut client = server.connect().await;
        client.send_until_refused(head.as_bytes(), 1).await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_harms_nobody() {
    let server = Bench::start().await;
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    let smuggled = format!(
        "{POST}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    );
    for bytes in [&tls_hello[..], b"\0\0\0\0\r\n\r\n", b"GET /\r\n\r\n", smuggled.as_bytes()] {
        let mut client = server.connect().await;
        client.send(bytes).await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(!answer.contains(" 200 "), "nothing is read as a second request: {answer}");
    }
    assert_eq!(server.get("/health/live").await.status, 200);
}
