//! What a receiver can rely on: one id for one delivery, its own word on when to come again, and that a call ends.

use crossdock_sim::{Answer, Entry, Rule, standard_signature};
use crossdock_tests::Setup;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::common::{PATIENCE, SIGNING_SECRET, config, event, publish, sink_with_every_header};

fn header<'e>(entry: &'e Entry, name: &str) -> &'e str {
    let found = entry.headers.iter().find(|(header, _)| header == name);
    found.map(|(_, value)| value.as_str()).expect("the header is there")
}

#[tokio::test]
async fn a_delivery_has_one_id_over_a_retry_a_restart_and_a_replay() {
    let sink = sink_with_every_header().await;
    let retry = "    retry: { schedule: [50ms, 3s], jitter: 0 }\n";
    let setup = Setup::new(&config(&sink, retry)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(503));
    publish(&hub, "orders", &[event("order/ü 1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
    hub.wait_until("/v1/flows", |flows| flows["items"][0]["held"] == 1)
        .await
        .expect("it is held after a retry");
    hub.kill().await.expect("the hub dies");
    sink.script().clear();
    sink.script().push(Rule::any(), Answer::status(422));
    let hub = setup.start().await.expect("the hub starts");
    hub.wait_until("/v1/status", |status| status["dead"] == 1).await.expect("the due time comes");
    sink.script().clear();
    let groups = hub.get("/v1/failure-groups").await.expect("groups");
    let body = json!({ "selection": { "groups": [groups["items"][0]["id"]] }, "reason": "mended" });
    hub.post("/v1/replays", &body).await.expect("a replay");
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("it arrives");

    let entries = sink.ledger().entries();
    let statuses: Vec<_> = entries.iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [503, 503, 422, 200], "a try, a retry, a try after the restart, a replay");
    let id = entries[0].webhook_id.clone().expect("an id");
    assert!(id.starts_with("order---1_"), "the event's own id can be read in it: {id}");
    for entry in &entries {
        assert_eq!(entry.webhook_id.as_ref(), Some(&id), "attempt {}", entry.n);
        let body = entry.body.as_deref().expect("bodies are kept");
        let signature =
            standard_signature(SIGNING_SECRET, &id, header(entry, "webhook-timestamp"), body.as_bytes());
        assert_eq!(Ok(header(entry, "webhook-signature")), signature.as_deref(), "attempt {}", entry.n);
    }
    let signed_at = |entry: &Entry| header(entry, "webhook-timestamp").parse::<i64>().expect("a number");
    assert!(signed_at(&entries[2]) >= signed_at(&entries[0]) + 3, "each attempt is signed at its own time");
}

#[tokio::test]
async fn retry_after_as_a_date_is_waited_for() {
    for (status, counted) in [(503, true), (429, false)] {
        let sink = sink_with_every_header().await;
        let flow = "    retry: { schedule: [10ms], jitter: 0 }\n";
        let setup = Setup::new(&config(&sink, flow)).expect("a folder");
        let hub = setup.start().await.expect("the hub starts");
        let date = Timestamp::now() + SignedDuration::from_secs(4);
        let http_date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        sink.script().push(Rule::any().times(1), Answer::status(status).header("retry-after", http_date));
        publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
        if !counted {
            // The schedule has one retry: it is still there only if the throttled attempt did not count.
            sink.script().push(Rule::any().times(1), Answer::status(503));
        }
        sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("it arrives");
        let entries = sink.ledger().entries();
        // A date has no parts of a second.
        let until = Timestamp::from_second(date.as_second()).expect("a time");
        assert!(entries[0].at < until && entries[1].at >= until, "{status}: {} is not waited for", until);
        assert_eq!(entries.len(), if counted { 2 } else { 3 }, "{status}");
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_cut_by_its_time_out_and_holds_up_only_its_own_key() {
    let sink = sink_with_every_header().await;
    let flow = "    retry: { schedule: [10ms], jitter: 0 }\n";
    let setup = Setup::new(&config(&sink, flow).replace("timeout: 5s", "timeout: 1500ms")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any().key("stuck"), Answer::hang());
    let events = [
        event("1", "stuck", &json!({ "key": "stuck", "seq": 1 })),
        event("2", "free", &json!({ "key": "free", "seq": 1 })),
    ];
    publish(&hub, "orders", &events).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 1).await.expect("the stuck one is given up");
    let keys: Vec<_> = sink.ledger().entries().into_iter().filter_map(|entry| entry.key).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert_eq!(keys[2], "stuck", "the free one did not wait for the end of the stuck call: {keys:?}");
    let letters = hub.get("/v1/dead-letters").await.expect("letters");
    let id = letters["items"][0]["id"].as_str().expect("an id");
    let letter = hub.get(&format!("/v1/dead-letters/{id}")).await.expect("a letter");
    let attempts = letter["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 2, "{letter}");
    for attempt in attempts {
        assert_eq!((&attempt["class"], &attempt["code"]), (&json!("transient"), &json!("timeout")));
        let took = attempt["duration_ms"].as_u64().expect("a number");
        assert!((1400..30_000).contains(&took), "it took {took} ms");
        assert_eq!(attempt["status"], Value::Null);
    }
}
