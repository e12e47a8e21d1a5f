//! A database of its own for each row, and what is asked of the servers from outside of the hub.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use crossdock_tests::Database;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::{process::Command, sync::OnceCell};

use super::queues::Queues;
use crate::process::Measured;

/// The flow of a row, where it has one.
pub const FLOW: &str = "load-to-sink";

/// Answers of servers take no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which broker a row is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    Kafka,
    RabbitMq,
}

/// Where a row works.
pub struct World {
    pub broker: Broker,
    pub name: String,
    database: Database,
    /// `host:port` of Kafka.
    pub kafka: String,
    amqp: String,
    queues: OnceCell<Queues>,
    partitions: u32,
    config: String,
}

impl World {
    /// A new database, migrated, and the topic `load` with so many partitions. `rest` is what the configuration says besides.
    pub async fn new(row: &str, broker: Broker, partitions: u32, rest: &str) -> anyhow::Result<Self> {
        let postgres = variable("CROSSDOCK_TEST_POSTGRES")?;
        let database = Database::create(&postgres, &format!("bench_{row}")).await?;
        let name = database.name().to_owned();
        let kafka = variable("CROSSDOCK_TEST_KAFKA")?.trim_start_matches("kafka://").to_owned();
        let amqp = variable("CROSSDOCK_TEST_AMQP")?;
        let address = match broker {
            Broker::Kafka => format!("{{ url: \"kafka://{kafka}\", topic_prefix: \"{name}.\" }}"),
            Broker::RabbitMq => format!("{{ url: \"${{env.BENCH_AMQP}}\", prefix: \"{name}.\" }}"),
        };
        let config = format!(
            "listen: 127.0.0.1:0
store: {store}
broker: {address}
topics: {{ load: {{ partitions: {partitions} }} }}
{rest}",
            store = database.url()
        );
        let world = Self { broker, name, database, kafka, amqp, queues: OnceCell::new(), partitions, config };
        world.command(&["migrate"]).await?;
        world.command(&["plan", "--apply"]).await?;
        Ok(world)
    }

    /// Runs a command of the binary to its end.
    async fn command(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let folder = self.folder()?;
        let mut command = Command::new(crossdock_tests::crossdock());
        command.args(arguments).current_dir(folder.path()).envs(self.variables()).kill_on_drop(true);
        let output =
            tokio::time::timeout(6 * PATIENCE, command.output()).await.context("it does not end")??;
        ensure!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn folder(&self) -> anyhow::Result<TempDir> {
        let folder = TempDir::new().context("failed to make a folder")?;
        std::fs::write(folder.path().join("crossdock.yaml"), &self.config)
            .context("failed to write the configuration")?;
        Ok(folder)
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TRACKER_SECRET", crossdock_tests::TRACKER_SECRET.to_owned()),
            ("BENCH_AMQP", self.amqp.clone()),
        ]
    }

    /// Starts a worker with these roles and waits until it is ready.
    pub async fn worker(&self, roles: &str) -> anyhow::Result<Measured> {
        Measured::start_as(self.folder()?, &["run", "--role", roles], &self.variables()).await
    }

    /// A connection to the database, as an application has it.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::from_str(self.database.url())?.disable_statement_logging();
        options.connect().await.context("failed to reach the database")
    }

    /// Writes events of so many keys to the outbox, each 512 bytes and numbered within its key.
    pub async fn fill(&self, events: u64, keys: u64) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        for from in (0..events).step_by(100_000) {
            sqlx::query(
                "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
                 SELECT 'load', 'k' || n % $3, 'load.written', convert_to(rpad(
                     '{\"key\":\"k' || n % $3 || '\",\"seq\":' || n / $3 + 1 || ',\"pad\":\"', 510, 'x') || '\"}', 'UTF8')
                 FROM generate_series($1::bigint, $2::bigint - 1) AS n",
            )
            .bind(i64::try_from(from)?)
            .bind(i64::try_from((from + 100_000).min(events))?)
            .bind(i64::try_from(keys)?)
            .execute(&mut connection)
            .await
            .context("failed to fill the outbox")?;
        }
        // As autovacuum would have done by the time a backlog is there.
        sqlx::raw_sql("VACUUM (ANALYZE) crossdock.outbox").execute(&mut connection).await?;
        sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
        Ok(())
    }

    /// How many events the topic `load` has.
    pub async fn in_broker(&self) -> anyhow::Result<u64> {
        match self.broker {
            Broker::Kafka => self.in_topic(&format!("{}.load", self.name)).await,
            Broker::RabbitMq => self.in_queues().await,
        }
    }

    /// How many records a topic of Kafka has.
    pub async fn in_topic(&self, topic: &str) -> anyhow::Result<u64> {
        let (kafka, topic) = (self.kafka.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka).create()?;
            let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let ends =
                partitions.map(|partition| consumer.fetch_watermarks(&topic, partition.id(), PATIENCE));
            let ends: Result<Vec<_>, _> = ends.collect();
            Ok(ends?.iter().map(|(_, end)| u64::try_from(*end).unwrap_or_default()).sum())
        })
        .await?
    }

    async fn in_queues(&self) -> anyhow::Result<u64> {
        let names: Vec<_> =
            (0..self.partitions).map(|shard| format!("{}.{FLOW}.load.{shard}", self.name)).collect();
        self.queues.get_or_try_init(|| Queues::open(&self.amqp)).await?.waiting(&names).await
    }

    /// Waits until the topic has so many events.
    pub async fn wait_in_broker(&self, events: u64, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            let there = self.in_broker().await?;
            if there >= events {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{there} of {events} events had arrived in the broker after {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The address of RabbitMQ.
    pub fn amqp(&self) -> &str {
        &self.amqp
    }
}

/// What `make up` says of the servers.
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: `make bench` sets it; or type `make up`"))
}
