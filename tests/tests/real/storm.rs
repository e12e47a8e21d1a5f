//! Writers commit while workers are killed, paused and replaced, the broker is killed and Postgres is stopped at once.
//!
//! Nothing committed is lost, nothing rolled back is delivered, first deliveries of a key keep its order; what comes twice is
//! bounded by what was in flight at the faults.

use std::time::Duration;

use crossdock_sim::{Answer, Rule};
use crossdock_testkit::services::private;
use crossdock_tests::Hub;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    application::{Application, Habits},
    checker::check,
    cluster::{Broker, Cluster, PATIENCE, PrivateBroker, seed, told},
};

/// Keys: at most one delivery of each is under way at a time.
const KEYS: u64 = 40;
const ROUNDS: usize = 6;
/// What may come twice after a fault: for each key what was under way, and what was answered in the moments before and not
/// yet told to the broker, at most half a second of it; and as much again for what the relay had published and not advanced.
const TWICE_AT_A_FAULT: usize = 600;

async fn storm(broker: Broker) {
    let mut random = StdRng::seed_from_u64(seed());
    let mut postgres = private::Postgres::start().await;
    let mut server = PrivateBroker::start(broker).await;
    let flow = "    retry: { schedule: [20ms, 2500ms, 2500ms, 2500ms, 5s], jitter: 0.1 }\n";
    let cluster = Cluster::on(&postgres.url(), broker, &server.url(), flow).await;
    let mut workers = vec![cluster.worker().await, cluster.worker().await];
    let habits =
        Habits { writers: 8, keys: KEYS, seed: random.random(), pause: Duration::from_millis(5), slow: 1 };
    let application = Application::start(&cluster.database, habits).await;
    for round in 0..ROUNDS {
        disturb(&cluster, &mut random);
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1500))).await;
        let victim = random.random_range(0..workers.len());
        match round {
            0 | 3 => {
                workers.swap_remove(victim).kill().await.expect("it dies");
                workers.push(cluster.worker().await);
            }
            1 => {
                server.kill();
                tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
                server.restart().await;
            }
            2 => {
                let mut leaving = workers.swap_remove(victim);
                cluster.end(&mut leaving).await;
                workers.push(cluster.worker().await);
            }
            4 => {
                postgres.kill();
                tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
                postgres.restart().await;
            }
            _ => pause(&workers[victim], Duration::from_secs(6)).await,
        }
    }
    cluster.sink.script().clear();
    application.wait_for(200).await;
    let written = application.finish().await;
    let committed: usize = written.values().map(Vec::len).sum();
    let verdict = check(&written, &cluster.sink, &workers[0], PATIENCE).await;
    println!("{broker:?}: {committed} committed, {verdict:?}");
    assert_eq!(
        (verdict.lost, verdict.ghosts, verdict.inverted),
        (0, 0, 0),
        "{broker:?}: {:#?}",
        workers.iter().map(told).collect::<Vec<_>>()
    );
    assert!(verdict.twice <= ROUNDS * TWICE_AT_A_FAULT, "{} came twice", verdict.twice);
}

/// A few failures all the time, so that lanes and held events are at work when something dies.
fn disturb(cluster: &Cluster, random: &mut StdRng) {
    cluster.sink.script().clear();
    for _ in 0..4 {
        let key = format!("k{}", random.random_range(0..KEYS));
        cluster
            .sink
            .script()
            .push(Rule::any().key(key).times(random.random_range(1..4)), Answer::status(503));
    }
}

/// SIGSTOP, and SIGCONT after a while.
async fn pause(worker: &Hub, time: Duration) {
    worker.signal("STOP").await.expect("it is told");
    tokio::time::sleep(time).await;
    worker.signal("CONT").await.expect("it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_over_kafka_and_postgres_loses_nothing() {
    storm(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_over_rabbitmq_and_postgres_loses_nothing() {
    storm(Broker::RabbitMq).await;
}
