//! A server is away: what can go on goes on, the rest waits, nothing is lost.

use std::time::{Duration, Instant};

use crossdock_sim::{Answer, Rule};
use crossdock_testkit::services::{self, private};
use crossdock_tests::Hub;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    application::{Application, Habits},
    checker::{Verdict, check},
    cluster::{Broker, Cluster, PATIENCE, PrivateBroker, seed},
};

/// The only event of its key.
fn event(id: u64) -> Value {
    json!({ "specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "t", "partitionkey": format!("k{id}"),
        "data": { "key": format!("k{id}"), "seq": 1 } })
}

async fn send(worker: &Hub, event: &Value) -> Response {
    let request = reqwest::Client::new()
        .post(format!("{}/v1/topics/orders/events", worker.url))
        .header("content-type", "application/cloudevents+json")
        .timeout(PATIENCE)
        .body(event.to_string());
    request.send().await.expect("the worker answers")
}

async fn take(worker: &Hub, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        assert_eq!(send(worker, &event(id)).await.status(), 202, "the outbox takes {id}");
    }
}

/// What a probe says.
async fn probe(worker: &Hub, which: &str) -> (StatusCode, Value) {
    worker.call(Method::GET, &format!("/health/{which}"), None).await.expect("a probe is answered")
}

/// Waits until a probe has this status.
async fn until(worker: &Hub, which: &str, status: StatusCode) -> Value {
    let began = Instant::now();
    loop {
        let (found, body) = probe(worker, which).await;
        if found == status {
            return body;
        }
        assert!(began.elapsed() < PATIENCE, "{which}: {found} {body}: {:#?}", worker.log_lines());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn has_problem(text: &str) -> impl Fn(&Value) -> bool {
    move |status| {
        let problems = status["problems"].as_array().expect("a list");
        problems.iter().any(|problem| problem.as_str().is_some_and(|problem| problem.contains(text)))
    }
}

/// The stated limit of events that wait. It is looked at once a second, so some more are taken than that.
const LIMIT: u64 = 30;

/// Sends events from an id on until one is refused; gives the id of that, and the answer.
async fn until_refused(worker: &Hub, from: u64) -> (u64, Response) {
    let began = Instant::now();
    for id in from.. {
        let answer = send(worker, &event(id)).await;
        if answer.status() != 202 {
            return (id, answer);
        }
        assert!(began.elapsed() < PATIENCE, "{id} events were taken");
    }
    unreachable!("there are more numbers than a test has time")
}

/// While the broker is away, the outbox takes events up to its limit, then 503 says when to come again; a worker that is told to
/// stop ends in time; one that starts then delivers everything once the broker is back, and takes events in again.
async fn a_broker_that_is_away(broker: Broker) {
    let mut server = PrivateBroker::start(broker).await;
    let cluster = Cluster::on(&services::postgres(), broker, &server.url(), "").await;
    cluster.edit("topics:", &format!("limits: {{ outbox: {LIMIT} }}\ntopics:"));
    let mut worker = cluster.worker().await;
    take(&worker, 1..=5).await;
    cluster.sink.ledger().wait_for_accepted(5, PATIENCE).await.expect("they arrive");
    server.stop().await;
    let (refused, answer) = until_refused(&worker, 6).await;
    assert!(refused > LIMIT, "{refused} was refused");
    is_busy(answer).await;
    let ready = until(&worker, "ready", StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(ready["detail"].to_string().contains("events wait for the relay"), "{ready}");
    assert_eq!(probe(&worker, "live").await.0, 200, "another process would be no better");
    let (code, said) = cluster.command(&["status", "--url", &worker.url]).await;
    assert!(code == Some(1) && said.contains("intake is stopped: "), "{said}");
    let lines = worker.log_lines();
    let told = lines.iter().filter(|line| line.contains("events are refused with 503")).count();
    assert_eq!(told, 1, "{lines:#?}");
    cluster.end(&mut worker).await;

    let worker = cluster.worker().await;
    // Applications write to the table themselves: that is no intake of ours.
    cluster.write(1, 1).await;
    server.restart().await;
    // Those with the ids below the one that was refused, and the application's.
    let arrived = cluster.sink.ledger().wait_for_accepted(refused, PATIENCE).await;
    arrived.unwrap_or_else(|error| panic!("{error}: {:#?}", worker.log_lines()));
    until(&worker, "ready", StatusCode::OK).await;
    take(&worker, refused..=refused).await;
    worker.wait_until("/v1/status", |status| status["state"] == "running").await.expect("all is well again");
    let twice = async || cluster.sink.ledger().tally().twice;
    let all = refused + 1 + twice().await;
    cluster.sink.ledger().wait_for_accepted(all, PATIENCE).await.expect("it goes on");
    assert!(twice().await <= 5, "at most what was delivered just before the broker went");
}

async fn is_busy(answer: Response) {
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (503, &"1".parse().expect("a value"))
    );
    let problem: Value = answer.json().await.expect("a problem");
    assert_eq!(problem["type"], "urn:crossdock:problem:busy", "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_away_stops_no_intake_up_to_the_limit() {
    a_broker_that_is_away(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_that_is_away_stops_no_intake_up_to_the_limit() {
    a_broker_that_is_away(Broker::RabbitMq).await;
}

/// A broker that keeps its connections and answers nothing: it is told of, events are taken in, no worker is thought dead, and
/// everything goes on when it does.
async fn a_frozen_broker(broker: Broker) {
    let mut server = PrivateBroker::start(broker).await;
    let cluster = Cluster::on(&services::postgres(), broker, &server.url(), "").await;
    let takes = cluster.worker_as("ingest,api").await;
    let works = cluster.worker_as("relay,deliver,api").await;
    take(&takes, 1..=5).await;
    cluster.sink.ledger().wait_for_accepted(5, PATIENCE).await.expect("they arrive");
    assert_eq!(until(&works, "ready", StatusCode::OK).await["status"], "ready");
    server.freeze();
    take(&takes, 6..=15).await;
    works.wait_until("/v1/status", has_problem("broker")).await.expect("it is told of");
    until(&works, "ready", StatusCode::SERVICE_UNAVAILABLE).await;
    for (worker, which) in [(&takes, "ready"), (&takes, "live"), (&works, "live")] {
        assert_eq!(probe(worker, which).await.0, 200, "{which}");
    }
    take(&takes, 16..=20).await;
    server.thaw();
    let arrived = cluster.sink.ledger().wait_for_accepted(20, PATIENCE).await;
    arrived.unwrap_or_else(|error| panic!("{error}: {:#?}", works.log_lines()));
    until(&works, "ready", StatusCode::OK).await;
    works.wait_until("/v1/status", |status| status["state"] == "running").await.expect("all is well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_kafka_breaks_no_worker() {
    a_frozen_broker(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_rabbitmq_breaks_no_worker() {
    a_frozen_broker(Broker::RabbitMq).await;
}

/// While Postgres is away nothing is taken in and nothing is lost; a worker that starts then waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_away_takes_nothing_and_loses_nothing() {
    let mut postgres = private::Postgres::start().await;
    let cluster = Cluster::on(&postgres.url(), Broker::Kafka, &services::kafka(), "").await;
    let worker = cluster.worker().await;
    let habits = Habits { writers: 4, keys: 20, seed: seed(), pause: Duration::from_millis(5), slow: 1 };
    let application = Application::start(&cluster.database, habits).await;
    application.wait_for(200).await;
    postgres.kill();
    let refused = send(&worker, &event(1)).await;
    assert_eq!(refused.status(), 503, "nothing is promised that cannot be kept");
    assert_eq!(refused.headers()["retry-after"], "1");
    let late = cluster.setup.spawn(&[]).expect("the worker starts");
    late.wait_line("store").await.expect("it says what it waits for");
    postgres.restart().await;
    application.wait_for(500).await;
    let written = application.finish().await;
    let verdict = check(&written, &cluster.sink, &worker, PATIENCE).await;
    assert_eq!(Verdict { twice: 0, ..verdict }, Verdict::default());
}

const KEYS: u64 = 20;

/// Writes an event of each key and waits until their calls are out, and the outbox knows that they are in the broker.
async fn are_out(cluster: &Cluster, worker: &Hub, seq: u64) {
    let before = cluster.sink.ledger().counts().requests;
    cluster.write(KEYS, seq).await;
    cluster.sink.ledger().wait_for(before + KEYS, PATIENCE).await.expect("every call is out");
    worker.wait_until("/v1/outbox", |outbox| outbox["waiting"] == 0).await.expect("all are relayed");
}

/// What fails while Postgres is away is settled nowhere: a worker that goes on settles it once Postgres is back, and of one that
/// dies meanwhile all of it comes again.
async fn nothing_is_settled_without_postgres(broker: Broker, url: &str) {
    let mut postgres = private::Postgres::start().await;
    let cluster = Cluster::on(&postgres.url(), broker, url, "").await;
    // Postgres is gone when the answers come.
    cluster.edit("timeout: 5s", "timeout: 30s");
    let mut worker = cluster.worker().await;
    cluster.sink.script().push(Rule::any(), Answer::status(422).delay(Duration::from_secs(8)));
    are_out(&cluster, &worker, 1).await;
    postgres.stop().await;
    worker.wait_line("failed to settle; nothing is lost").await.expect("it says so");
    until(&worker, "ready", StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(probe(&worker, "live").await.0, 200, "another process would be no better");
    assert_eq!(send(&worker, &event(1)).await.status(), 503, "nor is anything taken in");
    postgres.restart().await;
    let all_dead = |status: &Value| status["dead"] == KEYS && status["pending"] == 0;
    worker.wait_until("/v1/status", all_dead).await.expect("they are settled now");
    // The leases of RabbitMQ's shards are in Postgres: who cannot renew them lets the shards go, and their deliveries come again.
    let (tries, times) =
        (cluster.sink.ledger().counts().requests, if broker == Broker::Kafka { 1 } else { 2 });
    assert!((KEYS..=times * KEYS).contains(&tries), "{tries} tries");
    until(&worker, "ready", StatusCode::OK).await;
    cluster.end(&mut worker).await;

    let worker = cluster.worker().await;
    are_out(&cluster, &worker, 2).await;
    postgres.stop().await;
    worker.wait_line("failed to settle; nothing is lost").await.expect("the calls came back");
    worker.kill().await.expect("it dies");
    cluster.sink.script().clear();
    postgres.restart().await;
    let worker = cluster.worker().await;
    cluster.sink.ledger().wait_for_accepted(KEYS, PATIENCE).await.expect("they come again");
    let status = worker.get("/v1/status").await.expect("a status");
    assert_eq!(status["dead"], KEYS, "those of before: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_settled_without_postgres_with_kafka() {
    nothing_is_settled_without_postgres(Broker::Kafka, &services::kafka()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_settled_without_postgres_with_rabbitmq() {
    nothing_is_settled_without_postgres(Broker::RabbitMq, &services::amqp()).await;
}
