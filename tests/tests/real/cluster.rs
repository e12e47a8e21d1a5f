//! A hub of several workers: a database, a broker, one configuration.

use std::time::Duration;

use crossdock_sim::{LedgerOptions, Place, Sink, SinkOptions};
use crossdock_testkit::services::{self, private};
use crossdock_tests::{Hub, Setup};
use sqlx::{Connection, PgConnection};

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

impl Broker {
    /// Those that several workers can share.
    pub const SHARED: [Self; 2] = [Self::Kafka, Self::RabbitMq];
}

/// What a hub runs on.
pub struct Cluster {
    pub setup: Setup,
    pub sink: Sink,
    /// The URL of the database.
    pub database: String,
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
        let name = format!("real_{}_{:08x}", std::process::id(), rand::random::<u32>());
        let mut server = PgConnection::connect(postgres).await.expect("Postgres answers");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut server)
            .await
            .expect("a database of its own");
        let (server, _) = postgres.rsplit_once('/').expect("a URL with a database");
        let database = format!("{server}/{name}");
        let prefix = format!("{name}.");
        // A worker that is killed is missed after the session time-out.
        // A worker that is killed is missed after the session time-out.
        let broker = match broker {
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
broker: {broker}
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
        let cluster = Self { setup, sink, database };
        let made = cluster.setup.command(&["migrate"]).await.expect("it ends");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
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

async fn sink() -> Sink {
    let place = |pointer: &str| Some(Place::Pointer(pointer.to_owned()));
    let ledger =
        LedgerOptions { bodies: true, key: place("/key"), seq: place("/seq"), ..LedgerOptions::default() };
    Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts")
}

/// A seed for what is random in a test: printed, and taken from the environment.
pub fn seed() -> u64 {
    let given = std::env::var("CROSSDOCK_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("CROSSDOCK_TEST_SEED={seed}");
    seed
}
