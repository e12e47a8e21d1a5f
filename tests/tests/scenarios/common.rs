//! What several scenarios need.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crossdock_sim::{Ledger, LedgerOptions, Place, Sink, SinkOptions};
use crossdock_tests::{Accepted, Hub};
use serde_json::{Value, json};

/// How long anything may take that happens by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the tracker checks signatures with.
pub const SIGNING_SECRET: &str = crossdock_tests::TRACKER_SECRET;

/// A sink that reads key and sequence from the bodies that [`crossdock_tests::Writer`] writes.
pub async fn sink() -> Sink {
    sink_with(false).await
}

/// The same, which also keeps every header, signatures and credentials too.
pub async fn sink_with_every_header() -> Sink {
    sink_with(true).await
}

async fn sink_with(every_header: bool) -> Sink {
    let ledger = LedgerOptions {
        bodies: true,
        every_header,
        key: Some(Place::Pointer("/key".to_owned())),
        seq: Some(Place::Pointer("/seq".to_owned())),
        ..LedgerOptions::default()
    };
    Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts")
}

/// One flow from the topic `orders` to the sink, with more lines for the flow.
pub fn config(sink: &Sink, flow: &str) -> String {
    format!(
        "data: ./data
listen: 127.0.0.1:0
topics: [orders]
connections:
  tracker:
    connector: http
    config:
      base_url: {url}
      signing_secret: \"${{env.TRACKER_SECRET}}\"
      timeout: 5s
flows:
  orders-to-tracker:
    from: {{ topic: orders }}
    to: {{ connection: tracker, action: post, path: /orders }}
{flow}",
        url = sink.url(),
    )
}

/// An event as CloudEvents JSON.
pub fn event(id: &str, key: &str, data: &Value) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "test.made", "partitionkey": key, "data": data })
}

/// Publishes events in one batch; every one must be new.
pub async fn publish(hub: &Hub, topic: &str, events: &[Value]) {
    let client = reqwest::Client::new();
    let answer = client
        .post(format!("{}/v1/topics/{topic}/events", hub.url))
        .header("content-type", "application/cloudevents-batch+json")
        .body(Value::from(events).to_string())
        .send()
        .await
        .expect("the hub answers");
    let (status, body) = (answer.status(), answer.text().await.expect("an answer"));
    assert_eq!(status, 202, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let items = body["items"].as_array().expect("one item per event");
    assert_eq!(items.len(), events.len());
    assert!(items.iter().all(|item| item["status"] == "accepted"), "{body}");
}

/// What arrived, per key: the sequences in the order of their first accepted request.
pub fn first_deliveries(ledger: &Ledger) -> BTreeMap<String, Vec<u64>> {
    let mut seen = HashSet::new();
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in ledger.entries() {
        if let (true, Some(key), Some(seq)) = (entry.accepted(), entry.key.clone(), entry.seq)
            && seen.insert((key.clone(), seq))
        {
            keys.entry(key).or_default().push(seq);
        }
    }
    keys
}

/// How many accepted requests repeat an earlier one.
pub fn duplicates(ledger: &Ledger) -> usize {
    let accepted = ledger.entries().iter().filter(|entry| entry.accepted()).count();
    accepted - first_deliveries(ledger).values().map(Vec::len).sum::<usize>()
}

/// Waits until everything that was accepted has arrived; then nothing is lost, nothing is made up, and each key came in
/// its order.
pub async fn check_nothing_lost(accepted: &Accepted, ledger: &Ledger) {
    let complete = || {
        let arrived = first_deliveries(ledger);
        accepted.iter().all(|(key, count)| arrived.get(key).is_some_and(|seqs| seqs.len() as u64 >= *count))
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    while !complete() && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let arrived = first_deliveries(ledger);
    for (key, count) in accepted {
        let expected: Vec<u64> = (1..=*count).collect();
        assert_eq!(arrived.get(key), Some(&expected), "{key}: accepted 1 to {count}, in this order");
    }
    assert_eq!(arrived.len(), accepted.len(), "no key was made up");
}
