//! The outbox ports: where events become durable, and where the relay reads them.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::{Event, PublishError, Published, StoreError, Topic};

/// Takes events in. What it answered for is durable and will be published, in order, once for each (source, id).
///
/// On the embedded store the outbox is the broker's log; elsewhere a relay moves events from it to the broker.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Commits events and answers for each one. Returns after the commit. **Duplicates**: a second event with the topic,
    /// source and id of one that was taken is dropped, in one call as well as over restarts. **Refusals**: what was refused
    /// leaves nothing behind; its id may be sent again. One that may pass ([`PublishError::Busy`], `Unavailable`,
    /// `Unknown`) is never the answer for an event when a later one of its key in the same call was taken: sending it again
    /// must not turn the order of the key. **Cancellation**: dropping the future leaves it open whether the events
    /// were taken; sending them again is safe, the ids are the same.
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>>;

    /// Why no event would be taken now, for people; none if there is no reason known. Asked by those who decide whether to
    /// send events here at all (a probe); it tries nothing, and is no promise. Becomes none by itself when the reason is over.
    fn refusal(&self) -> Option<String> {
        None
    }
}

/// An outbox that is not the broker's own log: a relay reads it and publishes what it finds.
#[async_trait]
pub trait OutboxLog: Send + Sync {
    /// Becomes the one who reads. None while there is another reader, in this process too: ask again after a few seconds. One
    /// that was released is followed at once. A reader that is lost
    /// (killed, paused, cut off) is followed by another one within half a minute; it can do nothing any more, should it wake.
    async fn claim(&self) -> Result<Option<Box<dyn OutboxReader>>, StoreError>;

    /// How far the relay is, whoever runs it.
    async fn status(&self) -> Result<OutboxStatus, StoreError>;
}

/// The reader of an outbox, for as long as nobody else is.
///
/// **Order**: events of one key come in the order in which their transactions committed, if each locked its aggregate before
/// it inserted the event. **Never lost**: an event whose transaction commits late comes late, on a later page. **Ghosts**:
/// nothing of a transaction that was rolled back comes. **Duplicates**: within one reader each event comes once; after
/// a reader is lost, what it had not advanced comes again to the next one. Reading and advancing may happen at the same time.
/// Dropped, it lets go as soon as its lease runs out; [`OutboxReader::release`] is quicker.
#[async_trait]
pub trait OutboxReader: Send + Sync {
    /// The next events; an empty page when there is none at this moment. Returns at once: how long to wait is for the
    /// caller to decide. [`StoreError::Fenced`] when another one reads by now: nothing of this reader counts any more.
    /// Cancellation is safe only if the reader is dropped with it.
    async fn read(&self) -> Result<OutboxPage, StoreError>;

    /// Everything up to and with the page of this mark is in the broker, or refused for good. Pages are advanced in the
    /// order in which they were read, and some may be passed over: the last mark counts for all before. What is `refused` is
    /// kept where a person sees it, with the reason, and is not lost. May be made durable a little later: after a crash
    /// some events come again. Also renews the lease; called at least every few seconds, it keeps the reader in office.
    async fn advance(&self, mark: PageMark, refused: Vec<RefusedEvent>) -> Result<(), StoreError>;

    /// Stays the reader while there is nothing to advance. Called every few seconds.
    async fn renew(&self) -> Result<(), StoreError>;

    /// Lets go at once, with everything that was advanced made durable.
    async fn release(self: Box<Self>) -> Result<(), StoreError>;
}

/// Names a page of one reader; ascends.
pub type PageMark = u64;

/// Events that were read from an outbox, in the order in which they are to be published: at most [`OutboxPage::EVENTS_MAX`],
/// whose data has at most [`OutboxPage::BYTES_MAX`] unless it is a single one.
#[derive(Debug)]
pub struct OutboxPage {
    /// Names the page for [`OutboxReader::advance`].
    pub mark: PageMark,
    /// The events. Rows that are no event at all (a topic that is no name, an attribute that is not allowed) are not among
    /// them: they are in `malformed`.
    pub events: Vec<OutboxEvent>,
    /// Rows that can never be published, to be handed back with `advance`.
    pub malformed: Vec<RefusedEvent>,
    /// Whether there was more than fits a page: read again at once.
    pub more: bool,
}

impl OutboxPage {
    /// The most events of a page.
    pub const EVENTS_MAX: usize = 5000;
    /// The most bytes of data of a page with more than one event: what a reader must have room for.
    pub const BYTES_MAX: usize = 4 << 20;
}

/// An event with its place in the outbox.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    /// The number of its row.
    pub seq: i64,
    /// Where it goes.
    pub topic: Topic,
    /// The event.
    pub event: Event,
}

/// A row of the outbox that the broker will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// The number of its row.
    pub seq: i64,
    /// Why, for people.
    pub reason: String,
}

/// How far the relay of an outbox is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxStatus {
    /// Who reads it; none if nobody does.
    pub reader: Option<String>,
    /// Events that are committed and not advanced yet. Exact up to 100,000, beyond that as the planner estimates.
    pub waiting: u64,
    /// When the oldest of them was written.
    pub oldest_at: Option<Timestamp>,
    /// Numbers that are missing and may still be committed.
    pub gaps: u64,
    /// Rows that were refused for good and nobody has dealt with.
    pub refused: u64,
}
