//! Workers come and go in good order: nothing is lost, nothing comes twice, every key keeps its order.

use std::time::Duration;

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
