//! The events that came in, to look things up.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::{Event, FlowName, Offset, Page, PageRequest, Position, StoreError, Topic};

/// An event that came in.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// Where it goes.
    pub topic: Topic,
    /// Where it stands in the broker, if the store knows. One whose outbox is not the broker's log knows it only where a
    /// delivery of the event is held or dead.
    pub position: Option<Position>,
    /// Whether it is in the broker, or was refused by it for good; false while it waits in the outbox.
    pub relayed: bool,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The event.
    pub event: Arc<Event>,
}

/// An event as it stands in a list: without its data and what else may be long, so that a page is small whatever came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventSummary {
    /// See [`Event::id`].
    pub id: String,
    /// See [`Event::source`].
    pub source: String,
    /// See [`Event::kind`].
    #[serde(rename = "type")]
    pub kind: String,
    /// See [`Event::subject`].
    pub subject: Option<String>,
    /// See [`Event::key`].
    pub key: Option<String>,
    /// See [`LoggedEvent::topic`].
    pub topic: Topic,
    /// See [`LoggedEvent::position`]; as `partition` and `offset`.
    #[serde(flatten, serialize_with = "in_topic")]
    pub position: Option<Position>,
    /// See [`LoggedEvent::relayed`].
    pub relayed: bool,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The length of its data.
    pub data_bytes: usize,
}

impl From<&LoggedEvent> for EventSummary {
    fn from(LoggedEvent { topic, position, relayed, accepted_at, event }: &LoggedEvent) -> Self {
        Self {
            id: event.id.clone(),
            source: event.source.clone(),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            key: event.key.clone(),
            topic: topic.clone(),
            position: position.clone(),
            relayed: *relayed,
            accepted_at: *accepted_at,
            data_bytes: event.data.len(),
        }
    }
}

/// A position without its topic, which stands beside it.
fn in_topic<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct InTopic {
        partition: u32,
        offset: Offset,
    }
    let place =
        position.as_ref().map(|position| InTopic { partition: position.partition, offset: position.offset });
    place.serialize(serializer)
}

/// Looks events up as long as the outbox keeps them.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Events of one topic or of all, the newest first: by descending moment of acceptance, and those of one key in the
    /// reverse of their order. Each stands on one page once, whatever comes in between two pages. None of a topic that is not there. What
    /// is held in memory at a time is small, also if the events are large.
    async fn list(&self, topic: Option<&Topic>, page: PageRequest) -> Result<Page<EventSummary>, StoreError>;

    /// The events with this id (one for each source and topic that used it), the newest first.
    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError>;

    /// Whether a flow is finished with the event at a position: delivered, filtered out, or moved to the store. A store that
    /// is not the broker's log may not know; then it is false.
    async fn is_complete(&self, flow: &FlowName, position: &Position) -> Result<bool, StoreError>;
}
