//! What can never succeed is kept whole, grouped by cause, and stops nothing else.

use crossdock_sim::{Answer, Rule};
use crossdock_tests::Setup;
use serde_json::json;

use crate::common::{PATIENCE, config, event, publish, sink};

#[tokio::test]
async fn a_rejected_event_is_kept_whole_and_grouped_by_its_cause() {
    let sink = sink().await;
    let map = "    map:\n      key: \"${.key}\"\n      seq: \"${.seq}\"\n      note: \"order ${.seq} of ${.key}\"\n";
    let setup = Setup::new(&config(&sink, map)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(
        Rule::any().key("bad"),
        Answer::error(422, "UNKNOWN_SKU", "no such thing: token=sk_live_abcdef0123456789abcdef"),
    );
    let mut events: Vec<_> =
        (1..=3).map(|seq| event(&format!("b{seq}"), "bad", &json!({ "key": "bad", "seq": seq }))).collect();
    events.push(event("g1", "good", &json!({ "key": "good", "seq": 1 })));
    publish(&hub, "orders", &events).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 3).await.expect("three are dead");
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("the good one arrives");

    let groups = hub.get("/v1/failure-groups").await.expect("groups");
    let group = &groups["items"][0];
    assert_eq!(groups["items"].as_array().map(Vec::len), Some(1), "one cause, one group: {groups}");
    assert_eq!(
        (&group["count"], &group["class"], &group["status"]),
        (&json!(3), &json!("rejected"), &json!(422))
    );
    assert_eq!((&group["code"], &group["state"]), (&json!("UNKNOWN_SKU"), &json!("open")));
    assert_eq!((&group["flow"], &group["connection"]), (&json!("orders-to-tracker"), &json!("tracker")));

    let list = hub
        .get(&format!("/v1/dead-letters?group={}", group["id"].as_str().expect("an id")))
        .await
        .expect("a list");
    let first =
        list["items"].as_array().expect("items").iter().find(|letter| letter["event"] == "b1").expect("b1");
    let letter = hub
        .get(&format!("/v1/dead-letters/{}", first["id"].as_str().expect("an id")))
        .await
        .expect("a letter");
    let text = letter.to_string();
    for kept in ["b1", "order 1 of bad", "/orders", "idempotency_key", "attempts", "rejected", "UNKNOWN_SKU"]
    {
        assert!(text.contains(kept), "{kept} is in {text}");
    }
    assert!(!text.contains("sk_live_abcdef0123456789abcdef"), "the excerpt is redacted: {text}");
    assert_eq!(letter["attempts"].as_array().map(Vec::len), Some(1), "a rejection is not tried again");
}

#[tokio::test]
async fn a_mapping_that_fails_on_one_event_makes_that_event_a_bug_and_nothing_else() {
    let sink = sink().await;
    let map = "    map:\n      key: \"${.key}\"\n      seq: \"${.seq}\"\n      twice: \"${.seq * 2}\"\n";
    let setup = Setup::new(&config(&sink, map)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    let events = [
        event("1", "k", &json!({ "key": "k", "seq": 1 })),
        event("2", "k", &json!({ "key": "k", "seq": { "not": "a number" } })),
        event("3", "k", &json!({ "key": "k", "seq": 3 })),
    ];
    publish(&hub, "orders", &events).await;
    sink.ledger().wait_for_accepted(2, PATIENCE).await.expect("the other two arrive");
    hub.wait_until("/v1/status", |status| status["dead"] == 1).await.expect("one is dead");
    let groups = hub.get("/v1/failure-groups").await.expect("groups");
    assert_eq!((&groups["items"][0]["class"], &groups["items"][0]["count"]), (&json!("bug"), &json!(1)));
}
