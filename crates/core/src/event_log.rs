//! The events that came in, to look things up.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Event, FlowName, Page, PageRequest, Position, StoreError, Topic};
use std::sync::Arc;

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

/// Looks events up as long as the broker keeps them. Only the embedded broker can list.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Events of one topic or of all, the newest first: by descending moment of acceptance, in a partition by descending
    /// offset. Each stands on one page once, whatever comes in between two pages. None of a topic that is not there.
    async fn list(&self, topic: Option<&Topic>, page: PageRequest) -> Result<Page<LoggedEvent>, StoreError>;

    /// The events with this id (one for each source and topic that used it), the newest first.
    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError>;

    /// Whether a flow is finished with the event at a position: delivered, filtered out, or moved to the store.
    async fn is_complete(&self, flow: &FlowName, position: &Position) -> Result<bool, StoreError>;
}
