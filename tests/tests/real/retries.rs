//! A receiver that fails now and then, with two workers.

use std::{collections::HashMap, time::Duration};

use crossdock_sim::{Answer, Entry, Rule};

use crate::{
    application::{Application, Habits},
    checker::{Verdict, check},
    cluster::{Broker, Cluster, PATIENCE, seed},
};

/// Waits in the lane, and in the store, in turn; long enough for whatever one in five refuses.
const RETRY: &str = "    retry: { schedule: [20ms, 2500ms, 20ms, 2500ms, 20ms, 2500ms, 20ms, 2500ms, 20ms, 2500ms], jitter: 0 }\n";

/// Of all deliveries, the time between the first two tries and between the next two, in milliseconds.
fn waits(entries: &[Entry]) -> [Vec<i128>; 2] {
    let mut tries: HashMap<_, Vec<_>> = HashMap::new();
    for entry in entries {
        tries.entry(entry.webhook_id.clone().expect("an id")).or_default().push(entry.at);
    }
    let between = |n: usize| {
        let pair =
            |tries: &Vec<jiff::Timestamp>| Some(tries.get(n + 1)?.duration_since(*tries.get(n)?).as_millis());
        tries.values().filter_map(pair).collect()
    };
    [between(0), between(1)]
}

async fn one_in_five_fails(broker: Broker) {
    let cluster = Cluster::new(broker, RETRY).await;
    let workers = cluster.two_workers().await;
    cluster.sink.script().push(Rule::any().one_in(5), Answer::status(503));
    let habits = Habits { writers: 4, keys: 40, seed: seed(), pause: Duration::from_millis(5), slow: 0 };
    let application = Application::start(&cluster.database, habits).await;
    application.wait_for(800).await;
    let written = application.finish().await;
    let verdict = check(&written, &cluster.sink, &workers[0], PATIENCE).await;
    assert_eq!(verdict, Verdict::default(), "{broker:?}");
    let [lane, store] = waits(&cluster.sink.ledger().entries());
    assert!(lane.len() > 100 && lane.iter().all(|wait| (20..2500).contains(wait)), "in the lane: {lane:?}");
    assert!(store.len() > 10 && store.iter().all(|wait| *wait >= 2500), "in the store: {store:?}");
    for worker in &workers {
        let status = worker.get("/v1/status").await.expect("it answers");
        assert!(status["delivered"].as_u64() > Some(0), "both have delivered: {status}");
        assert_eq!(status["dead"], 0, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_five_fails_with_kafka() {
    one_in_five_fails(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_five_fails_with_rabbitmq() {
    one_in_five_fails(Broker::RabbitMq).await;
}
