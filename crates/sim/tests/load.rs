//! The load generator, against the sink.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use crossdock_sim::{
    Answer, LedgerOptions, Place, Rule, Sink, SinkOptions,
    load::{Load, LoadError, Pace, Payload},
};

async fn sink() -> Sink {
    let pointer = |p: &str| Some(Place::Pointer(p.to_owned()));
    let ledger =
        LedgerOptions { key: pointer("/data/key"), seq: pointer("/data/seq"), ..LedgerOptions::default() };
    Sink::start(SinkOptions { ledger, latency: true, ..SinkOptions::default() }).await.unwrap()
}

fn load(sink: &Sink, requests: u64) -> Load {
    Load {
        target: sink.addr(),
        path: "/v1/events?topic=orders".to_owned(),
        headers: vec![("x-api-key".to_owned(), "k".to_owned())],
        payload: Payload::single("t", 20, 300),
        connections: 4,
        pace: Pace::Full,
        requests,
        at_most: Duration::from_secs(20),
    }
}

#[tokio::test]
async fn a_full_load_arrives_whole_and_in_order() {
    let sink = sink().await;
    let report = load(&sink, 500).run().await.unwrap();
    assert_eq!((report.requests_accepted, report.events_accepted, report.unanswered), (500, 500, 0));
    let tally = sink.ledger().tally();
    assert_eq!((tally.accepted, tally.keys, tally.out_of_order, tally.twice), (500, 20, 0, 0));
    assert_eq!(sink.latency().unwrap().count(), 500);
}

#[tokio::test]
async fn a_batch_counts_its_events() {
    let sink = sink().await;
    let payload = Payload::batch("t", 100, 1000, 10);
    let report = Load { payload, ..load(&sink, 8) }.run().await.unwrap();
    assert_eq!((report.requests_accepted, report.events_accepted), (8, 800));
    assert_eq!(sink.latency().unwrap().count(), 800);
}

#[tokio::test]
async fn a_steady_load_keeps_its_rate() {
    let sink = sink().await;
    let report = Load { pace: Pace::Rate(400.0), ..load(&sink, 100) }.run().await.unwrap();
    assert_eq!(report.requests_accepted, 100);
    assert!(report.elapsed_seconds > 0.24, "100 requests at 400/s took {} s", report.elapsed_seconds);
}

#[tokio::test]
async fn refusals_and_cut_connections_are_counted_apart() {
    let sink = sink().await;
    sink.script().push(Rule::any().times(3), Answer::status(429));
    sink.script().push(Rule::any().times(2), Answer::cut());
    let report = load(&sink, 20).run().await.unwrap();
    assert_eq!((report.requests_accepted, report.refused[&429], report.unanswered), (15, 3, 2));
}

#[tokio::test]
async fn a_load_ends_in_time_and_stays_at_home() {
    let sink = sink().await;
    let at_most = Duration::from_millis(100);
    let report = Load { at_most, ..load(&sink, u64::MAX) }.run().await.unwrap();
    assert!(report.requests_accepted > 0 && report.elapsed_seconds < 10.0);
    let far = Load { target: "192.0.2.1:80".parse().unwrap(), ..load(&sink, 1) }.run().await;
    assert!(matches!(far, Err(LoadError::NotLoopback(_))));
}
