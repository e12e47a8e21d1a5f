//! How fast events go through a real RabbitMQ: published with confirms in pages of 1,000, three pages at a time, then read and
//! finished at once.
//!
//! ```text
//! cargo run --release -p crossdock-rabbitmq --example speed -- [EVENTS] [BYTES]
//! ```

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use crossdock_core::{Broker, Delivery, Event, Group, Signal, Topic};
use crossdock_rabbitmq::{RabbitMq, RabbitOptions, TopicShape, Wanted};
use crossdock_testkit::{Disk, ManualClock, Memory, Setup, services};
use futures::{StreamExt, stream::FuturesOrdered};
use lapin::{Connection, ConnectionProperties};

const PAGE: usize = 1_000;
const PAGES_AT_ONCE: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |unsaid: usize| arguments.next().map_or(Ok(unsaid), |text| text.parse());
    let (events, bytes) = (number(200_000)?, number(512)?);
    for shards in [1, 8] {
        run(shards, events, bytes).await?;
    }
    Ok(())
}

async fn run(shards: u32, events: usize, bytes: usize) -> anyhow::Result<()> {
    let (topic, group) = (Topic::new("orders")?, Group::new("billing")?);
    let prefix = format!("speed{:08x}.", rand::random::<u32>());
    let options = RabbitOptions::parse(&services::amqp(), [("prefix", prefix.as_str())]);
    let options = options.map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let store = Memory::open(Disk::default(), &no_setup());
    let rabbit = RabbitMq::open(options, Arc::new(store.clone()), Arc::new(store));
    let wanted = Wanted {
        topics: vec![TopicShape { topic: topic.clone(), partitions: Some(shards) }],
        groups: vec![(group.clone(), vec![topic.clone()])],
    };
    rabbit.provision(&wanted).await?;
    let (began, used) = (Instant::now(), processor_seconds());
    publish(&rabbit, &topic, events, bytes).await?;
    told("published", shards, events, began, used);
    let (began, used) = (Instant::now(), processor_seconds());
    consume(&rabbit, &topic, &group, events).await?;
    told("consumed", shards, events, began, used);
    rabbit.close(std::time::Duration::from_secs(10)).await;
    tidy(&prefix, shards).await
}

fn told(what: &str, shards: u32, events: usize, began: Instant, used: f64) {
    let (seconds, used) = (began.elapsed().as_secs_f64(), processor_seconds() - used);
    println!(
        "{what:>9} {events} events, {shards} shards: {:>7.0}/s, {:.1} us of processor time each",
        events as f64 / seconds,
        used * 1e6 / events as f64
    );
}

async fn publish(rabbit: &RabbitMq, topic: &Topic, events: usize, bytes: usize) -> anyhow::Result<()> {
    let data = Bytes::from(vec![b'x'; bytes]);
    let mut pages = FuturesOrdered::new();
    for from in (0..events).step_by(PAGE) {
        if pages.len() == PAGES_AT_ONCE {
            checked(pages.next().await)?;
        }
        let page = (from..events.min(from + PAGE)).map(|number| event(number, &data)).collect();
        pages.push_back(rabbit.publish(topic, page));
        // The first poll is what puts a page in its place.
        if let std::task::Poll::Ready(answers) = futures::poll!(pages.next()) {
            checked(answers)?;
        }
    }
    while let Some(answers) = pages.next().await {
        checked(Some(answers))?;
    }
    Ok(())
}

fn checked<T, E: std::error::Error + Send + Sync + 'static>(
    answers: Option<Vec<Result<T, E>>>,
) -> anyhow::Result<()> {
    answers.into_iter().flatten().try_for_each(|answer| answer.map(drop)).map_err(anyhow::Error::from)
}

async fn consume(rabbit: &RabbitMq, topic: &Topic, group: &Group, events: usize) -> anyhow::Result<()> {
    let mut subscription = rabbit.subscribe(group, std::slice::from_ref(topic)).await?;
    let mut came = 0;
    while came < events {
        match subscription.next().await? {
            Signal::Batch(batch) => {
                came += batch.deliveries.len();
                batch.deliveries.into_iter().for_each(Delivery::complete);
            }
            Signal::Revoked(revocation) => revocation.done(),
            Signal::Assigned(_) => {}
        }
    }
    Ok(())
}

fn event(number: usize, data: &Bytes) -> Event {
    Event {
        id: number.to_string(),
        source: "/speed".to_owned(),
        kind: "order.placed".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some(format!("k{}", number % 10_000)),
        extensions: Vec::new(),
        data: data.clone(),
    }
}

/// What this process has used of the processors: user and system, in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

async fn tidy(prefix: &str, shards: u32) -> anyhow::Result<()> {
    let connection = Connection::connect(&services::amqp(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for shard in 0..shards {
        let queue = format!("{prefix}billing.orders.{shard}");
        channel.queue_delete(queue.into(), Default::default()).await?;
    }
    channel.exchange_delete(format!("{prefix}orders").into(), Default::default()).await?;
    Ok(connection.close(200, "OK".into()).await?)
}

fn no_setup() -> Setup {
    Setup {
        partitions: 1,
        topics: Vec::new(),
        groups: Vec::new(),
        event_bytes_max: 1 << 20,
        queue_events_max: 1,
        dedupe_window: std::time::Duration::from_secs(1),
        retention: std::time::Duration::from_secs(1),
        clock: Arc::new(ManualClock::new()),
    }
}
