//! From a full outbox to the broker.

use std::time::{Duration, Instant};

use super::{
    bare, perf_test,
    queues::Queues,
    world::{Broker, World},
};
use crate::rows::{Figures, Size};

const NO_FLOW: &str = "";
/// RabbitMQ copies an event to the queue of each flow: without a flow there is none.
const ONE_FLOW: &str = "
connections: { sink: { connector: http, config: { base_url: \"http://127.0.0.1:9\" } } }
flows: { load-to-sink: { from: { topic: load }, to: { connection: sink, action: post, path: / } } }
";

struct Relayed {
    rate: f64,
    resident_mib: f64,
    cpu_us: f64,
}

/// Starts a relay before a full outbox and takes the time until everything is in the broker.
async fn relay(world: &World, events: u64) -> anyhow::Result<Relayed> {
    let began = Instant::now();
    let worker = world.worker("relay").await?;
    world.wait_in_broker(events, Duration::from_secs(300)).await?;
    let rate = events as f64 / (began.elapsed() - worker.ready_after).as_secs_f64();
    let cpu_us = worker.cpu()?.as_secs_f64() * 1e6 / events as f64;
    Ok(Relayed { rate, resident_mib: worker.resident_max_mib(), cpu_us })
}

pub async fn to_kafka(size: Size) -> anyhow::Result<Figures> {
    let events = size.of(2_000_000);
    let world = World::new("outbox_kafka", Broker::Kafka, 8, NO_FLOW).await?;
    world.fill(events, 10_000).await?;
    let bare = bare::to_kafka(&world, events).await?;
    let Relayed { rate, resident_mib, cpu_us } = relay(&world, events).await?;
    let text = format!(
        "{rate:.0} events/s, {resident_mib:.0} MiB ({cpu_us:.1} µs of the hub's processor time an event; a bare loop without \
         gaps or attributes: {bare:.0} events/s, ratio {:.2})",
        rate / bare
    );
    Ok(Figures { text, reached: rate >= 180_000.0 && resident_mib <= 120.0 })
}

pub async fn to_rabbitmq(size: Size) -> anyhow::Result<Figures> {
    let events = size.of(400_000);
    let world = World::new("outbox_rabbitmq", Broker::RabbitMq, 1, ONE_FLOW).await?;
    world.fill(events, 10_000).await?;
    // What is in its queue must not count as what the relay brought: another name, and it is deleted.
    let queue = format!("perf-test.{}", world.name);
    let queues = Queues::open(world.amqp()).await?;
    let before = perf_test::confirmed(world.amqp(), &queue).await?;
    queues.delete(&queue).await?;
    let Relayed { rate, resident_mib, cpu_us } = relay(&world, events).await?;
    let after = perf_test::confirmed(world.amqp(), &queue).await?;
    queues.delete(&queue).await?;
    let perf_test = f64::midpoint(before, after);
    let text = format!(
        "{rate:.0} events/s, {resident_mib:.0} MiB ({cpu_us:.1} µs of the hub's processor time an event; PerfTest before and \
         after: {before:.0} and {after:.0}, ratio {:.2})",
        rate / perf_test
    );
    Ok(Figures { text, reached: rate >= perf_test })
}
