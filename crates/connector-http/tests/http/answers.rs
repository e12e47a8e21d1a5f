//! What is made of an answer, and of none.

use std::time::Duration;

use crate::common::{LOOPBACK, Server, action, call, call_once, item, refused, secret, text, with};
use crossdock_sdk::{Class, Environment, Fault, Setting, Wait};
use crossdock_sim::{Answer, Rule, Sink, SinkOptions};
use tokio::{net::TcpStream, time::timeout};

async fn sink(answer: Answer) -> Sink {
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    sink.script().push(Rule::any(), answer);
    sink
}

async fn fault(answer: Answer, config: Vec<(&str, Setting)>) -> Fault {
    let sink = sink(answer).await;
    let output = call_once("post", &sink.url(), config, item("{}")).await;
    output.result.expect_err("it is a failure")
}

#[tokio::test]
async fn only_2xx_is_success_and_every_other_status_has_its_class() {
    let table = [
        (Class::Transient, &[408, 500, 502, 503, 504, 520, 599][..]),
        (Class::Throttled, &[429]),
        (Class::AuthBroken, &[401]),
        (
            Class::Rejected,
            &[300, 301, 302, 304, 307, 308, 400, 403, 404, 405, 409, 410, 413, 422, 451, 501, 505],
        ),
    ];
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    let post = action("post", &sink.url(), Vec::new(), LOOPBACK).unwrap();
    for status in [200, 201, 202, 204, 206, 299] {
        sink.script().clear();
        sink.script().push(Rule::any(), Answer::status(status));
        let output = call(&post, item("{}")).await;
        assert_eq!((output.status, output.result), (Some(status), Ok(())));
    }
    for (class, statuses) in table {
        for status in statuses {
            sink.script().clear();
            sink.script().push(Rule::any(), Answer::status(*status));
            let output = call(&post, item("{}")).await;
            let fault = output.result.expect_err("a failure");
            assert_eq!((fault.class, fault.status, output.status), (class, Some(*status), Some(*status)));
        }
    }
}

#[tokio::test]
async fn a_status_that_the_connection_names_is_success_too() {
    let list = || vec![("success", Setting::TextList(vec!["409".to_owned()]))];
    let sink = sink(Answer::status(409)).await;
    assert_eq!(call_once("post", &sink.url(), list(), item("{}")).await.result, Ok(()));
    assert_eq!(fault(Answer::status(404), list()).await.class, Class::Rejected);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Sink::start(SinkOptions::default()).await.unwrap();
    let fault = fault(Answer::redirect(elsewhere.url()), Vec::new()).await;
    assert_eq!((fault.class, fault.status), (Class::Rejected, Some(307)));
    assert!(fault.message.contains(&elsewhere.url()), "{}", fault.message);
    assert_eq!(elsewhere.ledger().counts().requests, 0);
}

#[tokio::test]
async fn the_wait_that_is_asked_for_is_passed_on() {
    let wait = |status, value: &str| {
        let answer = Answer::status(status).header("retry-after", value);
        async move { fault(answer, Vec::new()).await.wait }
    };
    assert_eq!(wait(429, "17").await, Some(Wait::For(Duration::from_secs(17))));
    assert_eq!(wait(503, "3").await, Some(Wait::For(Duration::from_secs(3))));
    let date = "Fri, 31 Dec 1999 23:59:59 GMT";
    assert_eq!(wait(429, date).await, Some(Wait::Until("1999-12-31T23:59:59Z".parse().unwrap())));
    assert_eq!(wait(429, "soon").await, None);
    assert_eq!(wait(400, "17").await, None, "a rejection is not tried again");
}

#[tokio::test]
async fn the_vendor_s_code_and_the_beginning_of_its_answer_are_kept_without_secrets() {
    let config = vec![
        ("token", secret("canary-token-8d1f")),
        ("secret_headers", Setting::SecretMap(vec![("x-api-secret".into(), "canary-header-77aa".into())])),
        ("signing_secret", secret("whsec_Q2FuYXJ5T25lQ2FuYXJ5T25lQ2FuYXJ5T25l")),
    ];
    let echo = "you sent authorization: Bearer canary-token-8d1f, x-api-secret: canary-header-77aa, \
                Q2FuYXJ5T25lQ2FuYXJ5T25lQ2FuYXJ5T25l and sku 17";
    let fault = fault(Answer::error(422, "UNKNOWN_SKU", echo), config).await;
    assert_eq!(fault.code.as_deref(), Some("UNKNOWN_SKU"));
    let shown = format!("{fault:?}");
    assert!(shown.contains("and sku 17"), "{shown}");
    for canary in ["canary-token", "canary-header", "Q2FuYXJ5"] {
        assert!(!shown.contains(canary), "{shown}");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let fault = fault(Answer::status(400).body("x".repeat(1 << 20)), Vec::new()).await;
    assert_eq!(fault.excerpt.map(|excerpt| (excerpt.len(), excerpt.ends_with('…'))), Some((2048 + 3, true)));
}

#[tokio::test]
async fn success_does_not_wait_for_a_body_that_never_ends() {
    for answer in [Answer::huge(u64::MAX), Answer::drip(vec![b'x'; 600], Duration::from_secs(1))] {
        let sink = sink(answer).await;
        let output = call_once("post", &sink.url(), Vec::new(), item("{}")).await;
        assert_eq!(output.result, Ok(()));
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_tried_again_only_if_that_is_safe() {
    let config = |idempotent| {
        let timeout = Setting::Duration(Duration::from_millis(100));
        vec![("timeout", timeout), ("idempotent", Setting::Bool(idempotent))]
    };
    for (answer, code) in [(Answer::hang(), "timeout"), (Answer::cut(), "connection_lost")] {
        let safe = fault(answer.clone(), config(true)).await;
        assert_eq!((safe.class, safe.code.as_deref()), (Class::Transient, Some(code)));
        let unsafe_ = fault(answer.clone(), config(false)).await;
        assert_eq!((unsafe_.class, unsafe_.code.as_deref()), (Class::Ambiguous, Some(code)));
        let sink = sink(answer).await;
        let put = call_once("put", &sink.url(), config(false), item("{}")).await;
        assert_eq!(put.result.map_err(|fault| fault.class), Err(Class::Transient), "a PUT may be repeated");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_transient_whatever_the_action() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = call_once("post", &url, vec![("idempotent", Setting::Bool(false))], item("{}")).await;
    let fault = output.result.unwrap_err();
    assert_eq!((fault.class, fault.code.as_deref()), (Class::Transient, Some("connect")));
    assert_eq!(output.request, Some(format!("POST {url}/")));
    assert!(fault.advice.is_some());
    let output = call_once("post", "http://nowhere.invalid", Vec::new(), item("{}")).await;
    let fault = output.result.unwrap_err();
    assert_eq!((fault.class, fault.code.as_deref()), (Class::Transient, Some("dns")));
}

#[tokio::test]
async fn a_server_that_takes_no_connection_may_be_tried_again_whatever_the_action() {
    // Nobody accepts here, so that connections beyond the backlog are never made.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(made) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        waiting.push(made.unwrap());
    }
    // As long as the call itself may take, by which the connection's own time-out would not decide.
    for connect_timeout in [Duration::from_millis(300), Duration::from_secs(5)] {
        let config = vec![
            ("timeout", Setting::Duration(Duration::from_millis(300))),
            ("connect_timeout", Setting::Duration(connect_timeout)),
            ("idempotent", Setting::Bool(false)),
        ];
        let output = call_once("post", &format!("http://{address}"), config, item("{}")).await;
        let fault = output.result.unwrap_err();
        assert_eq!((fault.class, fault.code.as_deref()), (Class::Transient, Some("connect_timeout")));
    }
}

#[tokio::test]
async fn what_is_no_http_is_no_success() {
    let server = Server::with("SSH-2.0-OpenSSH_9.2\r\n").await;
    let output = call_once("post", &server.url, Vec::new(), item("{}")).await;
    assert_eq!((output.status, output.result.map_err(|fault| fault.class)), (None, Err(Class::Transient)));
}

#[tokio::test]
async fn this_machine_is_called_only_by_hubs_on_loopback_or_when_the_connection_says_so() {
    let public = Environment { loopback: false };
    let sink = sink(Answer::ok()).await;
    for url in [sink.url(), sink.url().replace("127.0.0.1", "localhost"), "http://[::1]:1".to_owned()] {
        let (field, message) = refused(&url, Vec::new(), public);
        assert_eq!(field, "base_url");
        assert!(message.contains("allow_loopback"), "{message}");
    }
    let allowed = vec![("allow_loopback", Setting::Bool(true))];
    let post = action("post", &sink.url(), allowed, public).unwrap();
    assert_eq!(call(&post, item("{}")).await.result, Ok(()));
    let forbidden = vec![("allow_loopback", Setting::Bool(false))];
    assert_eq!(refused(&sink.url(), forbidden, LOOPBACK).0, "base_url", "the connection has the last word");
}

#[test]
fn metadata_and_link_local_addresses_are_refused_unless_they_are_listed() {
    for host in [
        "169.254.169.254",
        "169.254.1.1",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "0xa9fea9fe",
        "0.0.0.0",
        "metadata.google.internal",
        "METADATA.google.internal.",
    ] {
        let url = format!("http://{host}/latest");
        assert_eq!(refused(&url, Vec::new(), LOOPBACK).0, "base_url", "{host}");
        let listed = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254", "0.0.0.0/8"];
        let listed = Setting::TextList(listed.map(str::to_owned).to_vec());
        assert!(action("post", &url, vec![("allow_addresses", listed)], LOOPBACK).is_ok(), "{host}");
    }
    for host in ["10.0.0.1", "192.168.1.1", "100.64.0.1", "[fd12:3456::1]", "93.184.216.34"] {
        assert!(action("post", &format!("http://{host}"), Vec::new(), LOOPBACK).is_ok(), "{host}");
    }
}

#[tokio::test]
async fn signing_in_is_refused_as_a_whole_connection_s_trouble() {
    let fault = fault(Answer::status(401).header("retry-after", "9"), vec![("auth", text("none"))]).await;
    assert_eq!((fault.class, fault.wait), (Class::AuthBroken, None));
    assert!(fault.advice.is_some_and(|advice| advice.contains("credentials")));
}

#[tokio::test]
async fn one_output_for_each_item_in_their_order() {
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    sink.script().push(Rule::path("/bad"), Answer::status(400));
    let post = action("post", &sink.url(), Vec::new(), LOOPBACK).unwrap();
    let items = [
        with(item("{}"), "path", "/good"),
        with(item("{}"), "path", "/bad"),
        with(item("{}"), "path", "/good"),
    ];
    let outputs = post.call(&items).await;
    assert_eq!(
        outputs.iter().map(|output| output.status).collect::<Vec<_>>(),
        [Some(200), Some(400), Some(200)]
    );
}
