//! The end of the server.

use std::time::{Duration, Instant};

use crossdock_api::ApiOptions;
use tokio::time::timeout;

use crate::harness::{Bench, PATIENCE, Raw};

const BODY: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;

/// A client in the middle of its request: the server has read the head and waits for the body.
async fn busy(server: &Bench) -> Raw {
    let length = BODY.len();
    let mut client = server.connect().await;
    client
        .send(format!(
            "POST /v1/topics/orders/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cloudevents+json\r\n\
             expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    let told = client.answer().await;
    assert!(told.starts_with("HTTP/1.1 100 "), "{told}");
    client.send(&BODY[..10]).await;
    client
}

#[tokio::test]
async fn idle_connections_close_at_once_and_a_request_that_is_out_finishes() {
    let server = Bench::with(ApiOptions { drain: Duration::from_secs(60), ..ApiOptions::default() }).await;
    let mut idle = server.connect().await;
    idle.send("GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").await;
    idle.answer().await;
    let mut busy = busy(&server).await;
    server.shutdown.cancel();
    assert_eq!(idle.rest().await, "");
    busy.send(&BODY[10..]).await;
    let answer = busy.rest().await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    timeout(PATIENCE, server.server.served).await.expect("it ends").expect("no panic");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_after_the_drain() {
    let drain = Duration::from_millis(300);
    let server = Bench::with(ApiOptions { drain, ..ApiOptions::default() }).await;
    let stuck = busy(&server).await;
    let began = Instant::now();
    server.shutdown.cancel();
    timeout(PATIENCE, server.server.served).await.expect("it ends").expect("no panic");
    assert!(began.elapsed() >= drain);
    assert_eq!(stuck.rest().await, "");
}
