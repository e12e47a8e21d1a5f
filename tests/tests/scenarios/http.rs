//! Input that is malformed, forged, too much or too slow gets a clear answer, and the hub goes on.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use crossdock_sim::{Sink, github_signature, standard_signature};
use crossdock_tests::{Hub, Setup};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::common::{PATIENCE, SIGNING_SECRET as PARTNER_SECRET, event, publish, sink};

const GITHUB_SECRET: &str = "It's a Secret to Everybody";
const MIB: usize = 1 << 20;
const CLOUDEVENT: &str = "application/cloudevents+json";

/// Webhooks of two vendors and a topic, all to the sink, with more lines for the hub.
fn config(sink: &Sink, hub: &str) -> String {
    format!(
        "data: ./data
listen: 127.0.0.1:0
{hub}connections:
  github:
    connector: github
    config: {{ secret: \"${{env.GITHUB_WEBHOOK_SECRET}}\" }}
  partner:
    connector: standard-webhooks
    config: {{ secret: \"${{env.PARTNER_SECRET}}\" }}
  tracker:
    connector: http
    config: {{ base_url: {url}, allow_loopback: true }}
flows:
  from-github:
    from: {{ connection: github }}
    to: {{ connection: tracker, action: post, path: /github }}
  from-partner:
    from: {{ connection: partner }}
    to: {{ connection: tracker, action: post, path: /partner }}
  from-orders:
    from: {{ topic: orders }}
    to: {{ connection: tracker, action: post, path: /orders }}
",
        url = sink.url(),
    )
}

async fn start(sink: &Sink, hub: &str) -> (Setup, Hub) {
    let setup = Setup::new(&config(sink, hub)).expect("a folder");
    let setup =
        setup.variable("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET).variable("PARTNER_SECRET", PARTNER_SECRET);
    let hub = setup.start().await.expect("the hub starts");
    (setup, hub)
}

fn post(hub: &Hub, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> RequestBuilder {
    let request = Client::new().post(format!("{}{path}", hub.url)).timeout(PATIENCE).body(body);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Sends, and checks that the answer is a problem of this status. Returns it.
async fn refused(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.expect("an answer");
    let (got, media_type) = (answer.status(), answer.headers()["content-type"].clone());
    let text = answer.text().await.expect("a body");
    assert_eq!(
        (got.as_u16(), media_type.to_str().ok()),
        (status, Some("application/problem+json")),
        "{text}"
    );
    let problem: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(problem["status"], status);
    problem
}

async fn accepted(request: RequestBuilder) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    assert_eq!(status, 202, "{}", answer.text().await.unwrap_or_default());
}

fn delivery<'a>(signature: &'a str, id: &'a str) -> [(&'a str, &'a str); 4] {
    let event = ("x-github-event", "issues");
    [
        event,
        ("x-github-delivery", id),
        ("x-hub-signature-256", signature),
        ("content-type", "application/json"),
    ]
}

#[tokio::test]
async fn a_webhook_with_a_wrong_signature_is_refused_and_a_right_one_is_taken() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    let body = r#"{"action":"opened","repository":{"full_name":"o/r"}}"#;
    let right = github_signature(GITHUB_SECRET, body.as_bytes());
    let wrong = github_signature("another secret", body.as_bytes());
    let of_other = github_signature(GITHUB_SECRET, b"{}");
    for signature in
        ["", "sha256=", "sha256=00", &wrong, &of_other, &right["sha256=".len()..], &right.to_uppercase()]
    {
        refused(post(&hub, "/in/github", &delivery(signature, "1"), body), 401).await;
    }
    let unsigned = [("x-github-event", "issues"), ("x-github-delivery", "1")];
    refused(post(&hub, "/in/github", &unsigned, body), 401).await;
    accepted(post(&hub, "/in/github", &delivery(&right, "1"), body)).await;
    accepted(post(&hub, "/in/github", &delivery(&right, "1"), body)).await;
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("it arrives");
    let status = hub.get("/v1/status").await.expect("a status");
    assert_eq!((&status["accepted"], &status["duplicates"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_webhook_of_another_time_is_refused() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    let now = jiff::Timestamp::now().as_second();
    let send = |timestamp: String, id: &'static str| {
        let signature = standard_signature(PARTNER_SECRET, id, &timestamp, b"{}").expect("a signature");
        let headers =
            [("webhook-id", id), ("webhook-timestamp", &timestamp), ("webhook-signature", &signature)];
        post(&hub, "/in/partner", &headers, "{}")
    };
    for timestamp in [now - 3600, now + 3600, 0, -1] {
        refused(send(timestamp.to_string(), "m1"), 401).await;
    }
    refused(send("soon".to_owned(), "m1"), 401).await;
    accepted(send(now.to_string(), "m1")).await;
}

#[tokio::test]
async fn a_webhook_that_is_signed_but_no_json_is_malformed_and_an_unknown_one_not_found() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    let signature = github_signature(GITHUB_SECRET, b"{\"a\":");
    let problem = refused(post(&hub, "/in/github", &delivery(&signature, "1"), "{\"a\":"), 400).await;
    assert_eq!(problem["pointer"], "");
    let problem = refused(post(&hub, "/in/gihub", &delivery(&signature, "1"), "{}"), 404).await;
    assert!(problem.to_string().contains("github"), "it says what was meant: {problem}");
    // Events go out through the tracker; none come in.
    refused(post(&hub, "/in/tracker", &[], "{}"), 404).await;
}

#[tokio::test]
async fn what_is_no_cloudevent_is_refused_with_its_place() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    let deep = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}{}}}"#,
        "[".repeat(1000),
        "]".repeat(1000)
    );
    for (body, pointer) in [
        ("", ""),
        ("{", ""),
        ("nonsense", ""),
        ("[]", ""),
        (r#"{"id":"1","source":"/s","type":"t"}"#, "/specversion"),
        (r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "/id"),
        (r#"{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}"#, "/id"),
        (r#"{"specversion":"1.0","id":"1","source":"/s","type":{}}"#, "/type"),
        (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"?"}"#, "/data_base64"),
        (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"\ud800"}"#, "/data"),
        (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","Bad-Name":"x"}"#, "/Bad-Name"),
    ] {
        let problem =
            refused(post(&hub, "/v1/topics/orders/events", &[("content-type", CLOUDEVENT)], body), 400).await;
        assert_eq!(problem["pointer"], pointer, "{body}: {problem}");
    }
    refused(post(&hub, "/v1/topics/orders/events", &[("content-type", CLOUDEVENT)], deep), 400).await;
    refused(post(&hub, "/v1/topics/orders/events", &[("content-type", "text/plain")], "hello"), 400).await;
    refused(post(&hub, "/v1/topics/ordres/events", &[("content-type", CLOUDEVENT)], "{}"), 404).await;
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("a good one arrives");
    assert_eq!(hub.get("/v1/status").await.expect("a status")["accepted"], 1, "and nothing else was taken");
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_refused_before_it_is_read_whole() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    for path in ["/in/github", "/v1/topics/orders/events"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {CLOUDEVENT}\r\ncontent-length: {}\r\n\r\n",
            MIB + 1
        );
        let mut client = connect(&hub).await;
        client.write_all(head.as_bytes()).await.expect("it is sent");
        let answer = read_some(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "answered to the head alone: {answer}");
    }
    let event = |bytes: usize| {
        let frame = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":""}"#;
        frame.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - frame.len())))
    };
    let content_type = [("content-type", CLOUDEVENT)];
    refused(post(&hub, "/v1/topics/orders/events", &content_type, event(MIB + 1)), 413).await;
    accepted(post(&hub, "/v1/topics/orders/events", &content_type, event(MIB))).await;
}

#[tokio::test]
async fn a_packed_body_is_counted_after_unpacking() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    let send = |coding: &str, body: Vec<u8>| {
        post(
            &hub,
            "/v1/topics/orders/events",
            &[("content-type", CLOUDEVENT), ("content-encoding", coding)],
            body,
        )
    };
    let bomb = gzip(&vec![b' '; 64 * MIB]);
    assert!(bomb.len() < MIB, "it is small on the wire");
    refused(send("gzip", bomb), 413).await;
    refused(send("gzip", b"not gzip".to_vec()), 400).await;
    refused(send("br", b"{}".to_vec()), 415).await;
    let one = event("1", "k", &json!({ "key": "k", "seq": 1 }));
    accepted(send("gzip", gzip(one.to_string().as_bytes()))).await;
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("it arrives unpacked");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

#[tokio::test]
async fn more_than_the_rate_is_told_when_to_come_again_and_then_taken() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "limits: { rate: 5/s }\n").await;
    let send = |n: usize| {
        let one = event(&n.to_string(), "k", &json!({ "key": "k", "seq": n }));
        post(&hub, "/v1/topics/orders/events", &[("content-type", CLOUDEVENT)], one.to_string())
    };
    let mut taken = 0;
    let wait = loop {
        let answer = send(taken).send().await.expect("an answer");
        if answer.status() == 429 {
            break answer.headers()["retry-after"].to_str().expect("text").parse().expect("whole seconds");
        }
        assert_eq!(answer.status(), 202);
        taken += 1;
        assert!(taken < 1000, "the rate is not kept");
    };
    tokio::time::sleep(Duration::from_secs(wait)).await;
    accepted(send(taken)).await;
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_are_cut_after_thirty_seconds() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    let began = Instant::now();
    let head = "POST /v1/topics/orders/events HTTP/1.1\r\nhost: localhost\r\n";
    let body = format!("{head}content-type: {CLOUDEVENT}\r\ncontent-length: 1000\r\n\r\n{{");
    let (slow_head, slow_body) = tokio::join!(dripped(&hub, head, "x: y\r\n"), dripped(&hub, &body, " "));
    assert!(began.elapsed().as_secs() >= 29, "it had its time: {:?}", began.elapsed());
    assert!(!slow_head.contains("HTTP/1.1 2"), "{slow_head}");
    assert!(slow_body.starts_with("HTTP/1.1 408 "), "{slow_body}");
}

/// Sends something, then a little more each second, and returns what was answered until the connection was closed.
async fn dripped(hub: &Hub, first: &str, more: &str) -> String {
    let mut client = connect(hub).await;
    client.write_all(first.as_bytes()).await.expect("it is sent");
    let mut answer = Vec::new();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match timeout(Duration::from_secs(1), client.read_buf(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return String::from_utf8_lossy(&answer).into_owned(),
            Ok(Ok(_)) => {}
            // It may be closed by now, which the next read sees.
            Err(_) => drop(client.write_all(more.as_bytes()).await),
        }
    }
    panic!("the connection was never closed");
}

async fn connect(hub: &Hub) -> TcpStream {
    TcpStream::connect(hub.url.trim_start_matches("http://")).await.expect("a connection")
}

async fn read_some(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, client.read_buf(&mut answer))
        .await
        .expect("an answer in time")
        .expect("it can be read");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_web_page_cannot_drive_a_local_hub() {
    let sink = sink().await;
    let (_setup, hub) = start(&sink, "").await;
    let pause = json!({ "state": "paused", "reason": "because I can" });
    let patch = |name: &str, value: &str| {
        let url = format!("{}/v1/connections/tracker", hub.url);
        Client::new().patch(url).header(name, value).json(&pause).timeout(PATIENCE)
    };
    refused(patch("host", "evil.example"), 421).await;
    refused(patch("origin", "http://evil.example"), 403).await;
    refused(patch("sec-fetch-site", "cross-site"), 403).await;
    // What a page can send without asking first.
    let simple = [("content-type", "text/plain"), ("origin", "http://evil.example")];
    refused(post(&hub, "/v1/replays", &simple, r#"{"selection":{},"reason":"x"}"#), 403).await;
    assert_eq!(hub.get("/v1/connections/tracker").await.expect("a connection")["state"], "ok");
    let (status, _) =
        hub.call(Method::PATCH, "/v1/connections/tracker", Some(&pause)).await.expect("an answer");
    assert_eq!(status, 200, "a program may");
}

#[tokio::test]
async fn an_open_address_needs_a_token_and_the_token_opens_it() {
    let sink = sink().await;
    let open = config(&sink, "").replace("127.0.0.1:0", "0.0.0.0:0");
    let setup = Setup::new(&open).expect("a folder");
    let setup =
        setup.variable("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET).variable("PARTNER_SECRET", PARTNER_SECRET);
    let setup = setup.variable("HUB_TOKEN", "correct-horse-battery-staple");
    let output = setup.command(&["run"]).await.expect("it ends");
    assert!(!output.status.success(), "it does not start");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("token") && message.contains("listen"), "it says what is missing: {message}");

    setup.rewrite(&open.replace("data:", "token: \"${env.HUB_TOKEN}\"\ndata:")).expect("written");
    let hub = setup.start().await.expect("the hub starts");
    let url = hub.url.replace("0.0.0.0", "127.0.0.1");
    let get =
        |token: &str| Client::new().get(format!("{url}/v1/status")).bearer_auth(token).timeout(PATIENCE);
    refused(Client::new().get(format!("{url}/v1/status")).timeout(PATIENCE), 401).await;
    refused(get("correct-horse-battery"), 401).await;
    assert_eq!(get("correct-horse-battery-staple").send().await.expect("an answer").status(), 200);
    let live = Client::new().get(format!("{url}/health/live")).timeout(PATIENCE).send().await;
    assert_eq!(live.expect("an answer").status(), 200, "a probe needs none");
    assert!(!hub.log_lines().join("\n").contains("correct-horse"), "the token is in no log");
}
