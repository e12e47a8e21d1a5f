//! Every way in, and workers with different roles.

use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::cluster::{Broker, Cluster, PATIENCE};

/// One plain INSERT is all that an application does; what comes in over HTTP goes the same way.
async fn every_way_in_ends_at_the_receiver(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let worker = cluster.worker().await;
    let mut application = PgConnection::connect(&cluster.database).await.expect("the database answers");
    sqlx::raw_sql(
        "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
         VALUES ('orders', 'k1', 'order.paid', '{\"key\":\"k1\",\"seq\":1}')",
    )
    .execute(&mut application)
    .await
    .expect("it is written");
    let event = json!({ "specversion": "1.0", "id": "e1", "source": "/test", "type": "order.paid", "partitionkey": "k2",
        "data": { "key": "k2", "seq": 1 } });
    for expected in ["accepted", "duplicate"] {
        assert_eq!(publish(&worker.url, &event).await, expected);
    }
    cluster.sink.ledger().wait_for_accepted(2, PATIENCE).await.expect("both arrive");
    let mut keys: Vec<_> =
        cluster.sink.ledger().entries().into_iter().filter_map(|entry| entry.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["k1", "k2"], "{broker:?}");
}

async fn publish(url: &str, event: &serde_json::Value) -> String {
    let request = reqwest::Client::new()
        .post(format!("{url}/v1/topics/orders/events"))
        .header("content-type", "application/cloudevents-batch+json")
        .body(json!([event]).to_string());
    let answer = request.send().await.expect("the worker answers");
    assert_eq!(answer.status(), 202);
    let answer: serde_json::Value = answer.json().await.expect("JSON");
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
    let cluster = Cluster::new(broker, "").await;
    let delivers = cluster.worker_as("relay,deliver").await;
    let takes = cluster.worker_as("ingest,api").await;
    let event = json!({ "specversion": "1.0", "id": "e1", "source": "/test", "type": "order.paid", "partitionkey": "k",
        "data": { "key": "k", "seq": 1 } });
    assert_eq!(publish(&takes.url, &event).await, "accepted");
    cluster.sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("it arrives");
    let (status, _) = delivers
        .call(reqwest::Method::POST, "/v1/topics/orders/events", Some(&event))
        .await
        .expect("the worker answers");
    assert!(status.is_client_error() || status.is_server_error(), "it takes nothing in: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_share_the_work_with_kafka() {
    roles_share_the_work(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_share_the_work_with_rabbitmq() {
    roles_share_the_work(Broker::RabbitMq).await;
}
