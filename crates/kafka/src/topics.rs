//! Which topics are there, their partitions, and where those begin and end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossdock_core::{Offset, Partition, Topic};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use crate::{KafkaOptions, client, client::Context};

/// How long the cluster may take to answer a question.
pub(crate) const ASK_MAX: Duration = Duration::from_secs(5);
/// How long it is remembered that a topic is missing, or that nobody could be asked.
const MISSING: Duration = Duration::from_secs(1);

/// A client that asks and subscribes to nothing, with the thread that serves it.
pub(crate) struct Asker {
    consumer: Arc<BaseConsumer<Context>>,
    stop: Arc<AtomicBool>,
}

impl Asker {
    /// A client that asks about topics, and with a group about its positions.
    pub(crate) fn new(
        options: &KafkaOptions,
        context: Context,
        group: Option<&str>,
    ) -> Result<Self, crate::KafkaError> {
        let session = options.session_timeout.as_millis().to_string();
        let own = [("enable.auto.commit", "false".to_owned()), ("session.timeout.ms", session)];
        let mut config: ClientConfig = client::config(options, &own);
        if let Some(group) = group {
            config.set("group.id", group);
        }
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(crate::KafkaError::Options)?;
        let (consumer, stop) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
        let (polled, stopped) = (consumer.clone(), stop.clone());
        thread::Builder::new().name("kafka-asker".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Nothing is subscribed to: what comes is told by the context.
                let _ = polled.poll(Duration::from_millis(100));
            }
        })?;
        Ok(Self { consumer, stop })
    }

    pub(crate) fn consumer(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether a topic is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Missing,
    /// The cluster does not answer.
    NotKnown,
}

/// Which end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The oldest event that is still there.
    Oldest,
    /// Behind the newest event.
    End,
}

impl Edge {
    /// The time by which the protocol means it: `ListOffsets`, KIP-79.
    fn timestamp(self) -> rdkafka::Offset {
        match self {
            Self::Oldest => rdkafka::Offset::Beginning,
            Self::End => rdkafka::Offset::End,
        }
    }
}

/// What is known of topics.
pub(crate) struct Topics {
    prefix: String,
    asker: Asker,
    known: Mutex<HashMap<Topic, (Presence, Instant)>>,
}

impl Topics {
    pub(crate) fn new(options: &KafkaOptions, context: Context) -> Result<Self, crate::KafkaError> {
        let asker = Asker::new(options, context, None)?;
        Ok(Self { prefix: options.topic_prefix.clone(), asker, known: Mutex::default() })
    }

    /// The topic's name in Kafka.
    pub(crate) fn name(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The topic of a name in Kafka, among these.
    pub(crate) fn of_name<'t>(&self, topics: &'t [Topic], name: &str) -> Option<&'t Topic> {
        let name = name.strip_prefix(&self.prefix)?;
        topics.iter().find(|topic| topic.as_str() == name)
    }

    /// Whether a topic is there. One that is made later is found a second later. Blocks while the cluster is asked.
    pub(crate) fn presence(&self, topic: &Topic) -> Presence {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(topic) {
                Some((Presence::There, _)) => return Presence::There,
                Some((presence, at)) if at.elapsed() < MISSING => return *presence,
                _ => {}
            }
        }
        let presence = match self.count(topic) {
            Ok(Some(_)) => Presence::There,
            Ok(None) => Presence::Missing,
            Err(_) => Presence::NotKnown,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(topic.clone(), (presence, Instant::now()));
        presence
    }

    /// Asks again for a topic that was there.
    pub(crate) fn forget(&self, topic: &Topic) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// How many partitions a topic has; none if it is not there. Blocks.
    pub(crate) fn count(&self, topic: &Topic) -> KafkaResult<Option<u32>> {
        let name = self.name(topic);
        let metadata = self.asker.consumer().fetch_metadata(Some(&name), ASK_MAX)?;
        self.asker.consumer().context().health.answered();
        let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None | Some(RDKafkaErrorCode::LeaderNotAvailable) if !found.partitions().is_empty() => {
                Ok(u32::try_from(found.partitions().len()).ok())
            }
            None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(error) => Err(KafkaError::MetadataFetch(error)),
        }
    }

    /// The number of some broker that answers. Blocks.
    pub(crate) fn any_broker(&self) -> Option<i32> {
        let metadata = self.asker.consumer().fetch_metadata(None, ASK_MAX).ok()?;
        metadata.brokers().first().map(rdkafka::metadata::MetadataBroker::id)
    }

    /// Every partition of the topics; the topic that is missing otherwise. Blocks.
    pub(crate) fn partitions(&self, topics: &[Topic]) -> KafkaResult<Result<Vec<Partition>, Topic>> {
        let mut partitions = Vec::new();
        for topic in topics {
            let Some(count) = self.count(topic)? else { return Ok(Err(topic.clone())) };
            partitions.extend((0..count).map(|number| Partition { topic: topic.clone(), number }));
        }
        Ok(Ok(partitions))
    }

    /// Where partitions begin or end. Blocks.
    pub(crate) fn edges(
        &self,
        partitions: &[Partition],
        edge: Edge,
    ) -> KafkaResult<HashMap<Partition, Offset>> {
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let mut list = self.list(partitions);
        list.set_all_offsets(edge.timestamp())?;
        let answered = self.asker.consumer().offsets_for_times(list, ASK_MAX)?;
        let mut edges = HashMap::with_capacity(partitions.len());
        for (partition, place) in self.places(partitions, &answered) {
            edges.insert(partition, place?);
        }
        Ok(edges)
    }

    /// The partitions as librdkafka lists them, without offsets.
    pub(crate) fn list(&self, partitions: &[Partition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.name(&partition.topic), number(partition));
        }
        list
    }

    fn places(
        &self,
        partitions: &[Partition],
        list: &TopicPartitionList,
    ) -> Vec<(Partition, KafkaResult<Offset>)> {
        let place = |partition: &Partition| {
            let found = list.find_partition(&self.name(&partition.topic), number(partition));
            let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition);
            let found = found.ok_or(unknown)?;
            found.error()?;
            let raw = found.offset().to_raw().and_then(|raw| u64::try_from(raw).ok());
            raw.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::NoOffset))
        };
        partitions.iter().map(|partition| (partition.clone(), place(partition))).collect()
    }
}

/// A partition's number as the protocol has it.
pub(crate) fn number(partition: &Partition) -> i32 {
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}
