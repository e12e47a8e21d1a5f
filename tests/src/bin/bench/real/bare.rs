//! What the machine gives: pages read by `seq > last`, handed to librdkafka, and nothing else.
//!
//! It loses events of transactions that commit late and knows no CloudEvents: a floor for costs, not a relay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};
use sqlx::Row;

use super::world::World;

const PAGE: i64 = 5_000;

/// Counts what was acknowledged.
struct Acknowledged(Arc<AtomicU64>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Events a second from the outbox of the world to a topic of its own.
pub async fn to_kafka(world: &World, events: u64) -> anyhow::Result<f64> {
    let topic = format!("{}.bare", world.name);
    create(&world.kafka, &topic).await?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.kbytes", "65536")
        .create_with_context(Acknowledged(acknowledged.clone()))
        .context("failed to make a producer")?;
    let mut connection = world.connect().await?;
    let (began, mut last) = (Instant::now(), 0_i64);
    loop {
        let query = sqlx::query(
            "SELECT seq, aggregateid, payload FROM crossdock.outbox WHERE seq > $1 ORDER BY seq LIMIT 5000",
        );
        let rows = query.bind(last).fetch_all(&mut connection).await.context("failed to read a page")?;
        for row in &rows {
            last = row.get(0);
            send(&producer, &topic, row.get(1), row.get(2)).await?;
        }
        if i64::try_from(rows.len())? < PAGE {
            break;
        }
    }
    tokio::task::block_in_place(|| producer.flush(Duration::from_secs(60)))?;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    ensure!(acknowledged.load(Ordering::Relaxed) == events, "the bare loop did not send everything");
    Ok(rate)
}

async fn send(
    producer: &ThreadedProducer<Acknowledged>,
    topic: &str,
    key: &str,
    payload: &[u8],
) -> anyhow::Result<()> {
    let mut record = BaseRecord::to(topic).key(key).payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
            Err((error, _)) => return Err(error).context("failed to hand a record over"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn create(kafka: &str, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka).create()?;
    let topics = [NewTopic::new(topic, 8, TopicReplication::Fixed(1))];
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    for made in admin.create_topics(&topics, &options).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}
