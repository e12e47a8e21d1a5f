//! A member of a group: reads its partitions from memory where it keeps up, from the file where it is behind.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::{
    Batch, BrokerError, Delivery, Event, Group, Offset, Partition, Position, Settle, Signal, StoreError,
    Subscription, Topic,
};
use futures::{FutureExt, TryStreamExt, future::select_all};
use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::Instant,
};

use crate::{
    Inner, errors,
    groups::{Complete, Progress},
    log::PartitionLog,
    pack,
    place::Place,
    rows::Columns,
};

/// The most deliveries in one batch, and its bytes unless it is a single one.
const BATCH_MAX: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;
/// How long a damaged place is left alone before it is read again.
const DAMAGED_AGAIN: Duration = Duration::from_secs(60);
const DOING: &str = "reading the log";

/// A member of a group.
pub(crate) struct Member {
    inner: Arc<Inner>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Held while the partitions are ours.
    ours: Option<OwnedMutexGuard<()>>,
    partitions: Vec<Reader>,
    /// The partition to look at first, so that each gets its turn.
    first: usize,
    closed: watch::Receiver<bool>,
}

/// Reads one partition.
struct Reader {
    progress: Arc<Progress>,
    settle: Arc<dyn Settle>,
    /// The offset to read next.
    next: Offset,
    end: watch::Receiver<Offset>,
    paused: bool,
    /// Since when the events at `next` are known to be damaged. Nothing is given out beyond them, since that would break the
    /// order of keys; the other partitions go on.
    damaged_at: Option<Instant>,
}

impl Member {
    /// The group must have been opened on the topics.
    pub(crate) fn new(inner: Arc<Inner>, group: &Group, topics: &[Topic]) -> Self {
        let (progress, turn) = match inner.groups.get(group) {
            Some(group) => (group.progress.clone(), group.turn.clone()),
            None => (Vec::new(), Arc::default()),
        };
        let topics: HashSet<&Topic> = topics.iter().collect();
        let partitions = progress
            .into_iter()
            .filter(|progress| topics.contains(&progress.log.partition.topic))
            .map(Reader::new)
            .collect();
        let closed = inner.closed.subscribe();
        Self { inner, turn, ours: None, partitions, first: 0, closed }
    }

    /// The next batch of any partition that has one; none if all are read to their end.
    async fn ready(&mut self) -> Result<Option<Batch>, BrokerError> {
        let (count, mut failed) = (self.partitions.len(), None);
        for step in 0..count {
            let index = (self.first + step) % count;
            match self.partitions[index].read(&self.inner).await {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    self.first = index + 1;
                    return Ok(Some(batch));
                }
                // One partition that cannot be read does not keep the others from their turn.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Waits until a partition has grown. Cancellation is safe.
    async fn grown(&mut self) {
        let waiting: Vec<_> = self
            .partitions
            .iter_mut()
            .filter(|reader| !reader.paused)
            .map(|reader| reader.end.changed().boxed())
            .collect();
        if waiting.is_empty() {
            return std::future::pending().await;
        }
        let (_, _, _) = select_all(waiting).await;
    }
}

#[async_trait]
impl Subscription for Member {
    async fn next(&mut self) -> Result<Signal, BrokerError> {
        if *self.closed.borrow() {
            return Err(BrokerError::Closed);
        }
        let mut closed = self.closed.clone();
        tokio::select! {
            // The sender lives in the store, which we hold.
            _ = closed.wait_for(|closed| *closed) => Err(BrokerError::Closed),
            signal = self.signal() => signal,
        }
    }

    fn pause(&mut self, partition: &Partition) {
        self.set_paused(partition, true);
    }

    fn resume(&mut self, partition: &Partition) {
        self.set_paused(partition, false);
    }
}

impl Member {
    async fn signal(&mut self) -> Result<Signal, BrokerError> {
        if self.ours.is_none() {
            self.ours = Some(self.turn.clone().lock_owned().await);
            for reader in &mut self.partitions {
                reader.next = reader.progress.lock().mark();
            }
            return Ok(Signal::Assigned(
                self.partitions.iter().map(|reader| reader.partition().clone()).collect(),
            ));
        }
        loop {
            if let Some(batch) = self.ready().await? {
                return Ok(Signal::Batch(batch));
            }
            self.grown().await;
        }
    }

    fn set_paused(&mut self, partition: &Partition, paused: bool) {
        for reader in &mut self.partitions {
            if reader.partition() == partition {
                reader.paused = paused;
            }
        }
    }
}

impl Reader {
    fn new(progress: Arc<Progress>) -> Self {
        let (next, end) = (progress.lock().mark(), progress.log.watch());
        Self {
            settle: Arc::new(Complete(progress.clone())),
            next,
            end,
            paused: false,
            damaged_at: None,
            progress,
        }
    }

    fn partition(&self) -> &Partition {
        &self.progress.log.partition
    }

    /// The next deliveries that are not finished. Cancellation is safe: the place moves on only with the result.
    async fn read(&mut self, inner: &Inner) -> Result<Option<Batch>, BrokerError> {
        if self.damaged_at.is_some_and(|at| at.elapsed() < DAMAGED_AGAIN) {
            return Ok(None);
        }
        while !self.paused && self.next < *self.end.borrow_and_update() {
            let events = match self.progress.log.newest(self.next, BATCH_MAX, BATCH_BYTES) {
                Some(events) => {
                    events.into_iter().zip(self.next..).map(|(event, offset)| (offset, event)).collect()
                }
                None => match page(inner, &self.progress.log, self.next).await {
                    Ok(events) => events,
                    Err(error) => return self.failed(error),
                },
            };
            let Some((last, _)) = events.last() else { return Ok(None) };
            self.next = last + 1;
            let deliveries = self.deliveries(events);
            if !deliveries.is_empty() {
                return Ok(Some(Batch { partition: self.partition().clone(), deliveries }));
            }
        }
        Ok(None)
    }

    /// Damage is told and waited at: only a person can mend the file. Anything else is the caller's to try again.
    fn failed(&mut self, error: StoreError) -> Result<Option<Batch>, BrokerError> {
        if !matches!(error, StoreError::Damaged(_)) {
            return Err(BrokerError::Unavailable { doing: DOING, source: Box::new(error) });
        }
        let (partition, offset) = (self.partition().to_string(), self.next);
        tracing::error!(partition, offset, error = %error, "events are damaged; the partition waits there");
        self.damaged_at = Some(Instant::now());
        Ok(None)
    }

    fn deliveries(&self, events: Vec<(Offset, Arc<Event>)>) -> Vec<Delivery> {
        let completed = self.progress.lock();
        let Partition { topic, number } = self.partition();
        events
            .into_iter()
            .filter(|(offset, _)| !completed.contains(*offset))
            .map(|(offset, event)| {
                let position = Position { topic: topic.clone(), partition: *number, offset };
                Delivery::new(event, position, self.settle.clone())
            })
            .collect()
    }
}

/// Reads events from the file, by ascending offset, from `from` on.
async fn page(
    inner: &Inner,
    log: &PartitionLog,
    from: Offset,
) -> Result<Vec<(Offset, Arc<Event>)>, StoreError> {
    let mut rows = sqlx::query(
        "SELECT place, events FROM log
         WHERE place >= coalesce((SELECT max(place) FROM log WHERE place <= ?1 AND place >= ?2), ?1) AND place < ?3
         ORDER BY place",
    )
    .bind(Place::new(log.part, from).0)
    .bind(Place::new(log.part, 0).0)
    .bind(Place::end_of(log.part))
    .fetch(&inner.readers);
    let (mut events, mut bytes, mut full) = (Vec::new(), 0, false);
    while !full {
        let Some(row) = rows.try_next().await.map_err(|error| errors::store_error(DOING, error))? else {
            break;
        };
        let mut offset = Place(row.at(0)?).offset();
        let skip = from.saturating_sub(offset) as usize;
        offset += skip as u64;
        let read = pack::open(row.at(1)?, skip, |event| {
            // A pack may hold more than the batch has room for; the rest is read next time.
            bytes += event.weight();
            full |= events.len() == BATCH_MAX || (bytes > BATCH_BYTES && !events.is_empty());
            if !full {
                events.push((offset, event));
                offset += 1;
            }
        });
        match read {
            Ok(()) => {}
            // What stands before the damage is whole.
            Err(_) if !events.is_empty() => break,
            Err(why) => {
                let text = format!("the events of {} from {offset} on: {why}", log.partition);
                return Err(errors::damaged(&text));
            }
        }
    }
    Ok(events)
}
