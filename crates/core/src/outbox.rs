//! The outbox port: where events become durable.

use async_trait::async_trait;

use crate::{Event, PublishError, Published, Topic};

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
