//! Rows of the outbox that did not come to where they should, and what a person does about them.

use std::time::Duration;

use crossdock_testkit::services;
use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};
use serde_json::Value;

use crate::cluster::{Broker, Cluster, PATIENCE, set_tracker};

/// A row whose topic nobody knows is shown, holds nobody up, and is sent once the topic is there and a person says so.
async fn an_unknown_topic_is_refused_where_a_person_sees_it(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let mut worker = cluster.worker().await;
    sqlx::raw_sql(
        "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload) VALUES
             ('ordres', 'k1', 't', '{\"key\":\"k1\",\"seq\":1}'), ('orders', 'k2', 't', '{\"key\":\"k2\",\"seq\":1}')",
    )
    .execute(&mut cluster.connect().await)
    .await
    .expect("it is written");
    cluster.sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("the other one arrives");
    let counted = |outbox: &Value| outbox["refused"] == 1;
    let status = worker.wait_until("/v1/outbox", counted).await.expect("it is counted");
    assert_eq!(status["waiting"], 0);
    let (_, status) = cluster.command(&["status", "--url", &worker.url]).await;
    assert!(status.contains("refused"), "the status tells: {status}");
    let (_, refused) = cluster.command(&["outbox", "refused", "--output", "json"]).await;
    let refused: Value = serde_json::from_str(&refused).expect("JSON");
    let row = &refused["items"][0];
    assert!(row["topic"] == "ordres" && !row["reason"].as_str().expect("a reason").is_empty(), "{row}");
    let seq = row["seq"].to_string();

    let retry = ["outbox", "retry", &seq, "--reason", "its topic is there now"];
    cluster.end(&mut worker).await;
    cluster.edit("orders: { partitions: 4 }", "orders: { partitions: 4 }, ordres: { partitions: 1 }");
    cluster.edit("from: { topic: orders }", "from: { topics: [orders, ordres] }");
    let worker = cluster.worker().await;
    let (code, said) = cluster.command(&retry).await;
    assert_eq!(code, Some(0), "{said}");
    cluster.sink.ledger().wait_for_accepted(2, PATIENCE).await.expect("it arrives after all");
    worker.wait_until("/v1/outbox", |outbox| outbox["refused"] == 0).await.expect("it is refused no more");
    let (code, said) = cluster.command(&retry).await;
    assert_eq!(code, Some(3), "it is not there to be sent twice: {said}");
    assert_eq!(cluster.sink.ledger().counts().requests, 2, "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_refused_where_a_person_sees_it_with_kafka() {
    an_unknown_topic_is_refused_where_a_person_sees_it(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_refused_where_a_person_sees_it_with_rabbitmq() {
    an_unknown_topic_is_refused_where_a_person_sees_it(Broker::RabbitMq).await;
}

/// A topic is deleted with events that nobody had read: they are named, sent again, and arrive.
#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_has_lost_is_named_and_sent_again() {
    const KEYS: u64 = 30;
    let cluster = Cluster::new(Broker::Kafka, "").await;
    let mut worker = cluster.worker().await;
    cluster.write(KEYS, 1).await;
    cluster.sink.ledger().wait_for_accepted(KEYS, PATIENCE).await.expect("all arrive");
    // What has arrived is noted as sent a moment later.
    worker.wait_until("/v1/status", |status| status["relay"]["waiting"] == 0).await.expect("all are sent");
    let (code, said) = cluster.command(&["outbox", "reconcile"]).await;
    assert!(code == Some(0) && said.contains("30 events compared with the broker, 0 missing"), "{said}");

    cluster.let_wait(&worker, KEYS, 2).await;
    cluster.end(&mut worker).await;
    delete(&cluster.topic("orders")).await;
    let (code, said) = cluster.command(&["outbox", "reconcile"]).await;
    assert!(code == Some(1) && said.contains("the topic `orders` does not exist"), "{said}");

    let worker = cluster.worker().await;
    let (code, said) = cluster.command(&["outbox", "reconcile"]).await;
    assert!(code == Some(1) && said.contains("60 events compared with the broker, 60 missing"), "{said}");
    let (code, healed) = cluster.command(&["outbox", "reconcile", "--since", "31", "--heal"]).await;
    assert!(code == Some(0) && healed.contains("30 missing; 30 sent once more"), "{healed}");
    set_tracker(&worker, "ok").await;
    cluster.sink.ledger().wait_for_accepted(2 * KEYS, PATIENCE).await.expect("what was lost arrives");
    let tally = cluster.sink.ledger().tally();
    assert_eq!((tally.twice, tally.out_of_order), (0, 0));
    // What was sent once more has rows of its own.
    let (code, again) = cluster.command(&["outbox", "reconcile", "--since", "31"]).await;
    assert!(code == Some(0) && again.contains("60 events compared with the broker, 0 missing"), "{again}");
}

/// Deletes a topic and waits until it is gone.
async fn delete(topic: &str) {
    let servers = services::kafka().replace("kafka://", "");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", servers).create().expect("a client");
    for result in
        admin.delete_topics(&[topic], &rdkafka::admin::AdminOptions::new()).await.expect("an answer")
    {
        result.expect("it is deleted");
    }
    let gone = || {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).expect("an answer");
        !metadata.topics().iter().any(|found| found.name() == topic)
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    while !gone() {
        assert!(tokio::time::Instant::now() < until, "{topic} is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A queue cannot be compared without taking its events: that is said, beside what can be told of it. Queues that were deleted are named
/// and made anew, and what was in them is published once more when a person says from where on.
#[tokio::test(flavor = "multi_thread")]
async fn what_rabbitmq_has_lost_is_published_once_more() {
    const KEYS: u64 = 30;
    let cluster = Cluster::new(Broker::RabbitMq, "").await;
    let mut worker = cluster.worker().await;
    cluster.write(KEYS, 1).await;
    cluster.sink.ledger().wait_for_accepted(KEYS, PATIENCE).await.expect("all arrive");
    // What has arrived is noted as sent a moment later.
    worker.wait_until("/v1/status", |status| status["relay"]["waiting"] == 0).await.expect("all are sent");
    let reconcile = async |wanted: &[&str]| {
        let (code, said) = cluster.command(&["outbox", "reconcile"]).await;
        let told = wanted.iter().all(|text| said.contains(text)) && said.contains("were not compared");
        assert!(code == Some(1) && told, "{wanted:?}: {said}");
    };
    reconcile(&["confirmed everything up to row 30, apart from 0 gaps and 0 rows that were refused"]).await;

    cluster.let_wait(&worker, KEYS, 2).await;
    cluster.end(&mut worker).await;
    reconcile(&["confirmed everything up to row 60"]).await;
    let queues = services::rabbitmqctl(&["list_queues", "--quiet", "--no-table-headers", "name"]).await;
    let own = cluster.topic("");
    let queues: Vec<_> = queues.lines().filter(|queue| queue.starts_with(&own)).collect();
    assert_eq!(queues.len(), 4, "one for each shard");
    for queue in &queues {
        services::rabbitmqctl(&["delete_queue", queue]).await;
    }
    reconcile(&["queues are missing", queues[0], queues[3]]).await;
    let worker = cluster.worker().await;
    worker.wait_line("the queue is gone, and so are the events that were in it").await.expect("it is told");
    let rewind = |seq| ["outbox", "rewind", seq, "--reason", "the queues were deleted"];
    let (code, said) = cluster.command(&rewind("61")).await;
    assert!(code == Some(3) && said.contains("everything up to 60 was"), "nothing is passed over: {said}");
    let (code, said) = cluster.command(&rewind("31")).await;
    assert!(code == Some(0) && said.contains("everything from row 31 on"), "{said}");
    set_tracker(&worker, "ok").await;
    cluster.sink.ledger().wait_for_accepted(2 * KEYS, PATIENCE).await.expect("what was lost arrives");
    let tally = cluster.sink.ledger().tally();
    assert_eq!((tally.twice, tally.out_of_order), (0, 0));
}
