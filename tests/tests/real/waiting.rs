//! A server that cannot be reached when a worker starts: it is waited for and told of once, and `check --online` names it.

use std::time::Duration;

use crossdock_testkit::services::private;
use reqwest::{Method, StatusCode};

use crate::cluster::{Broker, Cluster};

/// No server has this name: RFC 2606.
const NOWHERE: &str = "nowhere.invalid";

/// Several tries to reach a server, with the waits between them; a client of Kafka tries for 5 s each time.
const SEVERAL_TRIES: Duration = Duration::from_secs(8);

/// The server of `what` stands in the configuration under a name that nobody knows.
async fn is_waited_for(cluster: &Cluster, what: &str) {
    let (code, said) = cluster.command(&["check", "--online"]).await;
    let remedy = said.lines().any(|line| line.starts_with("! "));
    assert!(code == Some(1) && said.contains(NOWHERE) && remedy, "{said}");

    let mut worker = cluster.setup.spawn(&[]).expect("the worker starts");
    let is_it = |line: &str| line.contains(&format!("\"message\":\"{what} is not available"));
    let line = worker.wait_for_line("what is waited for", is_it).await.expect("it says what it waits for");
    assert!(line.contains(NOWHERE), "{line}");
    if what != "the store" {
        worker.wait_ready().await.expect("events are taken in");
    }
    // By then whoever needs the server has said so; after that nobody says it again.
    let told = worker.log_lines();
    tokio::time::sleep(SEVERAL_TRIES).await;
    assert!(!worker.has_ended().expect("it is looked at"), "{:#?}", worker.log_lines());
    assert_eq!(worker.log_lines(), told, "one line a state");
    assert_eq!(told.iter().filter(|line| is_it(line)).count(), 1, "{told:#?}");
    cluster.end(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_nobody_knows_is_waited_for() {
    let cluster = Cluster::new(Broker::Kafka, "").await;
    let (_, database) = cluster.database.rsplit_once('/').expect("a database");
    let nowhere = format!("postgres://crossdock@{NOWHERE}/{database}");
    cluster.edit(&format!("store: {}\n", cluster.database), &format!("store: {nowhere}\n"));
    is_waited_for(&cluster, "the store").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_nobody_knows_is_waited_for() {
    let cluster = Cluster::new(Broker::Kafka, "").await;
    cluster.edit("${env.BROKER}", &format!("kafka://{NOWHERE}:9092"));
    is_waited_for(&cluster, "Kafka").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_that_nobody_knows_is_waited_for() {
    let mut cluster = Cluster::new(Broker::RabbitMq, "").await;
    cluster.setup = cluster.setup.variable("WORD", "any");
    cluster.edit("${env.BROKER}", &format!("amqp://crossdock:${{env.WORD}}@{NOWHERE}"));
    is_waited_for(&cluster, "RabbitMQ").await;
}

/// A worker that waits for its database answers probes: it is alive, and not ready until the database is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_is_alive_and_becomes_ready_by_itself() {
    let mut postgres = private::Postgres::start().await;
    let cluster =
        Cluster::on(&postgres.url(), Broker::Kafka, &crossdock_testkit::services::kafka(), "").await;
    postgres.stop().await;
    let port = private::free_port();
    cluster.edit("listen: 127.0.0.1:0", &format!("listen: 127.0.0.1:{port}"));
    let mut worker = cluster.setup.spawn(&[]).expect("the worker starts");
    worker.wait_line("the store is not available").await.expect("it says what it waits for");
    worker.url = format!("http://127.0.0.1:{port}");
    let probe = async |which: &str| {
        worker.call(Method::GET, &format!("/health/{which}"), None).await.expect("a probe is answered")
    };
    assert_eq!(probe("live").await.0, 200);
    let (status, problem) = probe("ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert!(problem["detail"].to_string().contains("the store is not available"), "{problem}");
    postgres.restart().await;
    worker.wait_ready().await.expect("it becomes ready");
    let (status, ready) = worker.call(Method::GET, "/health/ready", None).await.expect("it answers");
    assert_eq!(status, 200, "{ready}");
    cluster.end(&mut worker).await;
}

/// A password that Kafka refuses ends the start with what to do: waiting would not mend it.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_kafka_refuses_is_named_with_what_to_do() {
    let port = private::free_port();
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_hub=\"right\";";
    let kafka = private::Kafka::options()
        .listener("LOGIN", "SASL_PLAINTEXT", port)
        .line("sasl.enabled.mechanisms=PLAIN")
        .line(format!("listener.name.login.plain.sasl.jaas.config={login}"))
        .start()
        .await;
    let mut cluster =
        Cluster::on(&crossdock_testkit::services::postgres(), Broker::Kafka, &kafka.url(), "").await;
    cluster.setup = cluster.setup.variable("WRONG", "wrong").variable("RIGHT", "right");
    let sasl = "sasl: { mechanism: plain, username: hub, password: \"${env.WRONG}\" }";
    cluster.edit("\"${env.BROKER}\"", &format!("\"kafka://127.0.0.1:{port}\", {sasl}"));
    let (code, said) = cluster.command(&["check", "--online"]).await;
    let remedy = said.lines().find(|line| line.starts_with("! ")).unwrap_or_default();
    assert!(code == Some(1) && remedy.contains("sasl.username"), "{said}");
    let (code, said) = cluster.command(&["run"]).await;
    assert!(code == Some(1) && said.contains("authentication"), "{said}");
    cluster.edit("env.WRONG", "env.RIGHT");
    let (code, said) = cluster.command(&["check", "--online"]).await;
    assert_eq!(code, Some(0), "{said}");
}
