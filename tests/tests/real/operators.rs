//! What people do at one worker holds at all of them.

use std::time::Duration;

use crossdock_sim::{Answer, Rule};
use crossdock_tests::Hub;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::cluster::{Broker, Cluster, PATIENCE};

const KEYS: u64 = 24;

async fn write(cluster: &Cluster, seq: u64) {
    let mut connection = PgConnection::connect(&cluster.database).await.expect("the database answers");
    for key in 0..KEYS {
        sqlx::query("INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', $1, 't', $2)")
            .bind(format!("k{key}"))
            .bind(json!({ "key": format!("k{key}"), "seq": seq }).to_string().into_bytes())
            .execute(&mut connection)
            .await
            .expect("it is written");
    }
}

/// Waits until both workers have partitions of the flow.
async fn share(workers: &[Hub]) {
    for worker in workers {
        worker
            .wait_line("assigned")
            .await
            .or(worker.wait_line("shards taken").await)
            .expect("it gets its share");
    }
}

async fn set(worker: &Hub, state: &str) {
    let body = json!({ "state": state, "reason": "test" });
    let (status, answer) =
        worker.call(Method::PATCH, "/v1/connections/tracker", Some(&body)).await.expect("it answers");
    assert!(status.is_success(), "{answer}");
}

async fn a_pause_holds_everywhere(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let workers = [cluster.worker().await, cluster.worker().await];
    set(&workers[0], "paused").await;
    workers[1]
        .wait_until("/v1/connections/tracker", |tracker| tracker["state"] == "paused")
        .await
        .expect("the other one hears of it");
    write(&cluster, 1).await;
    // RabbitMQ does not tell how many deliveries another worker has in hand.
    let waits = |status: &Value| status["pending"].as_u64() > Some(0);
    workers[1].wait_until("/v1/status", waits).await.expect("they wait in the broker");
    assert_eq!(cluster.sink.ledger().counts().requests, 0, "nothing was sent");
    set(&workers[1], "ok").await;
    cluster.sink.ledger().wait_for_accepted(KEYS, PATIENCE).await.expect("all arrive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_everywhere_with_kafka() {
    a_pause_holds_everywhere(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_everywhere_with_rabbitmq() {
    a_pause_holds_everywhere(Broker::RabbitMq).await;
}

/// Dead letters of partitions that both own are replayed from one of them, at the rate of the replay; one is tried first,
/// whoever owns it.
async fn a_replay_is_everybodys(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let workers = [cluster.worker().await, cluster.worker().await];
    share(&workers).await;
    cluster.sink.script().push(Rule::any(), Answer::status(422));
    write(&cluster, 1).await;
    workers[0].wait_until("/v1/status", |status| status["dead"] == KEYS).await.expect("all die");
    cluster.sink.script().clear();
    let letters = workers[1].get("/v1/dead-letters?limit=100").await.expect("every worker lists them");
    let letters = letters["items"].as_array().expect("a list").clone();
    assert_eq!(letters.len() as u64, KEYS);
    for worker in &workers {
        // Whichever of the two owns the partition, for one of them it is the other one's.
        let id = letters[usize::from(std::ptr::eq(worker, &raw const workers[1]))]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let test = json!({ "dead_letter": id, "reason": "is it mended?" });
        let result = worker.post("/v1/replay-tests", &test).await.expect("the test is made");
        assert_eq!(result["outcome"], "delivered", "{result}");
    }
    let body = json!({ "selection": {}, "rate": 11, "reason": "mended" });
    let replay = workers[0].post("/v1/replays", &body).await.expect("a replay");
    let id = replay["id"].as_str().expect("an id").to_owned();
    let began = std::time::Instant::now();
    workers[1]
        .wait_until(&format!("/v1/replays/{id}"), |replay| replay["state"] == "succeeded")
        .await
        .expect("it comes to its end");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1200), "22 items at 11 a second took {took:?}");
    let accepted = cluster.sink.ledger().counts().accepted;
    assert_eq!(accepted, KEYS, "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_everybodys_with_kafka() {
    a_replay_is_everybodys(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_everybodys_with_rabbitmq() {
    a_replay_is_everybodys(Broker::RabbitMq).await;
}

/// `plan` says what is missing, makes it when told to, and changes nothing that is there.
async fn a_plan_says_what_is_missing(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    let plan = async |arguments: &[&str]| {
        let output = cluster.setup.command(arguments).await.expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(plan(&["plan"]).await.contains("missing"), "nothing is there yet");
    assert!(plan(&["plan"]).await.contains("missing"), "and a plan makes nothing");
    plan(&["plan", "--apply"]).await;
    assert!(!plan(&["plan"]).await.contains("missing"), "now everything is there");
    let online = plan(&["check", "--online"]).await;
    assert!(!online.contains("error"), "{online}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_is_missing_with_kafka() {
    a_plan_says_what_is_missing(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_is_missing_with_rabbitmq() {
    a_plan_says_what_is_missing(Broker::RabbitMq).await;
}

/// A row whose topic nobody knows is shown, holds nobody up, and can be sent once the topic is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_refused_where_a_person_sees_it() {
    for broker in Broker::SHARED {
        let cluster = Cluster::new(broker, "").await;
        let worker = cluster.worker().await;
        let mut connection = PgConnection::connect(&cluster.database).await.expect("the database answers");
        sqlx::raw_sql(
            "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload) VALUES
                 ('ordres', 'k1', 't', '{\"key\":\"k1\",\"seq\":1}'), ('orders', 'k2', 't', '{\"key\":\"k2\",\"seq\":1}')",
        )
        .execute(&mut connection)
        .await
        .expect("it is written");
        cluster.sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("the other one arrives");
        let status = worker
            .wait_until("/v1/outbox", |outbox: &Value| outbox["refused"] == 1)
            .await
            .expect("it is counted");
        assert_eq!(status["waiting"], 0);
        let refused = cluster.setup.command(&["outbox", "refused"]).await.expect("it ends");
        let refused = String::from_utf8(refused.stdout).expect("text");
        assert!(refused.contains("ordres"), "{refused}");
    }
}
