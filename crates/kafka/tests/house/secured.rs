//! A Kafka with TLS, logins and rights, and what signs its certificate.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::{env, fs, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use crossdock_testkit::services::private::{self, Authority, free_port};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

/// A broker with a plain listener for whom everything is allowed, one with TLS that asks for a certificate, and one with TLS and
/// SASL, where `hub` may do everything, `guest` nothing, and `clerk` what a
/// test allows.
pub struct Secured {
    pub server: private::Kafka,
    pub authority: Authority,
    pub tls: u16,
    pub sasl: u16,
    folder: TempDir,
}

const LOGIN: &str = "org.apache.kafka.common.security";

impl Secured {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, tls, sasl) = (Authority::new("crossdock tests"), free_port(), free_port());
        let broker = authority.sign("broker");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("it can be written");
            path.display().to_string()
        };
        let keystore = file("broker.pem", &format!("{}{}", broker.key, broker.certificate));
        let truststore = file("authority.pem", &authority.pem);
        let data = folder.path().join("data");
        format(&data);
        let oauth = format!(
            "listener.name.sasl.oauthbearer.sasl.jaas.config={LOGIN}.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"broker\";"
        );
        let lines = [
            format!("log.dirs={}", data.display()),
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={keystore}"),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={truststore}"),
            "listener.name.tls.ssl.client.auth=required".to_owned(),
            "listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
                .to_owned(),
            format!(
                "listener.name.sasl.plain.sasl.jaas.config={LOGIN}.plain.PlainLoginModule required \
                 user_hub=\"hub-secret\" user_guest=\"guest-secret\" user_clerk=\"clerk-secret\";"
            ),
            format!(
                "listener.name.sasl.scram-sha-256.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;"
            ),
            format!(
                "listener.name.sasl.scram-sha-512.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;"
            ),
            oauth,
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            "super.users=User:ANONYMOUS;User:hub;User:CN=hub".to_owned(),
        ];
        let options =
            private::Kafka::options().listener("TLS", "SSL", tls).listener("SASL", "SASL_SSL", sasl);
        let server = lines.into_iter().fold(options, |options, line| options.line(line)).start().await;
        Self { server, authority, tls, sasl, folder }
    }
}

impl Secured {
    /// Allows a user something, by KafkaJS: librdkafka's Rust client has no words for it.
    pub async fn allow(&self, user: &str, kind: &str, name: &str, operation: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = folder.join("../../target/npm/node_modules/kafkajs");
        assert!(modules.exists(), "kafkajs is not installed; type this: deploy/dev/oracles");
        let server = format!("127.0.0.1:{}", self.server.port());
        let mut command = tokio::process::Command::new("node");
        command.arg(folder.join("tests/allow.mjs")).arg(modules).args([&server, user, kind, name, operation]);
        let output = command.kill_on_drop(true).output();
        let output =
            timeout(super::SOON, output).await.expect("it ends").expect("node is installed, as make says");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Lays down an empty folder in which `hub` can log in by SCRAM.
fn format(data: &Path) {
    let home = env_or_file("CROSSDOCK_TEST_KAFKA_HOME");
    let settings = data.with_extension("properties");
    let lines = [
        "process.roles=broker,controller",
        "node.id=1",
        "controller.quorum.voters=1@127.0.0.1:1",
        "listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1",
        "controller.listener.names=CONTROLLER",
        &format!("log.dirs={}", data.display()),
    ];
    fs::write(&settings, lines.join("\n")).expect("it can be written");
    let mut command = Command::new("java");
    command.args(["-cp", &format!("{home}/lib/*"), "kafka.tools.StorageTool", "format"]);
    command.args(["--cluster-id", "ce2pvcHfzhs0NC5J5CJsOQ", "--config"]).arg(&settings);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        command.args(["--add-scram", &format!("{mechanism}=[name=hub,password=hub-secret]")]);
    }
    let output = command.output().expect("java is installed, as make up says");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// As the testkit finds it.
fn env_or_file(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/services.env");
        let text = fs::read_to_string(file).expect("the servers are not up; type this: make up");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.expect("Kafka runs in Docker: install maven and default-jre-headless, then make down up")
            .to_owned()
    })
}

/// Gives out tokens that nobody signed, as Kafka takes them by default, to who knows the secret.
pub async fn token_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/token", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 8 << 10];
                let count = client.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..count]).to_lowercase();
                // "client:token-secret" in base64, in lower case.
                let knows = request.contains("authorization: basic y2xpzw50onrva2vulxnly3jlda==");
                let answer = if knows { token() } else { "{}".to_owned() };
                let status = if knows { "200 OK" } else { "401 Unauthorized" };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    answer.len()
                );
                // A client that is gone wants no answer.
                let _ = client.write_all(format!("{head}{answer}").as_bytes()).await;
            });
        }
    });
    url
}

fn token() -> String {
    let now = Timestamp::now().as_second();
    let claims = format!(r#"{{"sub":"hub","iat":{},"exp":{}}}"#, now - 10, now + 60);
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(r#"{{"access_token":"{}.{}.","expires_in":60}}"#, part(r#"{"alg":"none"}"#), part(&claims))
}
