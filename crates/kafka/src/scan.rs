//! Reading what topics have, outside of any group: for whoever compares them with what was sent.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crossdock_core::{BrokerError, Event, Offset, Partition, Position, Topic};
use jiff::Timestamp;
use rdkafka::{
    ClientConfig, Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use tokio::sync::mpsc;

use crate::{
    Kafka,
    broker::Inner,
    client,
    client::Context,
    error::unavailable,
    record,
    topics::{ASK_MAX, Edge, number},
};

/// A broker that gives nothing for so long is away.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Events that are read ahead of who takes them.
const AHEAD: usize = 1024;

/// What a scan gives, one after the other.
pub struct Scan {
    events: mpsc::Receiver<Result<(Position, Event), BrokerError>>,
}

impl Scan {
    /// The next event; in a partition by offset. None at the end. After an error nothing comes. Cancellation is safe.
    pub async fn next(&mut self) -> Option<Result<(Position, Event), BrokerError>> {
        self.events.recv().await
    }
}

impl Kafka {
    /// Reads every event that these topics have by now and that the broker got at `since` or later. Commits nothing, and is
    /// seen by no group. Ends when it is dropped.
    pub fn scan(&self, topics: &[Topic], since: Timestamp) -> Scan {
        let (sender, events) = mpsc::channel(AHEAD);
        let (inner, topics) = (self.inner.clone(), topics.to_vec());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = scan(&inner, &topics, since, &sender) {
                // Nobody may wait any more.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Scan { events }
    }
}

type Sender = mpsc::Sender<Result<(Position, Event), BrokerError>>;

fn scan(inner: &Inner, topics: &[Topic], since: Timestamp, sender: &Sender) -> Result<(), BrokerError> {
    const DOING: &str = "reading what topics have";
    let partitions = inner.partitions(topics)?;
    let ends = inner.topics.edges(&partitions, Edge::End).map_err(|error| unavailable(DOING, error))?;
    let config: ClientConfig = client::config(
        &inner.options,
        &[
            ("group.id", format!("{}scan", inner.options.group_prefix)),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.partition.eof", "false".to_owned()),
        ],
    );
    let consumer: BaseConsumer<Context> =
        config.create_with_context(inner.context.clone()).map_err(|error| unavailable(DOING, error))?;
    let (assigned, mut open) =
        begin(inner, &consumer, &partitions, &ends, since).map_err(|error| unavailable(DOING, error))?;
    consumer.assign(&assigned).map_err(|error| unavailable(DOING, error))?;
    let mut heard = Instant::now();
    while !open.is_empty() {
        let message = match consumer.poll(Duration::from_millis(200)) {
            Some(message) => message.map_err(|error| unavailable(DOING, error))?,
            None => {
                // Records that are no events (markers of transactions) end a partition without being given.
                let reached = consumer.position().map_err(|error| unavailable(DOING, error))?;
                open.retain(|partition, end| place(inner, &reached, partition).is_none_or(|at| at < *end));
                if heard.elapsed() > SILENCE_MAX {
                    return Err(unavailable(DOING, "the broker gives nothing"));
                }
                continue;
            }
        };
        heard = Instant::now();
        let Some(topic) = inner.topics.of_name(topics, message.topic()) else { continue };
        let (Ok(number), Ok(offset)) = (u32::try_from(message.partition()), u64::try_from(message.offset()))
        else {
            continue;
        };
        let partition = Partition { topic: topic.clone(), number };
        let Some(end) = open.get(&partition).copied() else { continue };
        if offset < end {
            let position = Position { topic: topic.clone(), partition: number, offset };
            let event = record::event(&message, &position);
            if sender.blocking_send(Ok((position, event))).is_err() {
                return Ok(());
            }
        }
        if offset + 1 >= end {
            open.remove(&partition);
        }
    }
    Ok(())
}

/// Where each partition is read from, and the ends of those that have something to give.
fn begin(
    inner: &Inner,
    consumer: &BaseConsumer<Context>,
    partitions: &[Partition],
    ends: &HashMap<Partition, Offset>,
    since: Timestamp,
) -> KafkaResult<(TopicPartitionList, HashMap<Partition, Offset>)> {
    let mut asked = inner.topics.list(partitions);
    asked.set_all_offsets(rdkafka::Offset::Offset(since.as_millisecond().max(0)))?;
    let answered = consumer.offsets_for_times(asked, ASK_MAX)?;
    let (mut assigned, mut open) = (TopicPartitionList::new(), HashMap::new());
    for partition in partitions {
        let end = ends.get(partition).copied().unwrap_or_default();
        // Nothing is as young as that where there is no offset.
        let Some(from) = place(inner, &answered, partition).filter(|from| *from < end) else { continue };
        let from = rdkafka::Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        assigned.add_partition_offset(&inner.topics.name(&partition.topic), number(partition), from)?;
        open.insert(partition.clone(), end);
    }
    Ok((assigned, open))
}

fn place(inner: &Inner, list: &TopicPartitionList, partition: &Partition) -> Option<Offset> {
    let found = list.find_partition(&inner.topics.name(&partition.topic), number(partition))?;
    found.offset().to_raw().and_then(|raw| u64::try_from(raw).ok())
}
