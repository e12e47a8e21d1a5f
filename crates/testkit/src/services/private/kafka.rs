//! Kafka: one node that is broker and controller.

use std::{env, fs, path::Path, process::Command};

use async_trait::async_trait;
use rustix::process::Signal;

use super::{
    program::programs,
    server::{Kind, Server},
};
use crate::services::answers;

/// A Kafka of one test.
pub type Kafka = Server<KafkaOptions>;

impl Kafka {
    /// With the defaults of [`KafkaOptions`].
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// What can be chosen.
    pub fn options() -> KafkaOptions {
        KafkaOptions { partitions: 8, listeners: Vec::new(), lines: Vec::new() }
    }
}

/// How a private Kafka is set up. Topics are not created by themselves.
#[derive(Debug)]
pub struct KafkaOptions {
    partitions: u32,
    listeners: Vec<(String, String, u16)>,
    lines: Vec<String>,
}

impl KafkaOptions {
    /// How many partitions a topic gets that is created without a number; 8 unless told.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// One more listener, beside the plain one: its name, its security protocol (`SSL`, `SASL_PLAINTEXT`, `SASL_SSL`) and its
    /// port, which is from [`free_port`](super::free_port).
    pub fn listener(mut self, name: &str, protocol: &str, port: u16) -> Self {
        self.listeners.push((name.to_owned(), protocol.to_owned(), port));
        self
    }

    /// One more line of `server.properties`; of two with the same name the later counts.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Starts it; returns when it answers.
    pub async fn start(self) -> Kafka {
        Server::launch(self).await
    }

    fn properties(&self, folder: &Path, ports: &[u16]) -> String {
        let (port, controller) = (ports[0], ports[1]);
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (name, protocol, port) in &self.listeners {
            listeners += &format!(",{name}://127.0.0.1:{port}");
            protocols += &format!(",{name}:{protocol}");
        }
        let mut lines = vec![
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners={listeners},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners={listeners}"),
            format!("listener.security.protocol.map={protocols}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            format!("log.dirs={}", folder.join("data").display()),
            format!("num.partitions={}", self.partitions),
            "auto.create.topics.enable=false".to_owned(),
            "offsets.topic.replication.factor=1".to_owned(),
            "offsets.topic.num.partitions=8".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            // Otherwise every first member of a group waits three seconds for others.
            "group.initial.rebalance.delay.ms=0".to_owned(),
            // Until the session of a killed broker is over, the one that starts in its place is refused: 9 s by default.
            "broker.session.timeout.ms=2000".to_owned(),
            "broker.heartbeat.interval.ms=400".to_owned(),
            // The default takes half of a small heap.
            "log.cleaner.dedupe.buffer.size=2097152".to_owned(),
        ];
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }
}

#[async_trait]
impl Kind for KafkaOptions {
    const NAME: &'static str = "Kafka";
    const STOP: Signal = Signal::TERM;
    const PORTS: usize = 2;

    /// A copy of the folder that `make up` has formatted: formatting takes as long as starting.
    async fn create(&self, folder: &Path, ports: &[u16]) {
        let formatted =
            programs("CROSSDOCK_TEST_KAFKA_HOME", "maven and default-jre-headless").join("formatted");
        let data = folder.join("data");
        fs::create_dir(&data).expect("a folder in an empty one");
        for file in fs::read_dir(&formatted).expect("`make up` formats it") {
            let file = file.expect("a name");
            fs::copy(file.path(), data.join(file.file_name())).expect("a small file is copied");
        }
        fs::write(folder.join("server.properties"), self.properties(folder, ports))
            .expect("it can be written");
    }

    async fn command(&self, folder: &Path, _: &[u16]) -> Command {
        let jars = programs("CROSSDOCK_TEST_KAFKA_HOME", "maven and default-jre-headless").join("lib/*");
        let java =
            env::var("JAVA_HOME").map_or_else(|_| "java".to_owned(), |home| format!("{home}/bin/java"));
        let mut command = Command::new(java);
        // Small and quick to start, rather than fast in the long run.
        command
            .args(["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(jars)
            .arg("kafka.Kafka")
            .arg(folder.join("server.properties"));
        command
    }

    async fn answers(&self, port: u16) -> Result<(), String> {
        answers::kafka(port).await
    }

    fn url(&self, port: u16) -> String {
        format!("kafka://127.0.0.1:{port}")
    }
}
