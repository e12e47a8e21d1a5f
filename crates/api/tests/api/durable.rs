//! The API on the embedded store: cursors, states and refusals are those of a real one.

use std::sync::Arc;

use crossdock_api::ApiOptions;
use crossdock_core::{FlowName, Settlement, Settlements, SystemClock, Topic};
use crossdock_embedded::{Embedded, Options};
use crossdock_engine::{Hub, Roles, Stores};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Server, plan};
use crate::resources::{ids, letter};

struct Durable {
    server: Server,
    store: Arc<Embedded>,
    _folder: TempDir,
}

async fn start() -> Durable {
    start_as(Roles::default()).await
}

async fn start_as(roles: Roles) -> Durable {
    let folder = TempDir::new().unwrap();
    let options =
        Options { topics: vec![Topic::new("orders").unwrap()], partitions: 1, ..Options::default() };
    let clock = Arc::new(SystemClock);
    let store = Arc::new(Embedded::open(folder.path(), options, clock.clone()).await.unwrap());
    let hub = Hub::start(plan(), store.clone(), stores(&store), clock, roles).await.unwrap();
    Durable { server: Server::of(hub, ApiOptions::default()).await, store, _folder: folder }
}

fn stores(store: &Arc<Embedded>) -> Stores {
    Stores {
        outbox: store.clone(),
        outbox_log: None,
        settlements: store.clone(),
        held: store.clone(),
        dead_letters: store.clone(),
        replays: store.clone(),
        connections: store.clone(),
        event_log: store.clone(),
        shared: false,
    }
}

impl Durable {
    /// Publishes events with ids from 1.
    async fn publish(&self, count: u64) {
        let event = |n| json!({ "specversion": "1.0", "id": format!("e{n}"), "source": "/vendor", "type": "t", "data": n });
        let events: Vec<_> = (1..=count).map(event).collect();
        let reply =
            self.server.publish("application/cloudevents-batch+json", Value::from(events).to_string()).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
    }

    /// Makes dead letters of events that are there, each group with three.
    async fn bury(&self, count: u64) {
        let bury = |n: u64| {
            let letter = letter(n, &format!("g{}", (n - 1) / 3));
            Settlement::DeadLetter { letter: Arc::new(letter), held: None, replay: None }
        };
        self.store.settle(None, (1..=count).map(bury).collect()).await.unwrap();
    }

    /// Every id of a list, page by page.
    async fn walk(&self, path: &str) -> Vec<String> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.server.get(&format!("{path}{cursor}")).await;
            all.extend(ids(&page));
            match page.json()["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

#[tokio::test]
async fn lists_are_walked_page_by_page_and_miss_nothing() {
    let durable = start().await;
    durable.publish(7).await;
    durable.bury(7).await;
    let newest_first = ["e7", "e6", "e5", "e4", "e3", "e2", "e1"];
    assert_eq!(durable.walk("/v1/events?limit=3").await, newest_first);
    assert_eq!(durable.walk("/v1/events?topic=orders&limit=7").await, newest_first);
    let letters = ["d7", "d6", "d5", "d4", "d3", "d2", "d1"];
    assert_eq!(durable.walk("/v1/dead-letters?limit=2").await, letters);
    let mut groups = durable.walk("/v1/failure-groups?limit=1").await;
    groups.sort_unstable();
    assert_eq!(groups, ["g0", "g1", "g2"]);
    for list in ["events", "dead-letters", "failure-groups", "replays"] {
        let problem =
            durable.server.get(&format!("/v1/{list}?cursor=nonsense")).await.problem(400, "malformed");
        assert_eq!(problem["pointer"], "?cursor", "{list}");
    }
}

#[tokio::test]
async fn dead_letters_are_counted_given_up_and_still_shown() {
    let durable = start().await;
    durable.publish(4).await;
    durable.bury(4).await;
    let selection = json!({ "groups": ["g0"] });
    let plan =
        durable.server.post("/v1/replay-plans", &json!({ "selection": selection, "rate": 3 })).await.json();
    assert_eq!(
        (&plan["count"], &plan["groups"][0]["count"], &plan["estimate_seconds"]),
        (&json!(3), &json!(3), &json!(1.0))
    );
    let all = durable.server.post("/v1/replay-plans", &json!({ "selection": {} })).await.json();
    assert_eq!((&all["count"], all["groups"].as_array().map(Vec::len)), (&json!(4), Some(2)));
    let body = json!({ "selection": selection, "reason": "test data" });
    assert_eq!(
        durable.server.post("/v1/dead-letters/discards", &body).await.json(),
        json!({ "discarded": 3 })
    );
    assert_eq!(durable.walk("/v1/dead-letters?limit=9").await, ["d4"]);
    assert_eq!(durable.walk("/v1/dead-letters?limit=2&state=discarded").await, ["d3", "d2", "d1"]);
    let group = durable.server.get("/v1/failure-groups/g0").await.json();
    assert_eq!((&group["count"], &group["state"]), (&json!(3), &json!("discarded")));
    assert_eq!(group["samples"].as_array().map(Vec::len), Some(3));
    let letter = durable.server.get("/v1/dead-letters/e2").await.json();
    assert_eq!(
        (&letter["id"], &letter["state"], &letter["cloudevent"]["id"]),
        (&json!("d2"), &json!("discarded"), &json!("e2"))
    );
}

#[tokio::test]
async fn an_event_that_is_dead_in_several_flows_is_not_taken_for_one_of_them() {
    let durable = start().await;
    durable.publish(1).await;
    durable.bury(1).await;
    let mut other = letter(1, "g9");
    other.id = "d2".to_owned();
    other.flow = FlowName::new("everything").unwrap();
    let letter = Settlement::DeadLetter { letter: Arc::new(other), held: None, replay: None };
    durable.store.settle(None, vec![letter]).await.unwrap();
    let problem = durable.server.get("/v1/dead-letters/e1").await.problem(409, "conflict");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("d1, d2")), "{problem}");
    durable.server.post("/v1/replay-tests", &json!({ "dead_letter": "e1" })).await.problem(409, "conflict");
    durable.server.post("/v1/replay-tests", &json!({ "dead_letter": "e7" })).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_replay_of_nothing_is_a_conflict_and_one_that_is_over_stays_so() {
    // Nobody sends here: a replay whose flow nobody has would be over before it is paused.
    let durable = start_as(Roles { deliver: false, ..Roles::default() }).await;
    durable.publish(3).await;
    durable.bury(3).await;
    let nothing = json!({ "selection": { "groups": ["g9"] }, "reason": "x" });
    durable.server.post("/v1/replays", &nothing).await.problem(409, "conflict");
    let some = json!({ "selection": { "groups": ["g0"] }, "rate": 0.001, "reason": "x" });
    let made = durable.server.post("/v1/replays", &some).await;
    assert_eq!((made.status, &made.json()["total"]), (202, &json!(3)));
    let path = format!("/v1/replays/{}", made.json()["id"].as_str().unwrap());
    let change = async |state: &str| {
        durable.server.send(Method::PATCH, &path, &json!({ "state": state, "reason": "x" })).await
    };
    assert_eq!(change("paused").await.json()["state"], "paused");
    assert_eq!(change("cancelled").await.json()["state"], "cancelled");
    change("running").await.problem(409, "conflict");
    durable
        .server
        .send(Method::PATCH, "/v1/replays/r9", &json!({ "state": "paused", "reason": "x" }))
        .await
        .problem(404, "not-found");
    assert_eq!(durable.walk("/v1/replays?limit=1").await.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_closed_is_told_as_unavailable() {
    let durable = start().await;
    durable.store.close().await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    durable.server.publish("application/cloudevents+json", event).await.problem(503, "unavailable");
    durable.server.get("/v1/events").await.problem(503, "unavailable");
    durable.server.get("/health/ready").await.problem(503, "unavailable");
    let status = durable.server.get("/v1/status").await.json();
    assert_eq!(status["state"], "degraded", "{status}");
    assert!(
        status["problems"][0].as_str().is_some_and(|problem| problem.starts_with("intake is stopped")),
        "{status}"
    );
}
