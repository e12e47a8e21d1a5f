//! The events that came in, to look things up.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::{Event, FlowName, Page, PageRequest, Position, StoreError, Topic};

/// An event as it stands in the broker.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// Where it stands.
    pub position: Position,
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
    /// Where it stands.
    #[serde(flatten)]
    pub position: Position,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The length of its data.
    pub data_bytes: usize,
}

impl From<&LoggedEvent> for EventSummary {
    fn from(LoggedEvent { position, accepted_at, event }: &LoggedEvent) -> Self {
        Self {
            id: event.id.clone(),
            source: event.source.clone(),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            key: event.key.clone(),
            position: position.clone(),
            accepted_at: *accepted_at,
            data_bytes: event.data.len(),
        }
    }
}

/// Looks events up as long as the broker keeps them. Only the embedded broker can list.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Events of one topic or of all, the newest first: by descending moment of acceptance, in a partition by descending
    /// offset. Each stands on one page once, whatever comes in between two pages. None of a topic that is not there. What
    /// is held in memory at a time is small, also if the events are large.
    async fn list(&self, topic: Option<&Topic>, page: PageRequest) -> Result<Page<EventSummary>, StoreError>;

    /// The events with this id (one for each source and topic that used it), the newest first.
    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError>;

    /// Whether a flow is finished with the event at a position: delivered, filtered out, or moved to the store.
    async fn is_complete(&self, flow: &FlowName, position: &Position) -> Result<bool, StoreError>;
}
