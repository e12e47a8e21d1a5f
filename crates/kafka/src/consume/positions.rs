//! Where a group stands, and where it begins.

use std::{collections::HashMap, thread, time::Duration};

use crossdock_core::{Completed, Group, Offset, Partition, Topic};
use rdkafka::{
    Offset as Place, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use super::ledger;
use crate::{
    KafkaOptions,
    client::Context,
    topics::{ASK_MAX, Asker, Edge, Topics, number},
};

/// How often it is looked again whether a position lies behind the end: right after a change of leader it may seem so.
const BEHIND_THE_END: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The positions of a group, where it has any. Blocks.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &Topics,
    partitions: &[Partition],
) -> KafkaResult<HashMap<Partition, Completed>> {
    let list = consumer.committed_offsets(topics.list(partitions), ASK_MAX)?;
    let mut found = HashMap::with_capacity(partitions.len());
    for partition in partitions {
        let Some(place) = list.find_partition(&topics.name(&partition.topic), number(partition)) else {
            continue;
        };
        place.error()?;
        if let Place::Offset(offset) = place.offset()
            && let Ok(mark) = u64::try_from(offset)
        {
            found.insert(partition.clone(), ledger::decode(mark, place.metadata()));
        }
    }
    Ok(found)
}

/// A list to be committed.
pub(super) fn commit_list(
    topics: &Topics,
    places: impl IntoIterator<Item = (Partition, Offset, String)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset, metadata) in places {
        let mut place = list.add_partition(&topics.name(&partition.topic), number(&partition));
        if !metadata.is_empty() {
            place.set_metadata(metadata);
        }
        // Only logical offsets can fail to be set.
        let _ = place.set_offset(Place::Offset(i64::try_from(offset).unwrap_or(i64::MAX)));
    }
    list
}

/// Lets a group begin behind the newest event of these partitions, unless it has a position there already. Blocks.
///
/// The ends are asked for before the positions: of two workers that do this at once, neither can write an end that is later
/// than the other's answer to its caller.
pub(crate) fn begin(
    options: &KafkaOptions,
    context: &Context,
    topics: &Topics,
    group: &str,
    partitions: &[Partition],
) -> Result<(), crate::KafkaError> {
    let failed = |source| crate::KafkaError::Unavailable { doing: "beginning a group", source };
    let ends = topics.edges(partitions, Edge::End).map_err(failed)?;
    match commit_missing(options, context, topics, group, partitions, &ends)? {
        Ok(()) => Ok(()),
        // Others are members already, and the broker takes positions from members only. They read other topics, or an older
        // configuration: the beginning is kept beside the group, where whoever is given the partition finds it.
        Err(_) => {
            let beside = beside(group);
            commit_missing(options, context, topics, &beside, partitions, &ends)?.map_err(failed)
        }
    }
}

/// The group that keeps the beginnings of one that had members already.
fn beside(group: &str) -> String {
    format!("{group}.begin")
}

/// Commits places for partitions without a position. The inner error is the broker's refusal.
fn commit_missing(
    options: &KafkaOptions,
    context: &Context,
    topics: &Topics,
    group: &str,
    partitions: &[Partition],
    places: &HashMap<Partition, Offset>,
) -> Result<KafkaResult<()>, crate::KafkaError> {
    let failed =
        |source| crate::KafkaError::Unavailable { doing: "asking for the position of a group", source };
    let asker = Asker::new(options, context.clone(), Some(group))?;
    let known = committed(asker.consumer(), topics, partitions).map_err(failed)?;
    let missing = places
        .iter()
        .filter(|(partition, _)| !known.contains_key(partition))
        .map(|(partition, place)| (partition.clone(), *place, String::new()));
    let list = commit_list(topics, missing);
    if list.count() == 0 {
        return Ok(Ok(()));
    }
    match asker.consumer().commit(&list, CommitMode::Sync) {
        Err(KafkaError::ConsumerCommit(
            code @ (RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::RebalanceInProgress),
        )) => Ok(Err(KafkaError::ConsumerCommit(code))),
        Err(source) => Err(failed(source)),
        Ok(()) => Ok(Ok(())),
    }
}

/// Finds where partitions that were just assigned begin. Blocks.
pub(super) struct Starts<'a, C: ConsumerContext> {
    pub(super) options: &'a KafkaOptions,
    pub(super) context: &'a Context,
    pub(super) topics: &'a Topics,
    pub(super) consumer: &'a BaseConsumer<C>,
    pub(super) group: &'a Group,
}

impl<C: ConsumerContext> Starts<'_, C> {
    pub(super) fn find(&self, partitions: &[Partition]) -> Result<Vec<Completed>, crate::KafkaError> {
        let failed =
            |source| crate::KafkaError::Unavailable { doing: "asking for the position of a group", source };
        let mut known = committed(self.consumer, self.topics, partitions).map_err(failed)?;
        let missing: Vec<_> =
            partitions.iter().filter(|partition| !known.contains_key(partition)).cloned().collect();
        if !missing.is_empty() {
            known.extend(self.kept_beside(&missing)?);
        }
        let added = self.added(&missing).map_err(failed)?;
        let oldest = self.topics.edges(partitions, Edge::Oldest).map_err(failed)?;
        let ends = self.ends(partitions, &known).map_err(failed)?;
        let at =
            |edges: &HashMap<Partition, Offset>, partition| edges.get(partition).copied().unwrap_or_default();
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let (oldest, end) = (at(&oldest, partition), at(&ends, partition));
            starts.push(match known.remove(partition) {
                Some(completed) if (oldest..=end).contains(&completed.mark()) => completed,
                None if added.contains(&partition.topic) => {
                    let (group, topic, number) =
                        (self.group.as_str(), partition.topic.as_str(), partition.number);
                    tracing::info!(target: "crossdock_kafka", group, topic, partition = number, "a partition was added; it begins at its oldest event");
                    Completed::from(oldest)
                }
                lost => {
                    self.tell_of_loss(partition, lost.map(|completed| completed.mark()), oldest, end);
                    Completed::from(oldest)
                }
            });
        }
        Ok(starts)
    }

    /// Of topics with partitions that have no position, those where the group has a position in others: the positions of a
    /// group are lost together, so these partitions are new.
    fn added(&self, missing: &[Partition]) -> KafkaResult<Vec<Topic>> {
        let mut topics: Vec<_> = missing.iter().map(|partition| partition.topic.clone()).collect();
        topics.sort_unstable();
        topics.dedup();
        let Ok(all) = self.topics.partitions(&topics)? else { return Ok(Vec::new()) };
        let known = committed(self.consumer, self.topics, &all)?;
        topics.retain(|topic| known.keys().any(|partition| partition.topic == *topic));
        Ok(topics)
    }

    fn kept_beside(
        &self,
        partitions: &[Partition],
    ) -> Result<HashMap<Partition, Completed>, crate::KafkaError> {
        let name = beside(&format!("{}{}", self.options.group_prefix, self.group));
        let asker = Asker::new(self.options, self.context.clone(), Some(&name))?;
        committed(asker.consumer(), self.topics, partitions).map_err(|source| {
            crate::KafkaError::Unavailable { doing: "asking for the beginning of a group", source }
        })
    }

    /// The ends, once no position lies behind them, or after some tries.
    fn ends(
        &self,
        partitions: &[Partition],
        known: &HashMap<Partition, Completed>,
    ) -> KafkaResult<HashMap<Partition, Offset>> {
        let mut ends = self.topics.edges(partitions, Edge::End)?;
        for _ in 0..BEHIND_THE_END {
            let behind = |(partition, end): (&Partition, &Offset)| {
                known.get(partition).is_some_and(|completed| completed.mark() > *end)
            };
            if !ends.iter().any(behind) {
                break;
            }
            thread::sleep(LOOK_AGAIN);
            ends = self.topics.edges(partitions, Edge::End)?;
        }
        Ok(ends)
    }

    /// An operator must hear of it: events may be missing, or come again.
    fn tell_of_loss(&self, partition: &Partition, position: Option<Offset>, oldest: Offset, end: Offset) {
        let (group, topic) = (self.group.as_str(), partition.topic.as_str());
        let number = partition.number;
        match position {
            Some(position) if position < oldest => tracing::error!(
                target: "crossdock_kafka", group, topic, partition = number, position, oldest,
                "events were deleted before the group had finished them; it goes on at the oldest that is left"
            ),
            Some(position) => tracing::error!(
                target: "crossdock_kafka", group, topic, partition = number, position, end,
                "the position of the group is behind the end: the topic was made anew; it begins at the oldest event"
            ),
            None => tracing::error!(
                target: "crossdock_kafka", group, topic, partition = number, oldest,
                "the broker has lost the position of the group; it begins at the oldest event"
            ),
        }
    }
}
