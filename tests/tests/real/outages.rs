//! A server is away: what can go on goes on, the rest waits, nothing is lost.

use std::time::Duration;

use crossdock_testkit::services::private;
use serde_json::{Value, json};

use crate::{
    application::{Application, Habits},
    checker::{Verdict, check},
    cluster::{Broker, Cluster, PATIENCE, PrivateBroker, seed},
};

fn event(id: u64) -> Value {
    json!({ "specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "t", "partitionkey": format!("k{id}"),
        "data": { "key": format!("k{id}"), "seq": 1 } })
}

async fn send(url: &str, event: &Value) -> u16 {
    let request = reqwest::Client::new()
        .post(format!("{url}/v1/topics/orders/events"))
        .header("content-type", "application/cloudevents+json")
        .timeout(PATIENCE)
        .body(event.to_string());
    request.send().await.expect("the worker answers").status().as_u16()
}

/// While the broker is away, events are taken in; a worker that is told to stop then ends in time; one that starts then
/// takes events in too and delivers once the broker is back.
async fn a_broker_that_is_away(broker: Broker) {
    let postgres = crossdock_testkit::services::postgres();
    let mut server = PrivateBroker::start(broker).await;
    let cluster = Cluster::on(&postgres, broker, &server.url(), "").await;
    let mut worker = cluster.worker().await;
    for id in 1..=10 {
        assert_eq!(send(&worker.url, &event(id)).await, 202);
    }
    cluster.sink.ledger().wait_for_accepted(10, PATIENCE).await.expect("they arrive");
    server.stop().await;
    for id in 11..=18 {
        assert_eq!(send(&worker.url, &event(id)).await, 202, "the outbox takes it");
    }
    worker
        .wait_until("/v1/outbox", |outbox| outbox["waiting"].as_u64() >= Some(8))
        .await
        .expect("they wait in the outbox");
    let began = std::time::Instant::now();
    worker.terminate().await.expect("it is told");
    assert!(worker.wait_end().await.expect("it ends").success(), "{:?}", worker.log_lines());
    assert!(began.elapsed() < Duration::from_secs(25), "it took {:?}", began.elapsed());
    let waiting = cluster.setup.spawn(&[]).expect("the worker starts");
    server.restart().await;
    let arrived = cluster.sink.ledger().wait_for_accepted(18, PATIENCE).await;
    arrived.unwrap_or_else(|error| panic!("{error}: {:#?}", waiting.log_lines()));
    drop(waiting);
    let twice = cluster.sink.ledger().tally().twice;
    assert!(twice <= 10, "{twice} came twice: at most what was delivered just before the broker went");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_away_stops_no_intake() {
    a_broker_that_is_away(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_that_is_away_stops_no_intake() {
    a_broker_that_is_away(Broker::RabbitMq).await;
}

/// While Postgres is away nothing is taken in and nothing is lost; a worker that starts then waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_away_takes_nothing_and_loses_nothing() {
    let mut postgres = private::Postgres::start().await;
    let cluster =
        Cluster::on(&postgres.url(), Broker::Kafka, &crossdock_testkit::services::kafka(), "").await;
    let worker = cluster.worker().await;
    let habits = Habits { writers: 4, keys: 20, seed: seed(), pause: Duration::from_millis(5), slow: 1 };
    let application = Application::start(&cluster.database, habits).await;
    application.wait_for(200).await;
    postgres.kill();
    assert_eq!(send(&worker.url, &event(1)).await, 503, "nothing is promised that cannot be kept");
    let late = cluster.setup.spawn(&[]).expect("the worker starts");
    late.wait_line("store").await.expect("it says what it waits for");
    postgres.restart().await;
    application.wait_for(500).await;
    let written = application.finish().await;
    let verdict = check(&written, &cluster.sink, &worker, PATIENCE).await;
    assert_eq!(Verdict { twice: 0, ..verdict }, Verdict::default());
}
