//! From the broker to an HTTP receiver.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use crossdock_sim::{Answer, LedgerOptions, Place, Rule, Sink, SinkOptions};

use jiff::Timestamp;

use super::world::{Broker, FLOW, World};
use crate::rows::{Figures, Size};

fn flow(sink: &Sink, concurrency: usize) -> String {
    format!(
        "connections:
  sink:
    connector: http
    circuit: off
    concurrency: {concurrency}
    config: {{ base_url: {url}, signing_secret: \"${{env.TRACKER_SECRET}}\" }}
flows:
  {FLOW}:
    from: {{ topic: load }}
    to: {{ connection: sink, action: post, path: /load }}
",
        url = sink.url()
    )
}

/// As many calls at a time as 18,000 deliveries a second ask for, and some more where that is little: a connection takes 50 KiB.
fn concurrency(delay: Duration) -> usize {
    (18 * delay.as_millis()).clamp(400, 2000) as usize
}

async fn sink(delay: Duration) -> anyhow::Result<Sink> {
    let place = |pointer: &str| Some(Place::Pointer(pointer.to_owned()));
    let ledger = LedgerOptions { key: place("/key"), seq: place("/seq"), ..LedgerOptions::counts_only() };
    let sink = Sink::start(SinkOptions { ledger, ..SinkOptions::default() });
    let sink = sink.await.context("failed to start the sink")?;
    if !delay.is_zero() {
        sink.script().push(Rule::any(), Answer::ok().delay(delay));
    }
    Ok(sink)
}

async fn deliver(row: &str, broker: Broker, events: u64, delay: Duration) -> anyhow::Result<(f64, f64, f64)> {
    let sink = sink(delay).await?;
    let world = World::new(row, broker, 8, &flow(&sink, concurrency(delay))).await?;
    world.fill(events, 10_000).await?;
    // The group must be known before the events come, or it would begin after them.
    drop(world.worker("deliver,api").await?);
    let relay = world.worker("relay").await?;
    world.wait_in_broker(events, Duration::from_secs(300)).await?;
    drop(relay);
    let worker = world.worker("deliver,api").await?;
    // From the first delivery on: how long the group's assignment takes is another row.
    sink.ledger().wait_for_accepted(1, Duration::from_secs(90)).await?;
    let (began, cpu) = (Instant::now(), worker.cpu()?);
    sink.ledger().wait_for_accepted(events, Duration::from_secs(300)).await?;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    let cpu_us = (worker.cpu()? - cpu).as_secs_f64() * 1e6 / events as f64;
    let tally = sink.ledger().tally();
    ensure!(tally.out_of_order == 0 && tally.twice == 0, "not in order, or twice: {tally:?}");
    Ok((rate, worker.resident_max_mib(), cpu_us))
}

pub async fn from_kafka(size: Size, delay_ms: u64) -> anyhow::Result<Figures> {
    let row = format!("kafka_http_{delay_ms}");
    let measured = deliver(&row, Broker::Kafka, size.of(400_000), Duration::from_millis(delay_ms));
    let (rate, resident, cpu) = measured.await?;
    let text = format!(
        "{rate:.0} deliveries/s, {resident:.0} MiB ({cpu:.0} µs of the hub's processor time a delivery)"
    );
    Ok(Figures { text, reached: rate >= 15_000.0 && resident <= 200.0 })
}

pub async fn from_rabbitmq(size: Size) -> anyhow::Result<Figures> {
    let measured = deliver("rabbitmq_http", Broker::RabbitMq, size.of(200_000), Duration::from_millis(10));
    let (rate, resident, cpu) = measured.await?;
    let text = format!(
        "{rate:.0} deliveries/s, {resident:.0} MiB ({cpu:.0} µs of the hub's processor time a delivery)"
    );
    Ok(Figures { text, reached: rate >= 8_000.0 })
}

pub async fn first_after_start() -> anyhow::Result<Figures> {
    let sink = sink(Duration::ZERO).await?;
    let world = World::new("kafka_start", Broker::Kafka, 8, &flow(&sink, 100)).await?;
    // Makes the group, then leaves it in good order.
    world.worker("deliver,api").await?.stop().await?;
    world.fill(100, 100).await?;
    let relay = world.worker("relay").await?;
    world.wait_in_broker(100, Duration::from_secs(60)).await?;
    drop(relay);
    let began = Instant::now();
    let worker = world.worker("deliver,api").await?;
    sink.ledger().wait_for_accepted(1, Duration::from_secs(60)).await?;
    let (took, delivered) = (began.elapsed(), Timestamp::now());
    let assigned = worker.logged_at("partitions assigned").await?;
    let after = Duration::try_from(delivered - assigned).context("assigned after it was delivered")?;
    Ok(Figures {
        text: format!(
            "{:.2} s after the assignment, {:.2} s after the start of the process; Kafka itself waits for 3 s (by default) \
             for more members of a group that was empty",
            after.as_secs_f64(),
            took.as_secs_f64()
        ),
        reached: after <= Duration::from_secs(2),
    })
}
