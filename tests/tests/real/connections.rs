//! The state of a connection is every worker's.

use crossdock_sim::{Answer, Rule};
use crossdock_tests::Hub;
use serde_json::Value;

use crate::cluster::{Broker, Cluster, PATIENCE, set_tracker};

const KEYS: u64 = 24;

async fn wait_for(worker: &Hub, state: &str) {
    let is_so = |tracker: &Value| tracker["state"] == state;
    worker.wait_until("/v1/connections/tracker", is_so).await.expect("it hears of it");
}

async fn a_pause_holds_everywhere(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let workers = cluster.two_workers().await;
    set_tracker(&workers[0], "paused").await;
    wait_for(&workers[1], "paused").await;
    cluster.let_wait(&workers[1], KEYS, 1).await;
    assert_eq!(cluster.sink.ledger().counts().requests, 0, "nothing was sent");
    set_tracker(&workers[1], "ok").await;
    cluster.sink.ledger().wait_for_accepted(KEYS, PATIENCE).await.expect("all arrive");
    wait_for(&workers[0], "ok").await;
    assert_eq!(cluster.sink.ledger().counts().requests, KEYS, "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_everywhere_with_kafka() {
    a_pause_holds_everywhere(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_everywhere_with_rabbitmq() {
    a_pause_holds_everywhere(Broker::RabbitMq).await;
}

/// Five answers of 401 in a row close the connection for all workers; nothing dies of it. A person opens it at any of them.
async fn a_credential_that_is_missing_holds_everywhere(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let workers = cluster.two_workers().await;
    cluster.sink.script().push(Rule::any(), Answer::status(401));
    for seq in 1..=3 {
        cluster.write(KEYS, seq).await;
    }
    for worker in &workers {
        wait_for(worker, "needs_auth").await;
    }
    cluster.sink.script().clear();
    set_tracker(&workers[1], "ok").await;
    cluster.sink.ledger().wait_for_accepted(3 * KEYS, PATIENCE).await.expect("all arrive");
    wait_for(&workers[0], "ok").await;
    let tally = cluster.sink.ledger().tally();
    assert_eq!((tally.twice, tally.out_of_order), (0, 0), "each came once, in the order of its key");
    for worker in &workers {
        let status = worker.get("/v1/status").await.expect("it answers");
        assert_eq!(status["dead"], 0, "waiting costs nothing: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_missing_holds_everywhere_with_kafka() {
    a_credential_that_is_missing_holds_everywhere(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_missing_holds_everywhere_with_rabbitmq() {
    a_credential_that_is_missing_holds_everywhere(Broker::RabbitMq).await;
}
