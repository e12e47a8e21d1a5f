//! Workers come and go in good order: nothing is lost, nothing comes twice, every key keeps its order.

use std::time::Duration;

use crossdock_sim::{Answer, Rule};
use serde_json::Value;

use crate::{
    application::{Application, Habits},
    checker::{Verdict, check},
    cluster::{Broker, Cluster, PATIENCE, seed, told},
};

async fn workers_come_and_go(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let mut first = cluster.worker().await;
    let habits = Habits { writers: 8, keys: 40, seed: seed(), pause: Duration::from_millis(4), slow: 1 };
    let application = Application::start(&cluster.database, habits).await;
    application.wait_for(300).await;
    let second = cluster.worker().await;
    application.wait_for(900).await;
    let mut third = cluster.worker().await;
    application.wait_for(1500).await;
    cluster.end(&mut third).await;
    application.wait_for(2100).await;
    cluster.end(&mut first).await;
    application.wait_for(2500).await;
    let written = application.finish().await;
    let verdict = check(&written, &cluster.sink, &second, PATIENCE).await;
    let workers = [&first, &second, &third];
    assert_eq!(verdict, Verdict::default(), "{broker:?}: {:#?}", workers.map(told));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_and_go_with_kafka() {
    workers_come_and_go(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_and_go_with_rabbitmq() {
    workers_come_and_go(Broker::RabbitMq).await;
}

/// Calls that take longer than a worker has to end: it ends in time, and the other worker makes them again.
async fn what_outlasts_a_stop_is_left_to_the_other(broker: Broker) {
    const KEYS: u64 = 16;
    let cluster = Cluster::new(broker, "").await;
    cluster.edit("timeout: 5s", "timeout: 60s");
    let [mut first, second] = cluster.two_workers().await;
    cluster.sink.script().push(Rule::any().times(KEYS), Answer::status(200).delay(Duration::from_secs(27)));
    cluster.write(KEYS, 1).await;
    cluster.sink.ledger().wait_for(KEYS, PATIENCE).await.expect("every call is out");
    cluster.write(KEYS, 2).await;
    cluster.end(&mut first).await;
    first.wait_line("what was still out comes again").await.expect("it says so");
    let all = |status: &Value| status["pending"] == 0 && status["relay"]["waiting"] == 0;
    let began = tokio::time::Instant::now();
    while !all(&second.get("/v1/status").await.expect("a status")) {
        assert!(began.elapsed() < PATIENCE, "{:#?}", told(&second));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (tally, counts) = (cluster.sink.ledger().tally(), cluster.sink.ledger().counts());
    assert_eq!((counts.accepted - tally.twice, tally.out_of_order), (2 * KEYS, 0), "{tally:?}");
    assert!((1..=KEYS).contains(&tally.twice), "those that the first one had out: {tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_a_stop_is_left_to_the_other_with_kafka() {
    what_outlasts_a_stop_is_left_to_the_other(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_a_stop_is_left_to_the_other_with_rabbitmq() {
    what_outlasts_a_stop_is_left_to_the_other(Broker::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_restarts_with_the_embedded_broker_and_postgres() {
    let cluster = Cluster::new(Broker::Embedded, "").await;
    let mut worker = cluster.worker().await;
    let habits = Habits { writers: 4, keys: 20, seed: seed(), pause: Duration::from_millis(4), slow: 1 };
    let application = Application::start(&cluster.database, habits).await;
    for commits in [300, 600] {
        application.wait_for(commits).await;
        cluster.end(&mut worker).await;
        worker = cluster.worker().await;
    }
    let written = application.finish().await;
    let verdict = check(&written, &cluster.sink, &worker, PATIENCE).await;
    assert_eq!(verdict, Verdict::default());
}
