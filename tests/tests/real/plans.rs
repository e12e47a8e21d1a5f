//! What is there and what is wanted: `plan` and `check --online`.

use crossdock_testkit::services::{self, private};
use crossdock_tests::Setup;

use crate::cluster::{Broker, Cluster};

/// `plan` says what is missing, makes it when told to, and changes nothing that is there and differs.
async fn a_plan_makes_what_is_missing_and_changes_nothing(broker: Broker) {
    let cluster = Cluster::new(broker, "").await;
    for _ in 0..2 {
        let (code, plan) = cluster.command(&["plan"]).await;
        assert!(code == Some(0) && plan.contains("missing"), "a plan makes nothing: {plan}");
    }
    let (code, plan) = cluster.command(&["plan", "--apply"]).await;
    assert!(code == Some(0) && !plan.contains("missing"), "{plan}");
    let (code, plan) = cluster.command(&["plan"]).await;
    assert!(code == Some(0) && !plan.contains("missing"), "now everything is there: {plan}");
    let (code, online) = cluster.command(&["check", "--online"]).await;
    assert_eq!(code, Some(0), "{online}");

    let mut worker = cluster.worker().await;
    cluster.let_wait(&worker, 24, 1).await;
    cluster.end(&mut worker).await;
    cluster.edit("orders: { partitions: 4 }", "orders: { partitions: 6 }");
    for arguments in [&["plan"][..], &["plan", "--apply"], &["plan"]] {
        let (code, plan) = cluster.command(arguments).await;
        let tells = |line: &str| line.contains("`orders`") && line.contains("partitions: 4");
        assert!(code == Some(1) && plan.lines().any(tells), "{arguments:?}: {plan}");
    }
    cluster.edit("orders: { partitions: 6 }", "orders: { partitions: 4 }");
    let (code, plan) = cluster.command(&["plan"]).await;
    assert_eq!(code, Some(0), "it has what it had: {plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_makes_what_is_missing_and_changes_nothing_with_kafka() {
    a_plan_makes_what_is_missing_and_changes_nothing(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_makes_what_is_missing_and_changes_nothing_with_rabbitmq() {
    a_plan_makes_what_is_missing_and_changes_nothing(Broker::RabbitMq).await;
}

fn passwords(setup: Setup) -> Setup {
    setup.variable("WRONG", "wrong").variable("RIGHT", "right")
}

/// What waiting would not mend is named with its remedy by `check --online`, and ends the start.
async fn named(cluster: &Cluster, what: &str, remedy: &str) {
    let (code, said) = cluster.command(&["check", "--online"]).await;
    assert_eq!(code, Some(1), "{said}");
    let told = said.lines().find(|line| line.starts_with("! ")).unwrap_or_default();
    assert!(said.contains(what) && told.contains(remedy), "`{what}`, `{remedy}`: {said}");
    let (code, said) = cluster.command(&["run"]).await;
    assert!(code == Some(1) && said.contains(what), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_postgres_refuses_is_named_with_what_to_do() {
    let postgres =
        private::Postgres::options().access("host all stranger 127.0.0.1/32 scram-sha-256").start().await;
    postgres.psql("CREATE ROLE stranger LOGIN PASSWORD 'right'").await;
    let mut cluster = Cluster::on(&postgres.url(), Broker::Kafka, &services::kafka(), "").await;
    let stranger = |password: &str| {
        let server = cluster.database.replace("crossdock@", &format!("stranger:${{env.{password}}}@"));
        format!("store: \"{server}\"\n")
    };
    cluster.setup = passwords(cluster.setup);
    cluster.edit(&format!("store: {}\n", cluster.database), &stranger("WRONG"));
    named(&cluster, "password", "check the password in `store`").await;
    cluster.edit(&stranger("WRONG"), &stranger("RIGHT"));
    named(&cluster, "stranger", "GRANT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_rabbitmq_refuses_is_named_with_what_to_do() {
    let user = format!("stranger{:08x}", rand::random::<u32>());
    services::rabbitmqctl(&["add_user", &user, "right"]).await;
    let server = services::amqp();
    let (_, server) = server.split_once('@').expect("a user");
    let url = format!("amqp://{user}:${{env.WRONG}}@{server}");
    let mut cluster = Cluster::on(&services::postgres(), Broker::RabbitMq, &url, "").await;
    cluster.setup = passwords(cluster.setup);
    cluster.edit("${env.BROKER}", &url);
    named(&cluster, "ACCESS_REFUSED", &format!("look at the password of `{user}`")).await;
    cluster.edit("env.WRONG", "env.RIGHT");
    named(&cluster, &user, "rabbitmqctl set_permissions").await;
    services::rabbitmqctl(&["delete_user", &user]).await;
}
