//! The log: topics, partitions, what each group has finished.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use crossdock_core::{
    Completed, Event, EventLog, EventSummary, FlowName, Group, LoggedEvent, Offset, Outbox, Page,
    PageRequest, Partition, Position, PublishError, Published, StoreError, Topic, partition_of,
};
use jiff::Timestamp;

use super::{Defect, Memory, State, page_of, sortable};

/// An event of the log.
pub(super) struct Logged {
    pub(super) position: Position,
    accepted_at: Timestamp,
    pub(super) event: Arc<Event>,
}

impl From<&Logged> for LoggedEvent {
    /// The outbox is the log, so every event is in the broker, at a place that is known.
    fn from(Logged { position, accepted_at, event }: &Logged) -> Self {
        Self {
            topic: position.topic.clone(),
            position: Some(position.clone()),
            relayed: true,
            accepted_at: *accepted_at,
            event: event.clone(),
        }
    }
}

#[derive(Default)]
pub(super) struct Log {
    pub(super) partitions: BTreeMap<Partition, BTreeMap<Offset, Logged>>,
    pub(super) ends: BTreeMap<Partition, Offset>,
    pub(super) groups: BTreeMap<Group, BTreeMap<Partition, Completed>>,
    seen: HashSet<(Topic, String, String)>,
    accepted: u64,
    keyless: u32,
    /// The number of each event, in the order of acceptance.
    numbers: BTreeMap<Position, u64>,
}

impl Log {
    pub(super) fn of_topic(&self, topic: &Topic) -> Vec<Event> {
        let mut all: Vec<_> = self
            .partitions
            .iter()
            .filter(|(p, _)| p.topic == *topic)
            .flat_map(|(_, events)| events.values())
            .collect();
        all.sort_by_key(|logged| self.numbers[&logged.position]);
        all.into_iter().map(|logged| logged.event.as_ref().clone()).collect()
    }

    fn append(&mut self, topic: &Topic, event: Event, partitions: u32, now: Timestamp) -> Position {
        let number = match &event.key {
            Some(key) => partition_of(key, partitions),
            None => {
                self.keyless += 1;
                self.keyless % partitions
            }
        };
        let partition = Partition { topic: topic.clone(), number };
        let end = self.ends.entry(partition.clone()).or_default();
        let position = Position { topic: topic.clone(), partition: number, offset: *end };
        *end += 1;
        self.accepted += 1;
        self.numbers.insert(position.clone(), self.accepted);
        let logged = Logged { position: position.clone(), accepted_at: now, event: Arc::new(event) };
        self.partitions.entry(partition).or_default().insert(position.offset, logged);
        position
    }

    /// The partitions of topics.
    pub(super) fn partitions_of(&self, topics: &[Topic]) -> Vec<Partition> {
        self.ends.keys().filter(|partition| topics.contains(&partition.topic)).cloned().collect()
    }
}

impl Memory {
    /// Makes the topics, and the beginnings of groups that are new.
    pub(super) fn prepare_log(&self) {
        let mut guard = self.lock();
        let log = &mut guard.log;
        for topic in &self.0.options.topics {
            for number in 0..self.0.options.partitions {
                log.ends.entry(Partition { topic: topic.clone(), number }).or_default();
            }
        }
        if self.has(Defect::DedupeForgets) {
            log.seen.clear();
        }
        for (group, topics) in &self.0.options.groups {
            self.begin_at_end(log, group, topics);
        }
        self.restart_defects(log);
        self.forget(log);
    }

    /// Remembers where a group begins in partitions that are new to it.
    pub(super) fn begin_at_end(&self, log: &mut Log, group: &Group, topics: &[Topic]) {
        for partition in log.partitions_of(topics) {
            let end = if self.has(Defect::NewGroupFromStart) { 0 } else { log.ends[&partition] };
            let progress = log.groups.entry(group.clone()).or_default();
            progress.entry(partition).or_insert_with(|| Completed::from(end));
        }
    }

    fn restart_defects(&self, log: &mut Log) {
        for progress in log.groups.values_mut() {
            for (partition, completed) in progress {
                if self.has(Defect::GapsForgotten) {
                    *completed = Completed::from(completed.mark());
                }
                if self.has(Defect::StartForgotten) && completed.gap() == 0 {
                    *completed = Completed::from(log.ends[partition]);
                }
            }
        }
    }

    /// Drops what every group is finished with and what is older than the retention.
    fn forget(&self, log: &mut Log) {
        let now = self.0.clock.now();
        let retention = i64::try_from(self.0.options.retention.as_secs()).expect("days");
        let Log { partitions, groups, .. } = log;
        for (partition, events) in partitions {
            events.retain(|offset, logged| {
                let mut progress = groups.values().filter_map(|progress| progress.get(partition));
                let finished = self.has(Defect::RetentionTakesUnfinished)
                    || progress.all(|completed| *offset < completed.mark());
                !finished || now.duration_since(logged.accepted_at).as_secs() <= retention
            });
        }
    }

    /// Takes events; the one way in.
    pub(super) fn take(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let mut state = self.lock();
        let mut room = if events.len() > self.0.options.queue_events_max { 0 } else { usize::MAX };
        if self.has(Defect::BusyTearsKeys) && self.0.options.queue_events_max < 100 {
            // As an outbox would whose queue has one place left, and another one a moment later.
            room = 1;
        }
        let mut answers = Vec::new();
        for event in events {
            if self.has(Defect::BusyTearsKeys) && room == 0 {
                room = usize::MAX;
                answers.push(Err(PublishError::Busy));
                continue;
            }
            room = room.saturating_sub(1);
            answers.push(self.take_one(&mut state, topic, event));
        }
        drop(state);
        self.0.changed.notify_waiters();
        answers
    }

    fn take_one(&self, state: &mut State, topic: &Topic, event: Event) -> Result<Published, PublishError> {
        if !self.0.options.topics.contains(topic) {
            return Err(PublishError::UnknownTopic(topic.clone()));
        }
        let (bytes, bytes_max) = (event.weight(), self.0.options.event_bytes_max);
        let id = (topic.clone(), event.source.clone(), event.id.clone());
        if bytes > bytes_max {
            if self.has(Defect::RefusedIdRemembered) {
                state.log.seen.insert(id);
            }
            return Err(PublishError::TooLarge { bytes, bytes_max });
        }
        let now = self.0.clock.now();
        if !state.log.seen.insert(id) && !self.is_missed(state, topic, &event, now) {
            return Ok(Published::Duplicate);
        }
        let position = state.log.append(topic, event, self.0.options.partitions, now);
        Ok(Published::New(Some(position)))
    }

    /// The defect: an event that came at this very moment is not recognised.
    fn is_missed(&self, state: &State, topic: &Topic, event: &Event, now: Timestamp) -> bool {
        self.has(Defect::DedupeWithinCallMissing)
            && state.log.partitions.iter().filter(|(partition, _)| partition.topic == *topic).any(
                |(_, events)| {
                    events.values().any(|logged| logged.event.id == event.id && logged.accepted_at == now)
                },
            )
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        self.take(topic, events)
    }
}

#[async_trait]
impl EventLog for Memory {
    async fn list(&self, topic: Option<&Topic>, page: PageRequest) -> Result<Page<EventSummary>, StoreError> {
        let state = self.lock();
        let all = state.log.partitions.values().flat_map(BTreeMap::values);
        let all =
            all.filter(|logged| topic.is_none_or(|topic| logged.position.topic == *topic)).map(|logged| {
                let rank =
                    format!("{}/{:020}", sortable(logged.accepted_at), state.log.numbers[&logged.position]);
                (rank, EventSummary::from(&LoggedEvent::from(logged)))
            });
        page_of(all, &page, "events")
    }

    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError> {
        let state = self.lock();
        let all = state.log.partitions.values().flat_map(BTreeMap::values);
        let mut found: Vec<_> = all.filter(|logged| logged.event.id == id).collect();
        found.sort_by_key(|logged| std::cmp::Reverse(state.log.numbers[&logged.position]));
        Ok(found.into_iter().map(LoggedEvent::from).collect())
    }

    async fn is_complete(&self, flow: &FlowName, position: &Position) -> Result<bool, StoreError> {
        let partition = Partition { topic: position.topic.clone(), number: position.partition };
        let state = self.lock();
        let completed = state.log.groups.get(flow).and_then(|progress| progress.get(&partition));
        Ok(completed.is_some_and(|completed| completed.contains(position.offset)))
    }
}
