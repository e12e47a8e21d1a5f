//! How long a committed event takes to the broker while other transactions are open.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
};
use sqlx::Connection;
use tokio::{sync::mpsc, task::JoinHandle, time::MissedTickBehavior};

use super::world::{Broker, World};
use crate::rows::{Figures, Size};

const WRITERS: u64 = 16;
const KEYS: u64 = 200;
const COMMITS_PER_SECOND: u64 = 2_000;

/// An event that was committed, or came out of the broker, and when.
struct Seen {
    key: u64,
    seq: u64,
    at: Instant,
}

pub async fn commit_to_kafka(size: Size) -> anyhow::Result<Figures> {
    let each = size.of(60_000) / WRITERS;
    let world = World::new("outbox_latency", Broker::Kafka, 8, "").await?;
    let _relay = world.worker("relay").await?;
    let done = Arc::new(AtomicBool::new(false));
    let (told, mut received) = mpsc::unbounded_channel();
    let consumer = consume(&world, told, done.clone())?;
    let (ledger, mut committed) = mpsc::unbounded_channel();
    let holder = hold(&world, done.clone()).await?;
    let writers: Vec<_> =
        futures::future::try_join_all((0..WRITERS).map(|writer| write(&world, writer, each, ledger.clone())))
            .await?;
    drop(ledger);
    for writer in writers {
        writer.await??;
    }
    let mut at: HashMap<(u64, u64), Instant> = HashMap::new();
    while let Some(seen) = committed.recv().await {
        at.insert((seen.key, seen.seq), seen.at);
    }
    let (mut latencies, mut last, mut inverted) = (Vec::with_capacity(at.len()), HashMap::new(), 0);
    while !at.is_empty() {
        let seen = tokio::time::timeout(Duration::from_secs(20), received.recv()).await;
        let seen = seen.with_context(|| format!("{} events were lost", at.len()))?.context("no consumer")?;
        if let Some(committed) = at.remove(&(seen.key, seen.seq)) {
            latencies.push(seen.at.saturating_duration_since(committed));
            inverted += u64::from(last.insert(seen.key, seen.seq).is_some_and(|before| before > seen.seq));
        }
    }
    done.store(true, Ordering::Relaxed);
    holder.await??;
    consumer.await?;
    ensure!(inverted == 0, "{inverted} events came before an earlier one of their key");
    latencies.sort_unstable();
    let ms = |quantile: f64| latencies[(latencies.len() as f64 * quantile) as usize].as_secs_f64() * 1000.0;
    let (p50, p99) = (ms(0.5), ms(0.99));
    Ok(Figures {
        text: format!("p50 {p50:.1} ms, p99 {p99:.1} ms until a consumer had it; 0 lost, 0 inverted"),
        reached: p50 <= 8.0 && p99 <= 30.0,
    })
}

/// One writer: locks its aggregate, writes the event, commits. The keys of writers do not meet.
async fn write(
    world: &World,
    writer: u64,
    count: u64,
    ledger: mpsc::UnboundedSender<Seen>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let mut connection = world.connect().await?;
    Ok(tokio::spawn(async move {
        let mut ticks =
            tokio::time::interval(Duration::from_micros(1_000_000 * WRITERS / COMMITS_PER_SECOND));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for n in 0..count {
            ticks.tick().await;
            let (key, seq) = (writer + WRITERS * (n % (KEYS / WRITERS)), n + 1);
            insert(&mut connection, key, seq).await?;
            // The main loop reads until the end.
            let _ = ledger.send(Seen { key, seq, at: Instant::now() });
        }
        Ok(())
    }))
}

async fn insert(connection: &mut sqlx::PgConnection, key: u64, seq: u64) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
         VALUES ('load', $1, 'load.written', $2)",
    )
    .bind(key.to_string())
    .bind(format!("{seq}{}", " ".repeat(500)).into_bytes())
    .execute(connection)
    .await
    .context("failed to write an event")?;
    Ok(())
}

/// Transactions of 10 s that hold an event of their own open, one after the other.
async fn hold(world: &World, done: Arc<AtomicBool>) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let mut connection = world.connect().await?;
    Ok(tokio::spawn(async move {
        let mut seq = 0;
        while !done.load(Ordering::Relaxed) {
            seq += 1;
            let mut transaction = connection.begin().await?;
            insert(&mut transaction, KEYS + 1, seq).await?;
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until && !done.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            transaction.commit().await?;
        }
        Ok(())
    }))
}

fn consume(
    world: &World,
    told: mpsc::UnboundedSender<Seen>,
    done: Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<()>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka)
        .set("group.id", &world.name)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5")
        .create()?;
    consumer.subscribe(&[&format!("{}.load", world.name)])?;
    Ok(tokio::task::spawn_blocking(move || {
        while !done.load(Ordering::Relaxed) {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
            let number = |bytes: Option<&[u8]>| {
                let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
                text.and_then(|text| text.trim().parse().ok())
            };
            if let (Some(key), Some(seq)) = (number(message.key()), number(message.payload())) {
                // The main loop may have seen enough.
                let _ = told.send(Seen { key, seq, at: Instant::now() });
            }
        }
    }))
}
