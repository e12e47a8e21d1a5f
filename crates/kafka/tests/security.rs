//! TLS, logins and rights, on a real broker whose certificate an authority of the test has signed; and what is found when
//! something is wrong with them.

mod house;

use std::time::Duration;

use crossdock_core::{Broker, Delivery, Finding, PublishError, Severity};
use crossdock_kafka::{Kafka, KafkaOptions, TopicShape};
use crossdock_testkit::services::private::Authority;
use house::{
    House, event, events, flow, ids, ids_of, publish,
    secured::{Secured, token_endpoint},
    take, topic,
};
use tokio::sync::OnceCell;

/// One for all tests of this file.
static SERVER: OnceCell<Secured> = OnceCell::const_new();

async fn server() -> &'static Secured {
    SERVER.get_or_init(Secured::start).await
}

fn options(port: u16, pairs: &[(&str, &str)]) -> KafkaOptions {
    let url = format!("kafka://127.0.0.1:{port}");
    KafkaOptions::parse(&url, pairs.iter().copied()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Makes topics through the plain listener, then publishes and reads through the other one.
async fn works(server: &Secured, options: KafkaOptions) {
    let house = House::with(options, &server.server.url());
    let mut plain = KafkaOptions::parse(&server.server.url(), []).expect("options");
    plain.topic_prefix.clone_from(&house.options.topic_prefix);
    house.open_with(plain, &["orders"], 2).await.close(Duration::from_secs(5)).await;
    let kafka = Kafka::open(house.options.clone(), house.checkpoints.clone()).expect("a client can be made");
    let mut subscription = kafka.subscribe(&flow("reader"), &[topic("orders")]).await.expect("it is joined");
    publish(&kafka, "orders", events("k", 0..10)).await;
    let came = take(&mut subscription, 10).await;
    assert_eq!(ids(&came), ids_of(&events("k", 0..10)));
    came.into_iter().for_each(Delivery::complete);
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_certificate_of_our_own() {
    let server = server().await;
    let ours = server.authority.sign("hub");
    let pairs = [
        ("tls.ca", server.authority.pem.as_str()),
        ("tls.certificate", &ours.certificate),
        ("tls.key", &ours.key),
    ];
    works(server, options(server.tls, &pairs)).await;
    // The same from files.
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("it can be written");
        folder.path().join(name).display().to_string()
    };
    let (ca, certificate, key) =
        (file("ca", &server.authority.pem), file("certificate", &ours.certificate), file("key", &ours.key));
    let pairs = [("tls.ca", ca.as_str()), ("tls.certificate", &certificate), ("tls.key", &key)];
    works(server, options(server.tls, &pairs)).await;
}

async fn login(mechanism: &str) {
    let server = server().await;
    let pairs = [
        ("tls.ca", server.authority.pem.as_str()),
        ("sasl.mechanism", mechanism),
        ("sasl.username", "hub"),
        ("sasl.password", "hub-secret"),
    ];
    works(server, options(server.sasl, &pairs)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_plain() {
    login("plain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_scram_sha_256() {
    login("scram-sha-256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_scram_sha_512() {
    login("scram-sha-512").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_a_token() {
    let server = server().await;
    let url = token_endpoint().await;
    let pairs = [
        ("tls.ca", server.authority.pem.as_str()),
        ("sasl.mechanism", "oauthbearer"),
        ("sasl.token_url", &url),
        ("sasl.client_id", "client"),
        ("sasl.client_secret", "token-secret"),
        ("sasl.scope", "kafka"),
    ];
    works(server, options(server.sasl, &pairs)).await;
}

/// What is found with options; nothing secret is in it.
async fn found(options: KafkaOptions, wanted: &[TopicShape]) -> Vec<Finding> {
    let house = House::with(options, "kafka://127.0.0.1:1");
    let kafka = Kafka::open(house.options.clone(), house.checkpoints.clone()).expect("a client can be made");
    let findings = kafka.findings(wanted).await;
    kafka.close(Duration::from_secs(1)).await;
    assert!(!format!("{findings:?}").contains("-secret"), "{findings:?}");
    for finding in &findings {
        assert!(finding.severity < Severity::Warning || finding.remedy.is_some(), "{finding:?}");
    }
    findings
}

/// The only error, which says these things.
fn error(findings: &[Finding], about: &str, detail: &str, remedy: &str) {
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let [error] = errors.as_slice() else { panic!("one error is there: {findings:?}") };
    assert!(error.subject.contains(about) && error.detail.contains(detail), "{error:?}");
    assert!(error.remedy.as_ref().is_some_and(|said| said.contains(remedy)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_is_found_with_its_remedy() {
    let server = server().await;
    let wanted = [TopicShape::new(topic("orders"))];
    let nobody = crossdock_testkit::services::private::free_port();
    error(&found(options(nobody, &[]), &wanted).await, "broker", "refused", "start the broker");
    error(&found(options(server.tls, &[]), &wanted).await, "broker", "", "tls: true");
    let stranger = Authority::new("somebody else");
    error(
        &found(options(server.sasl, &[("tls.ca", &stranger.pem)]), &wanted).await,
        "broker",
        "certificate verify failed",
        "tls.ca",
    );
    let login = |user: &'static str, password: &'static str| {
        let pairs = [
            ("tls.ca", server.authority.pem.as_str()),
            ("sasl.mechanism", "plain"),
            ("sasl.username", user),
            ("sasl.password", password),
        ];
        options(server.sasl, &pairs)
    };
    error(&found(login("hub", "wrong"), &wanted).await, "broker", "uthentication", "sasl.username");
    let url = token_endpoint().await;
    let token = [
        ("tls.ca", server.authority.pem.as_str()),
        ("sasl.mechanism", "oauthbearer"),
        ("sasl.token_url", &url),
        ("sasl.client_id", "client"),
        ("sasl.client_secret", "wrong"),
    ];
    error(&found(options(server.sasl, &token), &wanted).await, "broker", "HTTP 401", "sasl.token_url");
    let findings = found(login("guest", "guest-secret"), &wanted).await;
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let about: Vec<_> = errors.iter().map(|error| error.subject.as_str()).collect();
    assert_eq!(about, ["consumer groups", "topic `orders`"], "{findings:?}");
    assert!(
        errors[1].remedy.as_ref().is_some_and(|said| said.contains("DESCRIBE, READ and WRITE")),
        "{errors:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_cluster_does_not_allow_is_found() {
    let house = House::shared();
    house.open(&["orders"], 1).await.close(Duration::from_secs(5)).await;
    let mut options = house.options.clone();
    options.session_timeout = Duration::from_secs(2);
    let kafka = Kafka::open(options, house.checkpoints.clone()).expect("a client can be made");
    let findings = kafka.findings(&[TopicShape::new(topic("orders"))]).await;
    error(&findings, "consumer groups", "`session_timeout` of 2s", "6 s to 1800 s");
    kafka.close(Duration::from_secs(1)).await;
}

/// Rights are found out by trying, and trying leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_on_topics_are_found_without_a_trace() {
    let server = server().await;
    let house = House::at(&server.server.url());
    let plain = house.open(&["orders"], 1).await;
    let name = house.name("orders");
    // What a group may is not the point here.
    server.allow("clerk", "Group", "*", "Read").await;
    server.allow("clerk", "Topic", &name, "Describe").await;
    server.allow("clerk", "Topic", &name, "DescribeConfigs").await;
    let pairs = [
        ("tls.ca", server.authority.pem.as_str()),
        ("sasl.mechanism", "plain"),
        ("sasl.username", "clerk"),
        ("sasl.password", "clerk-secret"),
    ];
    let mut clerk = options(server.sasl, &pairs);
    clerk.topic_prefix.clone_from(&house.options.topic_prefix);
    let kafka = Kafka::open(clerk, house.checkpoints.clone()).expect("a client can be made");
    let wanted = [TopicShape::new(topic("orders"))];
    let errors = async || {
        let findings = kafka.findings(&wanted).await;
        let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(|error| error.detail).collect::<Vec<_>>()
    };
    assert_eq!(errors().await, ["this login may not read it", "this login may not write to it"]);
    server.allow("clerk", "Topic", &name, "Read").await;
    assert_eq!(errors().await, ["this login may not write to it"]);
    server.allow("clerk", "Topic", &name, "Write").await;
    assert_eq!(errors().await, [""; 0]);
    let lag = plain.lag(&flow("nobody")).await.expect("it answers");
    assert!(lag.is_empty());
    let answers = plain.publish(&topic("orders"), vec![event("first", "k")]).await;
    let [Ok(crossdock_core::Published::New(Some(position)))] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!(position.offset, 0, "nothing was written before");
    kafka.close(Duration::from_secs(5)).await;
    plain.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_as_wanted_and_what_differs_is_told_and_left() {
    let house = House::at(&server().await.server.url());
    let kafka = house.open(&["there"], 3).await;
    let day = Duration::from_secs(24 * 60 * 60);
    let shape = |name: &str, partitions: u32, replication: Option<u16>| TopicShape {
        topic: topic(name),
        partitions: Some(partitions),
        replication,
        retention: Some(2 * day),
    };
    let findings = kafka.findings(&[shape("there", 5, Some(2)), shape("missing", 4, None)]).await;
    let said: Vec<_> = findings.iter().map(|finding| (finding.severity, finding.detail.as_str())).collect();
    assert!(said.contains(&(Severity::Warning, "it has 3 partitions, and 5 are wanted")), "{said:?}");
    assert!(
        said.contains(&(Severity::Warning, "it has 1 copies of a partition, and 2 are wanted")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|(severity, said)| *severity == Severity::Warning && said.contains("keeps events")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|(severity, said)| *severity == Severity::Missing && said.contains("4 partitions")),
        "{said:?}"
    );
    let refused = kafka.provision(&[shape("copied", 1, Some(3))]).await.expect_err("there is one broker");
    assert!(format!("{refused:?}").contains("cannot have 3 copies on 1 brokers"), "{refused:?}");
    for _ in 0..2 {
        let findings = kafka.provision(&[shape("there", 5, None), shape("missing", 4, Some(1))]).await;
        let findings = findings.expect("it is made, and what differs is left");
        assert!(findings.iter().all(|finding| finding.severity != Severity::Missing), "{findings:?}");
        let differs = findings.iter().filter(|finding| finding.subject == "topic `missing`");
        assert!(differs.clone().all(|finding| finding.severity == Severity::Ok), "{findings:?}");
    }
    publish(&kafka, "missing", vec![event("1", "k")]).await;
    kafka.close(Duration::from_secs(5)).await;
}

/// A login that may not write is told so, and its events wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_may_not_be_written_is_refused_with_the_reason() {
    let server = server().await;
    let house = House::at(&server.server.url());
    house.open(&["orders"], 1).await.close(Duration::from_secs(5)).await;
    let pairs = [
        ("tls.ca", server.authority.pem.as_str()),
        ("sasl.mechanism", "plain"),
        ("sasl.username", "guest"),
        ("sasl.password", "guest-secret"),
    ];
    let mut guest = options(server.sasl, &pairs);
    guest.topic_prefix.clone_from(&house.options.topic_prefix);
    guest.publish_timeout = Duration::from_secs(4);
    let kafka = Kafka::open(guest, house.checkpoints.clone()).expect("a client can be made");
    let answers = kafka.publish(&topic("orders"), vec![event("1", "k")]).await;
    match answers.as_slice() {
        [Err(PublishError::Unavailable(_) | PublishError::Unknown)] => {}
        other => panic!("it may pass later, and is not lost: {other:?}"),
    }
    kafka.close(Duration::from_secs(2)).await;
}
