//! What is found when something is wrong with the broker or its configuration, each with what to do.

mod house;

use std::time::Duration;

use crossdock_core::{Finding, Severity};
use crossdock_rabbitmq::{RabbitError, RabbitOptions, Wanted};
use crossdock_testkit::{
    eventually,
    services::{
        self,
        private::{RabbitMq, free_port},
    },
};
use house::{House, events, lines, publish};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The findings that are no good news.
async fn wrong(house: &House, url: &str, more: &[(&str, &str)], wanted: &Wanted) -> Vec<Finding> {
    let own = [("prefix", house.prefix.as_str()), ("connect_timeout", "3s")];
    let options = RabbitOptions::parse(url, own.into_iter().chain(more.iter().copied())).expect("options");
    let worker = house.open_as_it_is(options);
    let mut found = worker.rabbit.findings(wanted).await;
    worker.rabbit.close(Duration::from_secs(2)).await;
    found.retain(|finding| matches!(finding.severity, Severity::Warning | Severity::Error));
    assert!(found.iter().all(|finding| finding.remedy.is_some()), "each says what to do: {found:?}");
    found
}

fn only(found: &[Finding]) -> (&str, &str) {
    let [finding] = found else { panic!("one thing is wrong: {found:?}") };
    (&finding.detail, finding.remedy.as_deref().expect("it says what to do"))
}

/// The URL of the shared server with another login.
fn with_login(login: &str) -> String {
    let url = services::amqp();
    let (_, server) = url.rsplit_once('@').expect("the URL has a login");
    format!("amqp://{login}@{server}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there() {
    let house = House::shared();
    let url = format!("amqp://127.0.0.1:{}", free_port());
    let found = wrong(&house, &url, &[], &Wanted::default()).await;
    let (detail, remedy) = only(&found);
    assert!(detail.contains("refused") && remedy.contains("start the broker"), "{found:?}");
    let worker = house.open_as_it_is(RabbitOptions::parse(&url, []).expect("options"));
    let error =
        worker.rabbit.provision(&house.wanted(&[("orders", 1)], &[])).await.expect_err("nobody answers");
    assert!(!error.is_final(), "it may come back: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_missing_virtual_host() {
    let house = House::shared();
    let found = wrong(&house, &with_login("crossdock:wrong"), &[], &Wanted::default()).await;
    let (detail, remedy) = only(&found);
    assert!(detail.contains("ACCESS_REFUSED") && remedy.contains("password of `crossdock`"), "{found:?}");
    assert!(!detail.contains("wrong"), "no password is told: {found:?}");
    let worker =
        house.open_as_it_is(RabbitOptions::parse(&with_login("crossdock:wrong"), []).expect("options"));
    let error =
        worker.rabbit.provision(&house.wanted(&[("orders", 1)], &[])).await.expect_err("it is refused");
    assert!(error.is_final(), "waiting does not help: {error:?}");
    let found = wrong(&house, &format!("{}/nowhere", services::amqp()), &[], &Wanted::default()).await;
    let (detail, remedy) = only(&found);
    assert!(detail.contains("nowhere") && remedy.contains("add_vhost"), "{found:?}");
}

/// A login that may do nothing, then one that may do only what the remedy says.
#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_named_with_the_command_that_gives_them() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    house.open(house.options(&[]), &wanted).await;
    let user = house.prefix.trim_end_matches('.').to_owned();
    services::rabbitmqctl(&["add_user", &user, "secret"]).await;
    services::rabbitmqctl(&["set_permissions", &user, "^$", "^$", "^$"]).await;
    let url = with_login(&format!("{user}:secret"));
    let found = wrong(&house, &url, &[], &wanted).await;
    let rights = found.iter().find(|finding| finding.subject == "rights").expect("they are missing");
    let remedy = rights.remedy.as_deref().expect("it says what to do");
    let pattern = format!("^{}", house.prefix.replace('.', "\\."));
    assert!(
        rights.detail.contains("ACCESS_REFUSED") && remedy.contains(&format!("'{pattern}'")),
        "{rights:?}"
    );
    services::rabbitmqctl(&["set_permissions", &user, &pattern, &pattern, &pattern]).await;
    let found = wrong(&house, &url, &[], &wanted).await;
    services::rabbitmqctl(&["delete_user", &user]).await;
    assert_eq!(found, [], "that is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_made_and_then_as_it_should_be() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    house.note(&wanted);
    let worker = house.open_as_it_is(house.options(&[]));
    let before: Vec<_> =
        worker.rabbit.findings(&wanted).await.iter().map(|finding| finding.severity).collect();
    assert_eq!(before, [Severity::Ok, Severity::Missing, Severity::Missing]);
    let again: Vec<_> =
        worker.rabbit.findings(&wanted).await.iter().map(|finding| finding.severity).collect();
    assert_eq!(again, before, "looking makes nothing");
    let made = worker.rabbit.provision(&wanted).await.expect("it is made");
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!(worker.rabbit.provision(&wanted).await.expect("nothing is left to make"), []);
    let after = worker.rabbit.findings(&wanted).await;
    assert!(after.iter().all(|finding| finding.severity == Severity::Ok), "{after:?}");
}

/// Fewer shards would leave queues that nobody reads; more would move keys while events wait.
#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_shards_is_refused_while_it_would_lose_or_turn_something() {
    lines::record();
    let house = House::shared();
    let wanted = |shards| house.wanted(&[("orders", shards)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted(2)).await;
    publish(&worker.rabbit, "orders", events("k", 0..10)).await;
    for (shards, advice) in [(1, "that the topic was made with"), (4, "write `partitions: 2`")] {
        let found = wrong(&house, &services::amqp(), &[], &wanted(shards)).await;
        assert!(only(&found).1.contains(advice), "{found:?}");
        let worker = house.open_as_it_is(house.options(&[]));
        let refused = worker.rabbit.provision(&wanted(shards)).await;
        assert!(matches!(refused, Err(RabbitError::Topology(_))), "{shards} shards: {refused:?}");
    }
    let mut reader = house::Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    reader.until(events("k", 0..10)).await;
    drop(reader);
    worker.rabbit.close(Duration::from_secs(5)).await;
    // Once everything is finished, there may be more; that is no loss.
    let worker = house.open(house.options(&[]), &wanted(4)).await;
    publish(&worker.rabbit, "orders", events("k", 10..20)).await;
    assert_eq!(lines::with(&["ERROR", &house.prefix]), [""; 0]);
    assert_eq!(lines::with(&["WARN", &house.queue("billing", "orders", 3), "was raised"]).len(), 1);
}

/// Policies and alarms, as the management API tells them. R5 and R7.
#[tokio::test(flavor = "multi_thread")]
async fn policies_that_would_lose_events_are_named() {
    let port = free_port();
    let server = RabbitMq::options()
        .plugin("rabbitmq_management")
        .line("management.tcp.ip = 127.0.0.1")
        .line(format!("management.tcp.port = {port}"))
        .start()
        .await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    house.open(house.options(&[]), &wanted).await;
    let management = format!("http://crossdock@127.0.0.1:{port}");
    let look = async || {
        let login = [("management", management.as_str()), ("management.password", "crossdock")];
        wrong(&house, &server.url(), &login, &wanted).await
    };
    eventually("nothing is wrong", async || {
        let found = look().await;
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let dangers = [
        (r#"{"delivery-limit": 20}"#, Severity::Error, "delivered often"),
        (r#"{"max-length": 5, "overflow": "drop-head"}"#, Severity::Error, "drops the oldest"),
        (r#"{"max-length": 5}"#, Severity::Warning, "refuses events"),
        (r#"{"message-ttl": 60000}"#, Severity::Error, "wait long"),
        (r#"{"expires": 60000}"#, Severity::Error, "deletes queues"),
    ];
    for (rules, severity, danger) in dangers {
        server.ctl(&["set_policy", "bad", ".*", rules]).await;
        // The API shows a change after a moment.
        eventually(rules, async || {
            let found = look().await;
            match &found[..] {
                [finding] if finding.severity == severity && finding.detail.contains(danger) => {
                    assert_eq!(finding.subject, "policy `bad`");
                    Ok(())
                }
                _ => Err(format!("{found:?}")),
            }
        })
        .await;
    }
    server.ctl(&["clear_policy", "bad"]).await;
    let login = [("management", management.as_str()), ("management.password", "wrong")];
    let found = wrong(&house, &server.url(), &login, &wanted).await;
    assert!(only(&found).0.contains("401"), "{found:?}");
}

/// The broker is made to look older than it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_too_old_is_named() {
    let house = House::shared();
    let url = services::amqp();
    let (login, server) = url.rsplit_once('@').expect("a login");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let way = format!("{login}@{}", listener.local_addr().expect("an address"));
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let broker = TcpStream::connect(&server).await.expect("the broker answers");
            tokio::spawn(aged(client, broker));
        }
    });
    let found = wrong(&house, &way, &[], &Wanted::default()).await;
    let (detail, remedy) = only(&found);
    assert!(detail.contains("RabbitMQ 1.") && remedy.contains("3.10 or later"), "{found:?}");
}

/// Passes everything on, and puts another digit first in the version that the broker greets with.
async fn aged(client: TcpStream, broker: TcpStream) {
    const NAME: &[u8] = b"\x07versionS";
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_broker).await });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from_broker.read(&mut bytes).await {
        let bytes = &mut bytes[..count];
        if let Some(at) = bytes.windows(NAME.len()).position(|window| window == NAME) {
            bytes[at + NAME.len() + 4] = b'1';
        }
        if to_client.write_all(bytes).await.is_err() {
            return;
        }
    }
}
