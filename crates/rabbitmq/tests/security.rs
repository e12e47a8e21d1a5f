//! TLS and logins by certificate, on a real broker whose certificate an authority of the test has signed.

mod house;

use std::time::Duration;

use crossdock_core::Severity;
use crossdock_rabbitmq::{RabbitOptions, Wanted};
use crossdock_testkit::services::private::{Authority, RabbitMq, free_port};
use house::{House, Reader, events, publish};
use tempfile::TempDir;

/// A broker with TLS that believes the certificates of its authority.
struct Secured {
    server: RabbitMq,
    authority: Authority,
    port: u16,
    folder: TempDir,
}

impl Secured {
    async fn start() -> Self {
        let (authority, port) = (Authority::new("crossdock tests"), free_port());
        let folder = tempfile::tempdir().expect("a folder");
        let broker = authority.sign("broker");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("it can be written");
            path.display().to_string()
        };
        let lines = [
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.cacertfile = {}", file("authority.pem", &authority.pem)),
            format!("ssl_options.certfile = {}", file("broker.pem", &broker.certificate)),
            format!("ssl_options.keyfile = {}", file("broker.key", &broker.key)),
            "ssl_options.verify = verify_peer".to_owned(),
            "ssl_options.fail_if_no_peer_cert = false".to_owned(),
            "auth_mechanisms.1 = PLAIN".to_owned(),
            "auth_mechanisms.2 = EXTERNAL".to_owned(),
            "ssl_cert_login_from = common_name".to_owned(),
        ];
        let options = RabbitMq::options().plugin("rabbitmq_auth_mechanism_ssl");
        let server = lines.into_iter().fold(options, |options, line| options.line(line)).start().await;
        Self { server, authority, port, folder }
    }

    fn options(&self, house: &House, login: &str, pairs: &[(&str, &str)]) -> RabbitOptions {
        let url = format!("amqps://{login}127.0.0.1:{}", self.port);
        let own = [("prefix", house.prefix.as_str()), ("lease_ttl", "2s")];
        RabbitOptions::parse(&url, own.into_iter().chain(pairs.iter().copied())).expect("options")
    }
}

/// Publishes and reads.
async fn works(house: &House, options: RabbitOptions) {
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    let worker = house.open(options, &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    publish(&worker.rabbit, "orders", events("k", 0..20)).await;
    reader.until(events("k", 0..20)).await;
    let found = worker.rabbit.findings(&wanted).await;
    assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "{found:?}");
    worker.rabbit.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_authority_of_our_own_and_a_login_by_certificate() {
    let secured = Secured::start().await;
    secured.server.ctl(&["add_user", "hub", "never-used"]).await;
    secured.server.ctl(&["set_permissions", "hub", ".*", ".*", ".*"]).await;
    let ca = secured.authority.pem.as_str();

    // A password within TLS.
    let house = House::at(secured.server.url());
    works(&house, secured.options(&house, "crossdock:crossdock@", &[("tls.ca", ca)])).await;

    // By the certificate alone, from files, as one does.
    let ours = secured.authority.sign("hub");
    let file = |name: &str, text: &str| {
        let path = secured.folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let files = [file("ca", ca), file("certificate", &ours.certificate), file("key", &ours.key)];
    let pairs = [
        ("auth", "external"),
        ("tls.ca", files[0].as_str()),
        ("tls.certificate", &files[1]),
        ("tls.key", &files[2]),
    ];
    let house = House::at(secured.server.url());
    works(&house, secured.options(&house, "", &pairs)).await;
    let listed = secured.server.ctl(&["list_users"]).await;
    assert!(listed.contains("hub"), "{listed}");

    // What is wrong is told as such.
    let look = async |login: &str, pairs: &[(&str, &str)]| {
        let worker = house.open_as_it_is(secured.options(&house, login, pairs));
        let found = worker.rabbit.findings(&Wanted::default()).await;
        let [finding] = &found[..] else { panic!("one thing is wrong: {found:?}") };
        assert_eq!(finding.severity, Severity::Error);
        finding.clone()
    };
    let other = Authority::new("somebody else");
    let unsigned = look("crossdock:crossdock@", &[("tls.ca", &other.pem)]).await;
    assert!(unsigned.remedy.as_deref().is_some_and(|remedy| remedy.contains("`tls.ca`")), "{unsigned:?}");
    let missing = look("crossdock:crossdock@", &[("tls.ca", "/nowhere/ca.pem")]).await;
    assert!(missing.detail.contains("the file of `tls.ca`"), "{missing:?}");
    let nobody = secured.authority.sign("nobody");
    let pairs = [
        ("auth", "external"),
        ("tls.ca", ca),
        ("tls.certificate", nobody.certificate.as_str()),
        ("tls.key", nobody.key.as_str()),
    ];
    let stranger = look("", &pairs).await;
    assert!(stranger.detail.contains("ACCESS_REFUSED"), "{stranger:?}");
}
