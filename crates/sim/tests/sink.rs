//! The sink: scripted answers, its ledger, its stop.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use crossdock_sim::{Answer, Ledger, LedgerOptions, Place, Rule, Sink, SinkOptions};

const SECOND: Duration = Duration::from_secs(1);

async fn sink() -> Sink {
    let key = Some(Place::Header("x-key".to_owned()));
    let ledger = LedgerOptions { key, ..LedgerOptions::default() };
    Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.unwrap()
}

fn post(sink: &Sink, path: &str) -> reqwest::RequestBuilder {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    client.post(format!("{}{path}", sink.url())).body("{}")
}

#[tokio::test]
async fn the_first_rule_that_fits_answers() {
    let sink = sink().await;
    sink.script().push(Rule::path("/a").key("bad"), Answer::error(422, "BAD", "no"));
    sink.script().push(Rule::path("/a").times(1), Answer::status(429).retry_after(7 * SECOND));
    sink.script().push(Rule::path("/b/*"), Answer::redirect("http://127.0.0.1:1/"));
    sink.script().push(Rule::any().webhook_id("w-1"), Answer::status(410));

    let answer = post(&sink, "/a?x=1").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    let status = |request: reqwest::RequestBuilder| async { request.send().await.unwrap().status().as_u16() };
    assert_eq!(status(post(&sink, "/a")).await, 200);
    assert_eq!(status(post(&sink, "/a").header("x-key", "bad")).await, 422);
    assert_eq!(status(post(&sink, "/b/c")).await, 307);
    assert_eq!(status(post(&sink, "/c").header("webhook-id", "w-1")).await, 410);
    sink.script().clear();
    assert_eq!(status(post(&sink, "/b/c")).await, 200);
    let statuses: Vec<_> = sink.ledger().entries().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [429, 200, 422, 307, 410, 200]);
}

#[tokio::test]
async fn one_in_so_many_gets_the_answer_of_a_rule() {
    let sink = sink().await;
    sink.script().push(Rule::path("/a").one_in(3).times(2), Answer::status(503));
    for path in ["/a", "/b", "/a", "/a", "/b", "/a", "/a", "/a", "/a", "/a", "/a"] {
        post(&sink, path).send().await.unwrap();
    }
    let statuses: Vec<_> = sink.ledger().entries().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [200, 200, 200, 503, 200, 200, 200, 503, 200, 200, 200]);
}

#[tokio::test]
async fn a_cut_connection_is_in_the_ledger_and_gets_no_answer() {
    let sink = sink().await;
    sink.script().push(Rule::any(), Answer::cut());
    assert!(post(&sink, "/").send().await.is_err());
    let entry = &sink.ledger().entries()[0];
    assert_eq!((entry.status, entry.accepted()), (0, false));
}

#[tokio::test]
async fn a_hanging_answer_ends_when_the_sink_stops() {
    let sink = sink().await;
    sink.script().push(Rule::any(), Answer::hang());
    let request = tokio::spawn(post(&sink, "/").send());
    sink.ledger().wait_for(1, 5 * SECOND).await.unwrap();
    sink.stop().await;
    let ended = tokio::time::timeout(20 * SECOND, request).await.expect("it ends with the sink");
    assert!(ended.unwrap().is_err());
}

#[tokio::test]
async fn bodies_drip_and_grow() {
    let sink = sink().await;
    sink.script().push(Rule::path("/drip"), Answer::drip("abc", Duration::from_millis(1)));
    sink.script().push(Rule::path("/huge"), Answer::huge(300_000));
    assert_eq!(post(&sink, "/drip").send().await.unwrap().text().await.unwrap(), "abc");
    assert_eq!(post(&sink, "/huge").send().await.unwrap().bytes().await.unwrap().len(), 300_000);
}

#[tokio::test]
async fn waiting_in_vain_tells_what_came() {
    let sink = sink().await;
    post(&sink, "/").send().await.unwrap();
    let error = sink.ledger().wait_for(2, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(error.seen.requests, 1);
}

#[tokio::test]
async fn a_ledger_file_has_every_request_and_forgives_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sink.jsonl");
    let options = || SinkOptions { ledger: LedgerOptions::to_file(&path), ..SinkOptions::default() };
    let sink = Sink::start(options()).await.unwrap();
    for n in 0..3 {
        post(&sink, &format!("/{n}")).header("webhook-id", n.to_string()).send().await.unwrap();
    }
    let entries = sink.ledger().entries();
    assert_eq!(Ledger::read(&path).unwrap(), entries);

    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"n\":4,");
    std::fs::write(&path, text).unwrap();
    assert_eq!(Ledger::read(&path).unwrap(), entries);
}

#[tokio::test]
async fn counting_only_keeps_no_entry() {
    let options = SinkOptions { ledger: LedgerOptions::counts_only(), ..SinkOptions::default() };
    let sink = Sink::start(options).await.unwrap();
    post(&sink, "/").send().await.unwrap();
    assert_eq!(sink.ledger().counts().accepted, 1);
    assert!(sink.ledger().entries().is_empty());
}
