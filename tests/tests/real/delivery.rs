//! Every way in, and workers with different roles.

use crossdock_sim::{
    Entry,
    github::{Delivery, deliver},
    standard_signature,
};
use crossdock_tests::TRACKER_SECRET;
use serde_json::{Value, json};

use crate::cluster::{Broker, Cluster, PATIENCE};

/// One plain INSERT is all that an application does; what comes in over HTTP goes the same way.
async fn every_way_in_ends_at_the_receiver(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let worker = cluster.worker().await;
    sqlx::raw_sql(
        "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
         VALUES ('orders', 'k1', 'order.paid', '{\"key\":\"k1\",\"seq\":1}')",
    )
    .execute(&mut cluster.connect().await)
    .await
    .expect("it is written");
    let event = json!({ "specversion": "1.0", "id": "e1", "source": "/test", "type": "order.paid", "partitionkey": "k2",
        "data": { "key": "k2", "seq": 1 } });
    for expected in ["accepted", "duplicate"] {
        assert_eq!(publish(&worker.url, &event).await, expected);
    }
    cluster.sink.ledger().wait_for_accepted(2, PATIENCE).await.expect("both arrive");
    let entries = cluster.sink.ledger().entries();
    assert!(entries.iter().all(is_signed), "{entries:?}");
    let mut bodies: Vec<_> = entries.into_iter().filter_map(|entry| entry.body).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [r#"{"key":"k1","seq":1}"#, r#"{"key":"k2","seq":1}"#], "{broker:?}");
}

/// Whether the secret of the connection signed it.
fn is_signed(entry: &Entry) -> bool {
    let header = |name: &str| entry.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
    let (Some(time), Some(signature)) = (header("webhook-timestamp"), header("webhook-signature")) else {
        return false;
    };
    let (id, body) = (entry.webhook_id.as_deref(), entry.body.as_deref());
    let (id, body) = (id.expect("an id"), body.expect("bodies are kept"));
    standard_signature(TRACKER_SECRET, id, time, body.as_bytes()).as_ref() == Ok(signature)
}

async fn publish(url: &str, event: &Value) -> String {
    let request = reqwest::Client::new()
        .post(format!("{url}/v1/topics/orders/events"))
        .header("content-type", "application/cloudevents-batch+json")
        .body(json!([event]).to_string());
    let answer = request.send().await.expect("the worker answers");
    assert_eq!(answer.status(), 202);
    let answer: Value = answer.json().await.expect("JSON");
    answer["items"][0]["status"].as_str().expect("a status").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_ends_at_the_receiver_with_kafka() {
    every_way_in_ends_at_the_receiver(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_ends_at_the_receiver_with_rabbitmq() {
    every_way_in_ends_at_the_receiver(Broker::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_ends_at_the_receiver_with_the_embedded_broker() {
    every_way_in_ends_at_the_receiver(Broker::Embedded).await;
}

/// What one worker takes in another one delivers, each with the roles that it was given.
async fn roles_share_the_work(broker: Broker) {
    let mut cluster = Cluster::new(broker, "").await;
    cluster.setup = cluster.setup.variable("GITHUB_SECRET", "secret");
    cluster.edit("flows:\n", ISSUES);
    cluster.edit("connections:\n", GITHUB);
    let delivers = cluster.worker_as("deliver").await;
    let _relays = cluster.worker_as("relay").await;
    let takes = cluster.worker_as("ingest").await;
    let event = json!({ "specversion": "1.0", "id": "e1", "source": "/test", "type": "order.paid", "partitionkey": "k",
        "data": { "key": "k", "seq": 1 } });
    let payload = r#"{ "action": "opened", "repository": { "full_name": "a/b" }, "issue": { "number": 1 } }"#;
    let delivery = Delivery { event: "issues".to_owned(), id: "d1".to_owned(), payload: payload.into() };
    let hook = async |url: &str| {
        deliver(&format!("{url}/in/github"), "secret", &delivery).await.expect("the worker answers").status
    };
    assert_eq!(publish(&takes.url, &event).await, "accepted");
    assert_eq!(hook(&takes.url).await, 202);
    cluster.sink.ledger().wait_for_accepted(2, PATIENCE).await.expect("both arrive");
    let entries = cluster.sink.ledger().entries();
    let issue = entries.iter().find(|entry| entry.path == "/issues").expect("the issue is among them");
    assert_eq!(issue.body.as_deref(), Some(payload), "the bytes of the webhook");
    assert!(entries.iter().all(is_signed), "{entries:?}");

    let call = delivers.call(reqwest::Method::POST, "/v1/topics/orders/events", Some(&event));
    let (status, problem) = call.await.expect("the worker answers");
    assert!(status == 404 && problem.to_string().contains("without the role `ingest`"), "{status} {problem}");
    assert_eq!(hook(&delivers.url).await, 404, "nor from GitHub");
}

const GITHUB: &str = "connections:
  github: { connector: github, config: { secret: \"${env.GITHUB_SECRET}\" } }
";
const ISSUES: &str = "flows:
  issues-to-tracker:
    from: { connection: github }
    to: { connection: tracker, action: post, path: /issues }
";

#[tokio::test(flavor = "multi_thread")]
async fn roles_share_the_work_with_kafka() {
    roles_share_the_work(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_share_the_work_with_rabbitmq() {
    roles_share_the_work(Broker::RabbitMq).await;
}

const AUDIT: &str = "flows:
  orders-to-audit:
    from: { topic: orders }
    to: { connection: tracker, action: post, path: /audit }
";

/// A flow that is new gets everything that is published after it was planned, also by the relay of a worker that knows nothing
/// of it, and before anybody delivers it; and nothing from before.
async fn a_flow_begins_when_it_is_planned(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let relays = cluster.worker_as("relay,api").await;
    let relayed = async |keys: u64, seq: u64| {
        cluster.write(keys, seq).await;
        let is_empty = |status: &Value| status["relay"]["waiting"] == 0;
        relays.wait_until("/v1/status", is_empty).await.expect("they are relayed");
    };
    relayed(5, 1).await;
    cluster.edit("flows:\n", AUDIT);
    let (code, said) = cluster.command(&["plan", "--apply"]).await;
    assert_eq!(code, Some(0), "{said}");
    relayed(5, 2).await;
    let delivers = cluster.worker_as("deliver").await;
    cluster.sink.ledger().wait_for_accepted(15, PATIENCE).await.expect("everything arrives");
    let entries = cluster.sink.ledger().entries();
    let audited: Vec<_> =
        entries.iter().filter(|entry| entry.path == "/audit").map(|entry| entry.seq).collect();
    assert_eq!(audited, [Some(2); 5], "{:#?}", delivers.log_lines());
    assert!(!delivers.log_lines().iter().any(|line| line.contains("ERROR")), "{:#?}", delivers.log_lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_begins_when_it_is_planned_with_kafka() {
    a_flow_begins_when_it_is_planned(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_begins_when_it_is_planned_with_rabbitmq() {
    a_flow_begins_when_it_is_planned(Broker::RabbitMq).await;
}
