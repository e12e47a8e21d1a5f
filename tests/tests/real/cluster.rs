//! A hub of several workers: a database, a broker, one configuration.

use std::time::{Duration, Instant};

use crossdock_sim::{LedgerOptions, Place, Sink, SinkOptions};
use crossdock_testkit::services::{self, private};
use crossdock_tests::{Database, Hub, Setup};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

/// How long a worker may take to end: what is out has 20 s, then it lets go of everything. Orchestrators kill after 30 s.
pub const END_MAX: Duration = Duration::from_secs(26);

/// How long anything may take that happens by itself.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    Kafka,
    RabbitMq,
    /// One worker only.
    Embedded,
}

/// What a hub runs on.
pub struct Cluster {
    pub broker: Broker,
    pub setup: Setup,
    pub sink: Sink,
    /// The URL of the database.
    pub database: String,
    /// Drops it with the cluster.
    _dropped: Database,
}

/// Servers that this test alone uses, to be stopped and killed.
pub enum PrivateBroker {
    Kafka(private::Kafka),
    RabbitMq(private::RabbitMq),
}

impl PrivateBroker {
    pub async fn start(broker: Broker) -> Self {
        match broker {
            Broker::Kafka => Self::Kafka(private::Kafka::start().await),
            Broker::RabbitMq => Self::RabbitMq(private::RabbitMq::start().await),
            Broker::Embedded => panic!("it has no server"),
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Kafka(server) => server.url(),
            Self::RabbitMq(server) => server.url(),
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        match self {
            Self::Kafka(server) => server.kill(),
            Self::RabbitMq(server) => server.kill(),
        }
    }

    pub async fn stop(&mut self) {
        match self {
            Self::Kafka(server) => server.stop().await,
            Self::RabbitMq(server) => server.stop().await,
        }
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&mut self) {
        match self {
            Self::Kafka(server) => server.freeze(),
            Self::RabbitMq(server) => server.freeze(),
        }
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        match self {
            Self::Kafka(server) => server.thaw(),
            Self::RabbitMq(server) => server.thaw(),
        }
    }

    pub async fn restart(&mut self) {
        match self {
            Self::Kafka(server) => server.restart().await,
            Self::RabbitMq(server) => server.restart().await,
        }
    }
}

impl Cluster {
    /// On the servers that all tests share, with a database and names of its own. `flow` are more lines for the flow.
    pub async fn new(broker: Broker, flow: &str) -> Self {
        let url = match broker {
            Broker::Kafka => services::kafka(),
            Broker::RabbitMq => services::amqp(),
            Broker::Embedded => String::new(),
        };
        Self::on(&services::postgres(), broker, &url, flow).await
    }

    /// On these servers.
    pub async fn on(postgres: &str, broker: Broker, url: &str, flow: &str) -> Self {
        let own = Database::create(postgres, "real").await.expect("a database of its own");
        let (name, database) = (own.name(), own.url().to_owned());
        let prefix = format!("{name}.");
        // A worker that is killed is missed after the session time-out.
        let carrier = match broker {
            Broker::Kafka => format!(
                "{{ url: \"${{env.BROKER}}\", topic_prefix: \"{prefix}\", group_prefix: \"{prefix}\", session_timeout: 6s }}"
            ),
            Broker::RabbitMq => format!("{{ url: \"${{env.BROKER}}\", prefix: \"{prefix}\" }}"),
            Broker::Embedded => "embedded".to_owned(),
        };
        let sink = sink().await;
        let config = format!(
            "listen: 127.0.0.1:0
store: {database}
broker: {carrier}
topics: {{ orders: {{ partitions: 4 }} }}
connections:
  tracker:
    connector: http
    config: {{ base_url: {url}, signing_secret: \"${{env.TRACKER_SECRET}}\", timeout: 5s }}
flows:
  orders-to-tracker:
    from: {{ topic: orders }}
    to: {{ connection: tracker, action: post, path: /orders }}
{flow}",
            url = sink.url()
        );
        let setup = Setup::new(&config).expect("a folder").variable("BROKER", url);
        let cluster = Self { broker, setup, sink, database, _dropped: own };
        let made = cluster.setup.command(&["migrate"]).await.expect("it ends");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
    }

    /// What Kafka calls a topic of this hub.
    pub fn topic(&self, name: &str) -> String {
        let (_, database) = self.database.rsplit_once('/').expect("a URL with a database");
        format!("{database}.{name}")
    }

    /// Changes the configuration, for whatever starts from now on; `from` must be there once.
    pub fn edit(&self, from: &str, to: &str) {
        let config = self.setup.folder().join("crossdock.yaml");
        let config = std::fs::read_to_string(config).expect("it is there");
        assert_eq!(config.matches(from).count(), 1, "{from} in {config}");
        self.setup.rewrite(&config.replace(from, to)).expect("it is written");
    }

    /// Runs a command of the binary; gives its exit code and all that it said.
    pub async fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.setup.command(arguments).await.expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("text"))
    }

    /// A connection to the database, as an application has it.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.database).await.expect("the database answers")
    }

    /// Writes events to the outbox, one of each key, all with this sequence.
    pub async fn write(&self, keys: u64, seq: u64) {
        let mut connection = self.connect().await;
        for key in 0..keys {
            sqlx::query(
                "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', $1, 't', $2)",
            )
            .bind(format!("k{key}"))
            .bind(json!({ "key": format!("k{key}"), "seq": seq }).to_string().into_bytes())
            .execute(&mut connection)
            .await
            .expect("it is written");
        }
    }

    /// Pauses the connection and writes events, until they wait in the broker.
    pub async fn let_wait(&self, worker: &Hub, keys: u64, seq: u64) {
        set_tracker(worker, "paused").await;
        self.write(keys, seq).await;
        // RabbitMQ does not tell how many deliveries another worker has in hand.
        let wait = |status: &Value| status["pending"].as_u64() > Some(0) && status["relay"]["waiting"] == 0;
        worker.wait_until("/v1/status", wait).await.expect("they wait in the broker");
    }

    /// SIGTERM, and its end in good order and in time.
    pub async fn end(&self, worker: &mut Hub) {
        let began = Instant::now();
        worker.terminate().await.expect("it is told");
        let ended = worker.wait_end().await.expect("it ends");
        assert!(ended.success(), "{:#?}", worker.log_lines());
        assert!(began.elapsed() < END_MAX, "{:?}: {:#?}", began.elapsed(), worker.log_lines());
    }

    /// Two workers that both have partitions of the flow.
    pub async fn two_workers(&self) -> [Hub; 2] {
        let workers = [self.worker().await, self.worker().await];
        for worker in &workers {
            let has_some = |line: &str| match self.broker {
                Broker::Kafka => line.contains("partitions assigned") && !line.contains("\"count\":0"),
                Broker::RabbitMq => line.contains("shards taken"),
                Broker::Embedded => panic!("it has one worker"),
            };
            worker.wait_for_line("a share", has_some).await.expect("it gets its share");
        }
        workers
    }

    /// Starts a worker with every role and waits until it is ready.
    pub async fn worker(&self) -> Hub {
        self.setup.start().await.expect("the worker starts")
    }

    /// Starts a worker with these roles.
    pub async fn worker_as(&self, roles: &str) -> Hub {
        let mut hub = self.setup.spawn_as(&["run", "--role", roles], &[]).expect("the worker starts");
        hub.wait_ready().await.expect("it becomes ready");
        hub
    }
}

/// What a worker logged but for the attempts that did not fail.
pub fn told(worker: &Hub) -> Vec<String> {
    let is_other = |line: &String| !line.contains("delivery attempted") || line.contains("\"class\":");
    worker.log_lines().into_iter().filter(is_other).collect()
}

/// Pauses the connection of the flow (`paused`) or lets its events go (`ok`).
pub async fn set_tracker(worker: &Hub, state: &str) {
    let body = json!({ "state": state, "reason": "test" });
    let call = worker.call(Method::PATCH, "/v1/connections/tracker", Some(&body));
    let (status, answer) = call.await.expect("it answers");
    assert!(status.is_success(), "{answer}");
}

async fn sink() -> Sink {
    let place = |pointer: &str| Some(Place::Pointer(pointer.to_owned()));
    let ledger = LedgerOptions {
        bodies: true,
        every_header: true,
        key: place("/key"),
        seq: place("/seq"),
        ..LedgerOptions::default()
    };
    Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts")
}

/// A seed for what is random in a test: printed, and taken from the environment.
pub fn seed() -> u64 {
    let given = std::env::var("CROSSDOCK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("CROSSDOCK_TEST_SEED={seed}");
    seed
}
