//! An outbox in memory that a relay reads: the model of [`crate::HasOutboxLog`].

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Clock, Epoch, Event, Outbox, OutboxEvent, OutboxLog, OutboxPage, OutboxReader, OutboxStatus, PageMark,
    PublishError, Published, RefusedEvent, StoreError, Topic,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{HasOutboxLog, Setup, Subject};

/// How long a reader stays in office without a word.
const LEASE: Duration = Duration::from_secs(10);

/// A promise that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxDefect {
    /// A reader that was followed works as before.
    FenceOpen,
    /// There may be two readers.
    TwoReaders,
    /// Advancing changes nothing.
    AdvancesNothing,
    /// Advancing takes everything that was read.
    AdvancesTooFar,
    /// The next reader begins behind what was read.
    ReadIsGone,
    /// A reader is given everything again and again.
    GivenTwice,
    /// The events of a page come in the reverse order.
    Reversed,
    /// A page has no bound.
    PageUnbounded,
    /// What was refused is forgotten.
    RefusedForgotten,
    /// Whoever lets go stays in office until the lease is over.
    HoldsOn,
}

/// An outbox in memory; a clone is another handle to the same one. What it answered for is there until it was advanced.
/// A reader's time is that of the runtime.
#[derive(Clone)]
pub struct OutboxRows {
    rows: Arc<Mutex<Rows>>,
    clock: Arc<dyn Clock>,
    defect: Option<OutboxDefect>,
}

#[derive(Default)]
struct Rows {
    waiting: BTreeMap<i64, Row>,
    last: i64,
    seen: HashSet<(Topic, String, String)>,
    refused: BTreeMap<i64, String>,
    reader: Option<Reading>,
    epoch: Epoch,
    /// The last row that any reader was given.
    read_to: i64,
}

struct Row {
    topic: Topic,
    event: Event,
    written_at: Timestamp,
}

struct Reading {
    epoch: Epoch,
    until: Instant,
}

impl OutboxRows {
    /// An empty one.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { rows: Arc::default(), clock, defect: None }
    }

    /// The same with one broken promise.
    pub fn with_defect(clock: Arc<dyn Clock>, defect: OutboxDefect) -> Self {
        Self { defect: Some(defect), ..Self::new(clock) }
    }

    fn has(&self, defect: OutboxDefect) -> bool {
        self.defect == Some(defect)
    }

    /// Commits events, as an application does: nothing is asked about duplicates.
    pub fn insert(&self, topic: &Topic, events: Vec<Event>) {
        let mut rows = self.lock();
        for event in events {
            rows.insert(topic.clone(), event, self.clock.now());
        }
    }

    /// What was refused for good, with the reasons.
    pub fn refused(&self) -> Vec<RefusedEvent> {
        let rows = self.lock();
        rows.refused.iter().map(|(seq, reason)| RefusedEvent { seq: *seq, reason: reason.clone() }).collect()
    }

    /// Takes the office from whoever reads: what happens to a reader that was paused for too long.
    pub fn depose(&self) {
        self.lock().reader = None;
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("no holder of this lock panics")
    }
}

impl Rows {
    fn insert(&mut self, topic: Topic, event: Event, written_at: Timestamp) {
        self.last += 1;
        self.waiting.insert(self.last, Row { topic, event, written_at });
    }

    /// Lets the reader of this epoch stay, if it is still in office.
    fn check(&mut self, epoch: Epoch, is_open: bool) -> Result<(), StoreError> {
        match &mut self.reader {
            _ if is_open => Ok(()),
            Some(reading) if reading.epoch == epoch => {
                reading.until = Instant::now() + LEASE;
                Ok(())
            }
            _ => Err(StoreError::Fenced("the outbox".to_owned())),
        }
    }
}

#[async_trait]
impl Outbox for OutboxRows {
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let mut rows = self.lock();
        let now = self.clock.now();
        let taken = events.into_iter().map(|event| {
            if !rows.seen.insert((topic.clone(), event.source.clone(), event.id.clone())) {
                return Ok(Published::Duplicate);
            }
            rows.insert(topic.clone(), event, now);
            Ok(Published::New(None))
        });
        taken.collect()
    }
}

#[async_trait]
impl OutboxLog for OutboxRows {
    async fn claim(&self) -> Result<Option<Box<dyn OutboxReader>>, StoreError> {
        let mut rows = self.lock();
        let now = Instant::now();
        let is_read = rows.reader.as_ref().is_some_and(|reading| now < reading.until);
        if is_read && !self.has(OutboxDefect::TwoReaders) {
            return Ok(None);
        }
        rows.epoch += 1;
        let epoch = rows.epoch;
        rows.reader = Some(Reading { epoch, until: now + LEASE });
        let last = if self.has(OutboxDefect::ReadIsGone) { rows.read_to } else { 0 };
        let read = Mutex::new(Read { last, ..Read::default() });
        let reader = Reader { outbox: self.clone(), epoch, read };
        Ok(Some(Box::new(reader)))
    }

    async fn status(&self) -> Result<OutboxStatus, StoreError> {
        let rows = self.lock();
        let reading = rows.reader.as_ref().filter(|reading| Instant::now() < reading.until);
        Ok(OutboxStatus {
            reader: reading.map(|reading| format!("reader {}", reading.epoch)),
            waiting: rows.waiting.len() as u64,
            oldest_at: rows.waiting.values().next().map(|row| row.written_at),
            gaps: 0,
            refused: rows.refused.len() as u64,
        })
    }
}

struct Reader {
    outbox: OutboxRows,
    epoch: Epoch,
    read: Mutex<Read>,
}

/// How far a reader has read.
#[derive(Default)]
struct Read {
    last: i64,
    mark: PageMark,
    /// The last row of each page that was not advanced.
    ends: BTreeMap<PageMark, i64>,
}

impl Reader {
    fn check(&self, rows: &mut Rows) -> Result<(), StoreError> {
        rows.check(self.epoch, self.outbox.has(OutboxDefect::FenceOpen))
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().expect("no holder of this lock panics")
    }
}

#[async_trait]
impl OutboxReader for Reader {
    async fn read(&self) -> Result<OutboxPage, StoreError> {
        let mut rows = self.outbox.lock();
        self.check(&mut rows)?;
        let mut read = Reader::read(self);
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut more = false;
        for (seq, row) in rows.waiting.range(read.last + 1..) {
            bytes += row.event.data.len();
            let is_full = events.len() == OutboxPage::EVENTS_MAX
                || (bytes > OutboxPage::BYTES_MAX && !events.is_empty());
            if is_full && !self.outbox.has(OutboxDefect::PageUnbounded) {
                more = true;
                break;
            }
            events.push(OutboxEvent { seq: *seq, topic: row.topic.clone(), event: row.event.clone() });
        }
        let last = events.last().map_or(read.last, |event| event.seq);
        if self.outbox.has(OutboxDefect::Reversed) {
            events.reverse();
        }
        if !self.outbox.has(OutboxDefect::GivenTwice) {
            read.last = last;
        }
        rows.read_to = last;
        read.mark += 1;
        let mark = read.mark;
        read.ends.insert(mark, last);
        Ok(OutboxPage { mark, events, malformed: Vec::new(), more })
    }

    async fn advance(&self, mark: PageMark, refused: Vec<RefusedEvent>) -> Result<(), StoreError> {
        let mut rows = self.outbox.lock();
        self.check(&mut rows)?;
        if !self.outbox.has(OutboxDefect::RefusedForgotten) {
            rows.refused.extend(refused.into_iter().map(|event| (event.seq, event.reason)));
        }
        if self.outbox.has(OutboxDefect::AdvancesNothing) {
            return Ok(());
        }
        let mut read = Reader::read(self);
        let mark = if self.outbox.has(OutboxDefect::AdvancesTooFar) { read.mark } else { mark };
        let later = read.ends.split_off(&(mark + 1));
        let done = std::mem::replace(&mut read.ends, later);
        if let Some((_, end)) = done.last_key_value() {
            rows.waiting = rows.waiting.split_off(&(end + 1));
        }
        Ok(())
    }

    async fn renew(&self) -> Result<(), StoreError> {
        self.check(&mut self.outbox.lock())
    }

    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        let mut rows = self.outbox.lock();
        self.check(&mut rows)?;
        if !self.outbox.has(OutboxDefect::HoldsOn) {
            rows.reader = None;
        }
        Ok(())
    }
}

#[async_trait]
impl Subject for OutboxRows {
    async fn create(setup: &Setup) -> Self {
        Self::new(setup.clock.clone())
    }

    async fn reopen(self, _: &Setup) -> Self {
        self
    }

    /// The process is gone, and its reader with it.
    async fn crash(self, _: &Setup) -> Self {
        self
    }
}

#[async_trait]
impl HasOutboxLog for OutboxRows {
    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        Arc::new(self.clone())
    }

    async fn write(&self, topic: &Topic, events: Vec<Event>) {
        self.insert(topic, events);
    }
}
