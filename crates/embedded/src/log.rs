//! The log in memory: where each partition ends, and the newest events for subscribers that keep up.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use crossdock_core::{Event, Offset, Partition, Topic};
use sqlx::{Row, SqliteConnection};
use tokio::sync::watch;

use crate::{
    catalog::Catalog,
    place::{Part, Place},
};

/// A topic that takes events.
pub(crate) struct TopicLog {
    pub(crate) topic: Topic,
    /// By number; never empty.
    pub(crate) partitions: Vec<Arc<PartitionLog>>,
}

/// A partition that takes events.
pub(crate) struct PartitionLog {
    pub(crate) partition: Partition,
    pub(crate) part: Part,
    tail: Mutex<Tail>,
    /// The offset that the next event will get; told after each commit.
    end: watch::Sender<Offset>,
}

/// The newest events. Those below `end - newest.len()` are read from the file.
#[derive(Default)]
struct Tail {
    end: Offset,
    newest: VecDeque<Arc<Event>>,
    bytes: usize,
    bytes_max: usize,
}

impl PartitionLog {
    fn new(partition: Partition, part: Part, end: Offset, bytes_max: usize) -> Self {
        let tail = Mutex::new(Tail { end, bytes_max, ..Tail::default() });
        Self { partition, part, tail, end: watch::Sender::new(end) }
    }

    /// The offset that the next event will get.
    pub(crate) fn end(&self) -> Offset {
        *self.end.borrow()
    }

    /// Tells each new end.
    pub(crate) fn watch(&self) -> watch::Receiver<Offset> {
        self.end.subscribe()
    }

    /// Committed events, in order, from the end on.
    pub(crate) fn push(&self, events: Vec<Arc<Event>>) {
        let mut tail = self.lock();
        for event in events {
            tail.bytes += event.weight();
            tail.newest.push_back(event);
            tail.end += 1;
        }
        while tail.bytes > tail.bytes_max {
            let Some(oldest) = tail.newest.pop_front() else { break };
            tail.bytes -= oldest.weight();
        }
        self.end.send_replace(tail.end);
    }

    /// The truth from the file, after a commit whose outcome was not known.
    pub(crate) fn reset(&self, end: Offset) {
        let mut tail = self.lock();
        if tail.end != end {
            (tail.end, tail.bytes) = (end, 0);
            tail.newest.clear();
            self.end.send_replace(end);
        }
    }

    /// Events from `from` on if they are in memory: at most `count_max`, and `bytes_max` bytes unless it is one event.
    pub(crate) fn newest(&self, from: Offset, count_max: usize, bytes_max: usize) -> Option<Vec<Arc<Event>>> {
        let tail = self.lock();
        let first = tail.end - tail.newest.len() as u64;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let mut bytes = 0;
        let within = |event: &&Arc<Event>| {
            let first = bytes == 0;
            bytes += event.weight();
            first || bytes <= bytes_max
        };
        Some(tail.newest.iter().skip(skip).take(count_max).take_while(within).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("no holder of this lock panics")
    }
}

/// Gives each topic its partitions in the file, for good, and finds where they end.
pub(crate) async fn open_topics(
    connection: &mut SqliteConnection,
    catalog: &Catalog,
    topics: &[(Topic, u32)],
    tail_bytes_max: usize,
) -> Result<Vec<Arc<TopicLog>>, sqlx::Error> {
    let mut opened = Vec::new();
    for (topic, partitions) in topics {
        let count: u32 = sqlx::query_scalar(
            "INSERT INTO topics (name, partitions) VALUES (?, ?)
             ON CONFLICT DO UPDATE SET partitions = partitions RETURNING partitions",
        )
        .bind(topic.as_str())
        .bind(partitions)
        .fetch_one(&mut *connection)
        .await?;
        let mut parts = Vec::new();
        for number in 0..count {
            let partition = Partition { topic: topic.clone(), number };
            let part = catalog.part_or_new(connection, &partition).await?;
            parts.push((partition, part, end_of(connection, part).await?));
        }
        opened.push((topic.clone(), parts));
    }
    let each = tail_bytes_max / opened.iter().map(|(_, parts)| parts.len()).sum::<usize>().max(1);
    let open = |(topic, parts): (Topic, Vec<(Partition, Part, Offset)>)| {
        let partitions = parts
            .into_iter()
            .map(|(partition, part, end)| Arc::new(PartitionLog::new(partition, part, end, each)))
            .collect();
        Arc::new(TopicLog { topic, partitions })
    };
    Ok(opened.into_iter().map(open).collect())
}

/// The offset that the next event of a partition gets.
pub(crate) async fn end_of(connection: &mut SqliteConnection, part: Part) -> Result<Offset, sqlx::Error> {
    let last = sqlx::query(
        "SELECT place, count FROM log WHERE place >= ? AND place < ? ORDER BY place DESC LIMIT 1",
    )
    .bind(Place::new(part, 0).0)
    .bind(Place::end_of(part))
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(last) = last {
        return Ok(Place(last.try_get(0)?).offset() + last.try_get::<i64, _>(1)? as u64);
    }
    let trimmed: i64 = sqlx::query_scalar("SELECT trimmed_to FROM partitions WHERE id = ?")
        .bind(part)
        .fetch_one(connection)
        .await?;
    Ok(trimmed as u64)
}
