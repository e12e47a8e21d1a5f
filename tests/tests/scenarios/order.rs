//! Per (flow, key) deliveries happen one after the other, through retries of both tiers and restarts; other keys and
//! other flows go on.

use std::time::Duration;

use crossdock_sim::{Answer, Rule};
use crossdock_tests::{Setup, Writer};
use serde_json::json;

use crate::common::{
    PATIENCE, check_nothing_lost, config, duplicates, event, first_deliveries, publish, sink,
};

#[tokio::test]
async fn an_outage_through_both_tiers_keeps_every_key_in_order_and_repeats_nothing() {
    let sink = sink().await;
    let retry = "    retry: { schedule: [50ms, 100ms, 2500ms, 2500ms, 2500ms], jitter: 0.2, max_age: 1h }\n";
    let setup = Setup::new(&config(&sink, retry)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(503));
    let writer = Writer::start(&hub.url, "orders", 8, Duration::from_millis(5));
    hub.wait_until("/v1/status", |status| status["held"].as_u64() > Some(20)).await.expect("events are held");
    sink.script().clear();
    let accepted = writer.finish().await;
    check_nothing_lost(&accepted, sink.ledger()).await;
    assert_eq!(duplicates(sink.ledger()), 0, "no fault, no duplicate");
    hub.wait_until("/v1/status", |status| status["held"] == 0 && status["pending"] == 0)
        .await
        .expect("all is drained");
}

#[tokio::test]
async fn a_held_event_survives_a_restart_with_its_attempts_and_its_due_time() {
    let sink = sink().await;
    let setup =
        Setup::new(&config(&sink, "    retry: { schedule: [10ms, 4s], jitter: 0 }\n")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(503));
    publish(&hub, "orders", &[event("1", "k1", &json!({ "key": "k1", "seq": 1 }))]).await;
    let due = hub.wait_until("/v1/flows", |flows| flows["items"][0]["held"] == 1).await.expect("it is held");
    let due = due["items"][0]["next_retry_at"].clone();
    hub.kill().await.expect("the hub dies");
    let hub = setup.start().await.expect("the hub starts");
    let flows = hub.get("/v1/flows").await.expect("flows");
    assert_eq!(flows["items"][0]["next_retry_at"], due, "the due time is what it was");
    publish(&hub, "orders", &[event("2", "k1", &json!({ "key": "k1", "seq": 2 }))]).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 1).await.expect("the third attempt was the last");
    assert_eq!(sink.ledger().entries().iter().filter(|entry| entry.seq == Some(1)).count(), 3);
}

#[tokio::test]
async fn a_flows_own_key_keeps_the_order_of_the_topic_among_events_of_different_keys() {
    let sink = sink().await;
    let flow =
        "    key: .key\n    retry: { schedule: [50ms, 100ms, 2500ms, 2500ms, 2500ms, 2500ms], jitter: 0 }\n";
    let setup = Setup::new(&config(&sink, flow)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any().times(20), Answer::status(503));
    for seq in 1..=40 {
        // Each event has a key of its own, as an order has its id; the flow keeps order by customer.
        let of = |customer: u64| {
            let data = json!({ "key": format!("customer-{customer}"), "seq": seq });
            event(&format!("{customer}-{seq}"), &format!("order-{customer}-{seq}"), &data)
        };
        publish(&hub, "orders", &(0..5).map(of).collect::<Vec<_>>()).await;
    }
    sink.ledger().wait_for_accepted(200, PATIENCE).await.expect("all arrive");
    for (customer, seqs) in first_deliveries(sink.ledger()) {
        assert_eq!(seqs, (1..=40).collect::<Vec<_>>(), "{customer}");
    }
}

#[tokio::test]
async fn thousands_of_failing_keys_leave_the_way_free_for_others() {
    let sink = sink().await;
    let config = format!(
        "data: ./data
listen: 127.0.0.1:0
partitions: 1
connections:
  tracker:
    connector: http
    circuit: off
    config: {{ base_url: {url} }}
flows:
  orders-to-tracker:
    from: {{ topic: orders }}
    to: {{ connection: tracker, action: post, path: \"/${{.kind}}\" }}
    retry: {{ schedule: {{ fixed: 1s }} }}
",
        url = sink.url()
    );
    let setup = Setup::new(&config).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::path("/bad"), Answer::status(503));
    let bad = |n: u64| {
        event(&format!("bad-{n}"), &format!("bad-{n}"), &json!({ "kind": "bad", "key": "bad", "seq": n }))
    };
    for page in 0..6 {
        publish(&hub, "orders", &(page * 500..(page + 1) * 500).map(bad).collect::<Vec<_>>()).await;
    }
    publish(&hub, "orders", &[event("1", "good", &json!({ "kind": "good", "key": "good", "seq": 1 }))]).await;
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("the good one arrives");
    assert!(sink.ledger().counts().requests > 3000, "after the bad ones were tried");
}

#[tokio::test]
async fn a_failing_key_stops_neither_other_keys_nor_other_flows() {
    let sink = sink().await;
    let flow = "    retry: { schedule: [1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s], jitter: 0 }
  everything:
    from: { topic: orders }
    to: { connection: tracker, action: post, path: /all }
";
    let setup = Setup::new(&config(&sink, flow)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::path("/orders").key("bad"), Answer::status(503));
    let mut events = vec![];
    for seq in 1..=50 {
        events.push(event(&format!("b{seq}"), "bad", &json!({ "key": "bad", "seq": seq })));
        events.push(event(&format!("g{seq}"), "good", &json!({ "key": "good", "seq": seq })));
    }
    publish(&hub, "orders", &events).await;
    sink.ledger()
        .wait_for_accepted(150, PATIENCE)
        .await
        .expect("50 good orders and 100 in the other flow arrive");
    let bad = |path: &str| {
        sink.ledger()
            .entries()
            .iter()
            .filter(|e| e.path == path && e.accepted() && e.key.as_deref() == Some("bad"))
            .count()
    };
    assert_eq!((bad("/orders"), bad("/all")), (0, 50));
    sink.script().clear();
    sink.ledger().wait_for_accepted(200, PATIENCE).await.expect("the failing key goes on");
    let order: Vec<_> =
        sink.ledger().entries().into_iter().filter(|e| e.path == "/orders" && e.accepted()).collect();
    let bad: Vec<_> =
        order.iter().filter(|e| e.key.as_deref() == Some("bad")).filter_map(|e| e.seq).collect();
    assert_eq!(bad, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flow_without_order_does_not_wait_for_a_failing_event_of_the_same_key() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "    order: none\n    retry: { schedule: [1s, 1s], jitter: 0 }\n"))
        .expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any().key("k").times(1), Answer::status(503));
    let events: Vec<_> =
        (1..=5).map(|seq| event(&seq.to_string(), "k", &json!({ "key": "k", "seq": seq }))).collect();
    publish(&hub, "orders", &events).await;
    sink.ledger().wait_for_accepted(5, PATIENCE).await.expect("all arrive");
    let last = first_deliveries(sink.ledger())["k"].last().copied();
    let failed = sink.ledger().entries().iter().find(|entry| !entry.accepted()).and_then(|entry| entry.seq);
    assert_eq!(last, failed, "the one that failed comes last, the others did not wait for it");
}

#[tokio::test]
async fn a_throttled_connection_waits_as_told_and_counts_no_attempt() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "    retry: { schedule: [10ms], jitter: 0 }\n")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any().times(5), Answer::status(429).header("retry-after", "1"));
    publish(&hub, "orders", &[event("1", "k1", &json!({ "key": "k1", "seq": 1 }))]).await;
    hub.wait_until("/v1/connections/tracker", |tracker| tracker["state"] == "throttled")
        .await
        .expect("it says so");
    sink.ledger()
        .wait_for_accepted(1, PATIENCE)
        .await
        .expect("it arrives, though two attempts are all the schedule has");
    let times: Vec<_> = sink.ledger().entries().iter().map(|entry| entry.at).collect();
    for pair in times.windows(2) {
        let wait = pair[1].duration_since(pair[0]).as_millis();
        assert!((990..3000).contains(&wait), "waited {wait} ms");
    }
    assert_eq!(times.len(), 6);
}
