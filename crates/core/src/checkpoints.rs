//! What must be remembered of consumer groups where a broker may forget it.

use async_trait::async_trait;

use crate::{Group, StoreError, Topic};

/// Remembers which groups have begun to read which topics.
///
/// Brokers forget the position of a group that was away for long, or lose a queue that somebody deletes. With this the
/// adapter can tell a group that is new (it begins with what comes next) from one whose position was lost (nothing may be
/// skipped in silence).
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The topics that the group has begun to read, in any order.
    async fn begun(&self, group: &Group) -> Result<Vec<Topic>, StoreError>;

    /// The group has begun to read these topics. Doing it twice changes nothing.
    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), StoreError>;
}
