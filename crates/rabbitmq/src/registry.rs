//! Who reads what, as far as this process was told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crossdock_core::{Group, Partition, Topic};

use crate::names::Names;

/// A topic as the configuration wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicShape {
    /// The topic.
    pub topic: Topic,
    /// Its shards; as [`crate::RabbitOptions::partitions`] says if none.
    pub partitions: Option<u32>,
}

/// What the configuration wants of the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The topics.
    pub topics: Vec<TopicShape>,
    /// The groups with their topics: each gets a queue for every shard.
    pub groups: Vec<(Group, Vec<Topic>)>,
}

/// Topics and groups.
#[derive(Default)]
pub(crate) struct Registry(Mutex<State>);

#[derive(Default)]
struct State {
    partitions: HashMap<Topic, u32>,
    groups: BTreeMap<Group, BTreeSet<Topic>>,
    /// Topics whose exchange was seen.
    exchanges: HashSet<Topic>,
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what is wanted.
    pub(crate) fn note(&self, wanted: &Wanted) {
        let mut state = self.state();
        for shape in &wanted.topics {
            if let Some(partitions) = shape.partitions {
                state.partitions.insert(shape.topic.clone(), partitions);
            }
        }
        for (group, topics) in &wanted.groups {
            state.groups.entry(group.clone()).or_default().extend(topics.iter().cloned());
        }
    }

    pub(crate) fn join(&self, group: &Group, topics: &[Topic]) {
        self.state().groups.entry(group.clone()).or_default().extend(topics.iter().cloned());
    }

    pub(crate) fn topics_of(&self, group: &Group) -> Vec<Topic> {
        self.state().groups.get(group).into_iter().flatten().cloned().collect()
    }

    pub(crate) fn groups_of(&self, topic: &Topic) -> Vec<Group> {
        let state = self.state();
        let groups = state.groups.iter().filter(|(_, topics)| topics.contains(topic));
        groups.map(|(group, _)| group.clone()).collect()
    }

    /// The queues of a shard.
    pub(crate) fn queues(&self, names: &Names, shard: &Partition) -> Vec<String> {
        self.groups_of(&shard.topic).iter().map(|group| names.queue(group, shard)).collect()
    }

    pub(crate) fn partitions(&self, topic: &Topic, unsaid: u32) -> u32 {
        self.state().partitions.get(topic).copied().unwrap_or(unsaid)
    }

    pub(crate) fn all_partitions(&self, topics: &[Topic], unsaid: u32) -> Vec<Partition> {
        let shards = topics.iter().flat_map(|topic| {
            let numbers = 0..self.partitions(topic, unsaid);
            numbers.map(|number| Partition { topic: topic.clone(), number })
        });
        shards.collect()
    }

    pub(crate) fn saw_exchange(&self, topic: &Topic) {
        self.state().exchanges.insert(topic.clone());
    }

    pub(crate) fn has_exchange(&self, topic: &Topic) -> bool {
        self.state().exchanges.contains(topic)
    }

    pub(crate) fn forget_exchange(&self, topic: &Topic) {
        self.state().exchanges.remove(topic);
    }
}
