//! What an embedded store is opened with.

use std::time::Duration;

use crossdock_core::{FlowName, Topic};

/// How an embedded store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Partitions of a topic that is new. A topic keeps the number that it was born with, since another number would
    /// send a key to another partition and break its order. Default 4.
    pub partitions: u32,
    /// Topics that get another number of partitions when they are new; with 1, all of their events are in one order.
    pub partitions_of: Vec<(Topic, u32)>,
    /// Topics that take events, besides those of the groups.
    pub topics: Vec<Topic>,
    /// Groups with their topics. A group that is new begins with the first event after this opening; events are kept
    /// until every group here is finished with them.
    pub groups: Vec<(FlowName, Vec<Topic>)>,
    /// The largest event: attributes and data together. Default 1 MiB.
    pub event_bytes_max: usize,
    /// Events that wait to be written, at most; more are [`crossdock_core::PublishError::Busy`]. Default 20,000.
    pub queue_events_max: usize,
    /// Bytes that wait to be written, at most. Default 16 MiB.
    pub queue_bytes_max: usize,
    /// Bytes of the newest events that are kept in memory for subscribers that keep up. Default 8 MiB.
    pub tail_bytes_max: usize,
    /// How long an event is kept once every group is finished with it. Default 24 h.
    pub retention: Duration,
    /// How long a second event with the same topic, source and id is recognised, at least. Default 7 days.
    pub dedupe_window: Duration,
    /// How long replayed and discarded dead letters are kept; open ones are never dropped. Default 30 days.
    pub dead_letter_retention: Duration,
    /// Ids that are recognised, at most: 32 bytes of disk and 1.5 bytes of memory each. Beyond it the oldest are
    /// forgotten before the window ends, and a warning says so. Default 16,777,216.
    pub dedupe_ids_max: u64,
    /// Ids that are kept in memory before they are written out as a sorted run. Default 131,072: about 10 MB of
    /// memory, and what a start has to read again. In debug builds 1,024, so that tests meet many runs.
    pub recent_ids_max: usize,
    /// The largest size of the database file; none is as large as the disk. New events are refused before its last eighth
    /// (at most 64 MiB) is touched, so that those that were accepted can still be held, dead-lettered and dropped. SQLite's
    /// write-ahead log comes on top. Default none.
    pub file_bytes_max: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            partitions: 4,
            partitions_of: Vec::new(),
            topics: Vec::new(),
            groups: Vec::new(),
            event_bytes_max: 1 << 20,
            queue_events_max: 20_000,
            queue_bytes_max: 16 << 20,
            tail_bytes_max: 8 << 20,
            retention: DAY,
            dedupe_window: 7 * DAY,
            dead_letter_retention: 30 * DAY,
            dedupe_ids_max: 1 << 24,
            recent_ids_max: if cfg!(debug_assertions) { 1 << 10 } else { 1 << 17 },
            file_bytes_max: None,
        }
    }
}

impl Options {
    /// Every topic that takes events, once, with the partitions that it gets if it is new.
    pub(crate) fn all_topics(&self) -> Vec<(Topic, u32)> {
        let of_groups = self.groups.iter().flat_map(|(_, topics)| topics);
        let mut topics: Vec<Topic> = self.topics.iter().chain(of_groups).cloned().collect();
        topics.sort_unstable();
        topics.dedup();
        let own = |topic: &Topic| self.partitions_of.iter().find(|(named, _)| named == topic);
        let partitions =
            |topic: &Topic| own(topic).map_or(self.partitions, |(_, partitions)| *partitions).max(1);
        topics.into_iter().map(|topic| (topic.clone(), partitions(&topic))).collect()
    }
}
