//! How fast it publishes and consumes, and what that costs this process:
//! `cargo run --release -p crossdock-kafka --example speed kafka://127.0.0.1:9092 [events]`.
//!
//! Publishes events of 512 bytes with 10,000 keys to a topic of eight partitions, in pages of 5,000 with three on their way, as
//! the relay does; then reads them all and finishes each at once.

use std::{
    collections::VecDeque,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{Broker, Checkpoints, Event, FlowName, Group, Signal, StoreError, Topic};
use crossdock_kafka::{Kafka, KafkaOptions, TopicShape};
use futures::{StreamExt, stream::FuturesOrdered};

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAGE: usize = 5_000;
const IN_FLIGHT: usize = 3;
const KEYS: usize = 10_000;
const BYTES: usize = 512;

struct NothingBegun;

#[async_trait]
impl Checkpoints for NothingBegun {
    async fn begun(&self, _: &Group) -> Result<Vec<Topic>, StoreError> {
        Ok(Vec::new())
    }

    async fn begin(&self, _: &Group, _: &[Topic]) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("usage: speed kafka://HOST:PORT [events]")?;
    let count: usize = arguments.next().map_or(Ok(1_000_000), |count| count.parse())?;
    let mut options = KafkaOptions::parse(&address, []).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    options.topic_prefix = format!("speed{}.", std::process::id());
    options.group_prefix = options.topic_prefix.clone();
    let kafka = Kafka::open(options, Arc::new(NothingBegun))?;
    let (topic, flow) = (Topic::new("orders")?, FlowName::new("reader")?);
    kafka.provision(&[TopicShape { partitions: Some(8), ..TopicShape::new(topic.clone()) }]).await?;
    // The group begins before the events, and leaves until they are all there.
    drop(kafka.subscribe(&flow, std::slice::from_ref(&topic)).await?);
    publish(&kafka, &topic, count).await?;
    consume(&kafka, &flow, &topic, count).await?;
    kafka.close(Duration::from_secs(10)).await;
    Ok(())
}

async fn publish(kafka: &Kafka, topic: &Topic, count: usize) -> anyhow::Result<()> {
    let data = Bytes::from(vec![b'x'; BYTES]);
    let mut pages: VecDeque<Vec<Event>> = (0..count / PAGE).map(|page| events(page, &data)).collect();
    let (begun, cpu) = (Instant::now(), cpu());
    let mut flying = FuturesOrdered::new();
    let mut taken = 0;
    while let Some(page) = pages.pop_front() {
        flying.push_back(kafka.publish(topic, page));
        if flying.len() == IN_FLIGHT {
            taken += good(flying.next().await);
        }
    }
    while let Some(answers) = flying.next().await {
        taken += good(Some(answers));
    }
    tell("published", taken, begun, cpu);
    Ok(())
}

fn good<A, E>(answers: Option<Vec<Result<A, E>>>) -> usize {
    answers.into_iter().flatten().filter(Result::is_ok).count()
}

fn events(page: usize, data: &Bytes) -> Vec<Event> {
    let event = |number: usize| Event {
        id: format!("018f3a00-0000-7000-8000-{number:012}"),
        source: "/shop".to_owned(),
        kind: "order.placed".to_owned(),
        subject: None,
        time: Some(jiff::Timestamp::UNIX_EPOCH),
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some(format!("order-{}", number % KEYS)),
        extensions: Vec::new(),
        data: data.clone(),
    };
    (page * PAGE..(page + 1) * PAGE).map(event).collect()
}

async fn consume(kafka: &Kafka, flow: &FlowName, topic: &Topic, count: usize) -> anyhow::Result<()> {
    let mut subscription = kafka.subscribe(flow, std::slice::from_ref(topic)).await?;
    let (mut begun, mut spent, mut taken) = (Instant::now(), cpu(), 0);
    while taken < count {
        match subscription.next().await? {
            Signal::Batch(batch) => {
                taken += batch.deliveries.len();
                batch.deliveries.into_iter().for_each(|delivery| delivery.complete());
            }
            Signal::Assigned(_) => (begun, spent) = (Instant::now(), cpu()),
            Signal::Revoked(revocation) => revocation.done(),
        }
    }
    tell("consumed", taken, begun, spent);
    Ok(())
}

/// The processor time of this process, from `/proc/self/stat`, whose unit is a hundredth of a second on Linux.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    Duration::from_millis(10 * fields.get(11..13).map_or(0, |times| times.iter().sum()))
}

fn resident_mebibytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}

fn tell(what: &str, count: usize, begun: Instant, before: Duration) {
    let (wall, spent) = (begun.elapsed(), cpu() - before);
    println!(
        "{what} {count} events in {wall:.2?}: {:.0} events/s, {:.2} µs of processor time each, peak {} MiB resident",
        count as f64 / wall.as_secs_f64(),
        spent.as_secs_f64() * 1e6 / count as f64,
        resident_mebibytes(),
    );
}
