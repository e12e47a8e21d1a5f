//! What people and programs ask for, and what they do.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use crossdock_core::{
    Act, Attempt, Class, ConnectionName, DeadLetter, Fault, FlowName, GroupId, LetterState, MappedRequest,
    NewReplay, Position, Replays as _, Selection, Settlement, Settlements, Topic,
};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fake,
    harness::{Bench, Reply},
};

pub fn letter(n: u64, group: &str) -> DeadLetter {
    let failed_at = Timestamp::from_second(1_764_000_000 + n as i64).unwrap();
    let fault = Fault::new(Class::Rejected, "no such article").code("UNKNOWN_SKU");
    let request = Some("POST http://127.0.0.1:9001/orders".to_owned());
    let fields = json!({ "path": "/orders", "headers": { "x-api-key": "k-1", "x-shop": "4" } });
    DeadLetter {
        id: format!("d{n}"),
        state: LetterState::Open,
        group: GroupId::from(group.to_owned()),
        flow: FlowName::new("orders-to-tracker").unwrap(),
        step: "call".to_owned(),
        connection: ConnectionName::new("tracker").unwrap(),
        action: "post".to_owned(),
        position: Position { topic: Topic::new("orders").unwrap(), partition: 0, offset: n },
        key: Some("k1".to_owned()),
        event: Arc::new(fake::event(&format!("e{n}"), &Bytes::from_static(br#"{"sku":"A-1","price":1.10}"#))),
        request: Some(MappedRequest {
            action: "post".to_owned(),
            fields: fields.as_object().unwrap().clone(),
            content_type: Some("application/json".to_owned()),
            body: Bytes::from_static(br#"{"article":"A-1"}"#),
        }),
        idempotency_key: format!("msg_{n}"),
        class: Class::Rejected,
        status: Some(422),
        code: Some("UNKNOWN_SKU".to_owned()),
        message: "no such article".to_owned(),
        reason: "rejected by the other side".to_owned(),
        advice: None,
        attempts: vec![Attempt::failed(1, failed_at, 12, request, &fault)],
        failed_at,
        replays: 0,
    }
}

async fn with_letters() -> Bench {
    let bench = Bench::start().await;
    let bury =
        |(n, group)| Settlement::DeadLetter { letter: Arc::new(letter(n, group)), held: None, replay: None };
    let letters = [(1, "g1"), (2, "g1"), (3, "g2"), (4, "g3")];
    bench.store.memory.settle(None, letters.map(bury).to_vec()).await.unwrap();
    let gone = json!({ "selection": { "groups": ["g3"] }, "reason": "setup" });
    assert_eq!(bench.post("/v1/dead-letters/discards", &gone).await.status, 200);
    bench
}

pub fn ids(reply: &Reply) -> Vec<String> {
    let items = reply.json()["items"].as_array().expect("items").clone();
    items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn the_hub_at_a_glance() {
    let server = Bench::start().await;
    server.post("/v1/topics/orders/events", &json!({})).await;
    let status = server.get("/v1/status").await;
    assert_eq!(status.status, 200);
    insta::assert_json_snapshot!(status.json(), { ".started_at" => "[moment]", ".version" => "[version]" });
    server.get("/v1/status?verbose=1").await.problem(400, "malformed");
    assert_eq!(server.get("/v1/flows").await.json(), json!({ "items": [], "next": null }));
}

#[tokio::test]
async fn a_store_that_is_away_is_told_without_its_secrets() {
    let server = Bench::start().await;
    server.store.away.store(true, Ordering::Relaxed);
    for path in ["/v1/events", "/v1/events/1", "/health/ready"] {
        let reply = server.get(path).await;
        reply.problem(503, "unavailable");
        assert!(!reply.text.contains("/secret/place"), "{}", reply.text);
    }
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn a_connection_is_paused_and_resumed_with_a_name_and_a_reason() {
    let server = Bench::start().await;
    let connections = server.get("/v1/connections").await;
    assert_eq!(
        (&connections.json()["items"][0]["name"], &connections.json()["next"]),
        (&json!("shop"), &Value::Null)
    );
    let pause = json!({ "state": "paused", "reason": "token is being renewed" });
    let request =
        server.request(Method::PATCH, "/v1/connections/shop").header("x-crossdock-actor", "ana").json(&pause);
    let reply = Reply::of(request.send().await.unwrap()).await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("paused")));
    assert_eq!(server.get("/v1/connections/shop").await.json()["state"], "paused");
    let reply =
        server.send(Method::PATCH, "/v1/connections/shop", &json!({ "state": "ok", "reason": "done" })).await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("ok")));
    let expected = [("ana", "token is being renewed", 1), ("api", "done", 1)];
    assert_eq!(
        server.acts(),
        expected.map(|(actor, reason, count)| (actor.to_owned(), reason.to_owned(), count))
    );
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_refused_with_its_place() {
    let server = Bench::start().await;
    let change = async |body: Value| server.send(Method::PATCH, "/v1/connections/shop", &body).await;
    for (body, pointer) in [
        (json!({ "reason": "x" }), "/state"),
        (json!({ "state": "throttled", "reason": "x" }), "/state"),
        (json!({ "state": 1, "reason": "x" }), "/state"),
        (json!({ "state": "paused", "reason": ["x"] }), "/reason"),
        (json!({ "state": "paused", "reason": "x", "statee": 1 }), "/statee"),
        (json!([]), ""),
    ] {
        assert_eq!(change(body.clone()).await.problem(400, "malformed")["pointer"], pointer, "{body}");
    }
    let problem = change(json!({ "state": "paused" })).await.problem(400, "reason-required");
    assert_eq!(problem["pointer"], "/reason");
    let problem =
        server.send(Method::PATCH, "/v1/connections/shpo", &json!({ "state": "ok", "reason": "x" })).await;
    assert_eq!(problem.problem(404, "not-found")["nearest"], "shop");
    server.get("/v1/connections/nothing").await.problem(404, "not-found");
    let form = server.request(Method::PATCH, "/v1/connections/shop").header("content-type", "text/plain");
    let reply = Reply::of(form.body(r#"{"state":"paused","reason":"x"}"#).send().await.unwrap()).await;
    reply.problem(415, "unsupported-media-type");
    let request =
        server.request(Method::PATCH, "/v1/connections/shop").header("content-type", "application/json");
    let broken = Reply::of(request.body("{\"state\":").send().await.unwrap()).await;
    assert_eq!(broken.problem(400, "malformed")["pointer"], "");
    assert_eq!(server.acts().len(), 0, "nothing was done");
}

#[tokio::test]
async fn events_are_listed_and_shown_whole() {
    let server = Bench::start().await;
    for (id, source) in [("1", "/a"), ("2", "/a"), ("1", "/b")] {
        let event = json!({ "specversion": "1.0", "id": id, "source": source, "type": "t", "data": { "from": source } });
        server.publish("application/cloudevents+json", event.to_string()).await;
    }
    assert_eq!(ids(&server.get("/v1/events").await), ["1", "2", "1"]);
    let first = server.get("/v1/events?topic=orders&limit=2").await;
    let next = first.json()["next"].as_str().expect("a cursor").to_owned();
    let rest = server.get(&format!("/v1/events?limit=2&cursor={next}")).await;
    assert_eq!((ids(&rest).len(), &rest.json()["next"]), (1, &Value::Null));
    assert!(ids(&server.get("/v1/events?topic=other").await).is_empty());
    let newest = server.get("/v1/events/1").await.json();
    assert_eq!((&newest["source"], &newest["cloudevent"]["data"]["from"]), (&json!("/b"), &json!("/b")));
    assert_eq!(newest["others"][0]["source"], "/a");
    assert_eq!(newest["deliveries"], json!([]));
    let chosen = server.get("/v1/events/1?source=/a").await.json();
    assert_eq!((&chosen["source"], &chosen["others"]), (&json!("/a"), &json!([])));
    server.get("/v1/events/3").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_dead_letter_is_shown_whole_but_for_secret_headers() {
    let server = with_letters().await;
    let shown = server.get("/v1/dead-letters/d1").await;
    insta::assert_json_snapshot!(shown.json());
    assert_eq!(server.get("/v1/dead-letters/e1").await.json()["id"], "d1", "by the id of its event");
    server.get("/v1/dead-letters/d9").await.problem(404, "not-found");
}

#[tokio::test]
async fn dead_letters_and_groups_are_listed_by_what_is_asked_for() {
    let server = with_letters().await;
    assert_eq!(ids(&server.get("/v1/dead-letters").await), ["d3", "d2", "d1"]);
    for (query, expected) in [
        ("group=g1", &["d2", "d1"][..]),
        ("group=g1&group=g2", &["d3", "d2", "d1"]),
        ("event=e3&event=e1", &["d3", "d1"]),
        ("state=discarded", &["d4"]),
        ("class=bug", &[]),
        ("flow=orders-to-tracker&class=rejected&limit=1", &["d3"]),
        ("since=2025-11-24T16:00:02Z", &["d3", "d2"]),
    ] {
        assert_eq!(ids(&server.get(&format!("/v1/dead-letters?{query}")).await), expected, "{query}");
    }
    assert_eq!(ids(&server.get("/v1/failure-groups").await), ["g1", "g2"]);
    for (query, pointer) in [
        ("state=gone", "?state"),
        ("class=bad", "?class"),
        ("since=yesterday", "?since"),
        ("flow=a/b", "?flow"),
        ("limit=0", "?limit"),
        ("cursor=x", "?cursor"),
        ("gruop=g1", "?gruop"),
    ] {
        for list in ["dead-letters", "failure-groups"] {
            let problem = server.get(&format!("/v1/{list}?{query}")).await.problem(400, "malformed");
            assert_eq!(problem["pointer"], pointer, "{list}?{query}");
        }
    }
}

#[tokio::test]
async fn a_group_is_shown_with_its_newest_letters_also_when_none_is_open() {
    let server = with_letters().await;
    let open = server.get("/v1/failure-groups/g1").await.json();
    assert_eq!(
        (&open["count"], &open["state"], &open["samples"][0]["id"]),
        (&json!(2), &json!("open"), &json!("d2"))
    );
    let gone = server.get("/v1/failure-groups/g3").await.json();
    assert_eq!((&gone["count"], &gone["state"]), (&json!(1), &json!("discarded")));
    server.get("/v1/failure-groups/g9").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_plan_counts_and_changes_nothing() {
    let server = with_letters().await;
    let plan = server.post("/v1/replay-plans", &json!({ "selection": {}, "rate": 0.5 })).await.json();
    assert_eq!((&plan["count"], &plan["estimate_seconds"]), (&json!(3), &json!(6.0)));
    assert_eq!((&plan["groups"][0]["id"], &plan["groups"][0]["count"]), (&json!("g1"), &json!(2)));
    let nothing = server.post("/v1/replay-plans", &json!({ "selection": { "ids": ["d9"] } })).await.json();
    assert_eq!(
        (&nothing["count"], &nothing["groups"], &nothing["estimate_seconds"]),
        (&json!(0), &json!([]), &Value::Null)
    );
    assert_eq!(server.acts().len(), 1, "only what the test began with");
}

#[tokio::test]
async fn discarding_says_how_many_and_keeps_who_and_why() {
    let server = with_letters().await;
    let body = json!({ "selection": { "groups": ["g1"] }, "reason": "test data" });
    assert_eq!(server.post("/v1/dead-letters/discards", &body).await.json(), json!({ "discarded": 2 }));
    assert_eq!(ids(&server.get("/v1/dead-letters").await), ["d3"]);
    assert_eq!(server.acts().last(), Some(&("api".to_owned(), "test data".to_owned(), 2)));
}

#[tokio::test]
async fn an_act_needs_a_selection_and_a_reason() {
    let server = with_letters().await;
    for path in ["/v1/replays", "/v1/dead-letters/discards"] {
        for (body, pointer) in [
            (json!({ "reason": "x" }), "/selection"),
            (json!({ "selection": null, "reason": "x" }), "/selection"),
            (json!({ "selection": [], "reason": "x" }), "/selection"),
            (json!({ "selection": { "group": "g1" }, "reason": "x" }), "/selection/group"),
            (json!({ "selection": { "ids": [1] }, "reason": "x" }), "/selection/ids/0"),
            (json!({ "selection": { "state": "discarded" }, "reason": "x" }), "/selection/state"),
        ] {
            assert_eq!(
                server.post(path, &body).await.problem(400, "malformed")["pointer"],
                pointer,
                "{path} {body}"
            );
        }
        server.post(path, &json!({ "selection": {} })).await.problem(400, "reason-required");
    }
    server
        .post("/v1/replays", &json!({ "selection": {}, "reason": "x", "rate": 0 }))
        .await
        .problem(400, "malformed");
    assert_eq!(server.acts().len(), 1, "nothing was done");
    assert_eq!(
        server.post("/v1/replays", &json!({ "selection": { "ids": ["d1"] } })).await.status,
        202,
        "one needs none"
    );
}

#[tokio::test]
async fn a_replay_is_made_shown_and_changed() {
    let server = with_letters().await;
    // The hub of these tests has no flow: what it is to send is given back at once.
    let body = json!({ "selection": { "groups": ["g1"] }, "rate": 0.001, "reason": "mended" });
    let made = server.post("/v1/replays", &body).await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/replays/{id}");
    assert_eq!((made.status, made.header("location")), (202, path.as_str()));
    assert_eq!((&made.json()["total"], &made.json()["rate"]), (&json!(2), &json!(0.001)));
    assert_eq!(server.get(&path).await.json()["reason"], "mended");
    assert_eq!(ids(&server.get("/v1/replays").await), [id]);
    // One that another worker feeds.
    let selection = Selection { groups: vec![GroupId::from("g2".to_owned())], ..Selection::default() };
    let act = Act { actor: "ana".to_owned(), reason: "mended".to_owned() };
    let running =
        server.store.memory.create(NewReplay { selection, rate: Some(1.0), test: false, act }).await.unwrap();
    let path = format!("/v1/replays/{}", running.id);
    let change = async |body: Value| server.send(Method::PATCH, &path, &body).await;
    assert_eq!(change(json!({ "state": "paused", "reason": "wait" })).await.json()["state"], "paused");
    assert_eq!(change(json!({ "rate": 5, "reason": "faster" })).await.json()["rate"], 5.0);
    assert_eq!(
        change(json!({ "rate": null, "reason": "as fast as it goes" })).await.json()["rate"],
        Value::Null
    );
    assert_eq!(change(json!({ "state": "cancelled", "reason": "wrong" })).await.json()["state"], "cancelled");
    for (body, pointer) in [
        (json!({ "reason": "x" }), ""),
        (json!({ "state": "paused", "rate": 1, "reason": "x" }), "/rate"),
        (json!({ "state": "succeeded", "reason": "x" }), "/state"),
        (json!({ "rate": -1, "reason": "x" }), "/rate"),
    ] {
        assert_eq!(change(body.clone()).await.problem(400, "malformed")["pointer"], pointer, "{body}");
    }
    server.get("/v1/replays/r9").await.problem(404, "not-found");
    let nothing = json!({ "selection": { "groups": ["g9"] }, "reason": "x" });
    server.post("/v1/replays", &nothing).await.problem(409, "conflict");
}

#[tokio::test]
async fn a_test_names_one_dead_letter_or_a_group() {
    let server = with_letters().await;
    for body in [json!({}), json!({ "dead_letter": "d1", "group": "g1" })] {
        server.post("/v1/replay-tests", &body).await.problem(400, "malformed");
    }
    server.post("/v1/replay-tests", &json!({ "dead_letter": "d9" })).await.problem(404, "not-found");
    server.post("/v1/replay-tests", &json!({ "group": "g3" })).await.problem(404, "not-found");
    // The hub of these tests has no flow; one that sends is in the scenarios.
    let problem = server.post("/v1/replay-tests", &json!({ "group": "g1" })).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("orders-to-tracker"));
}
