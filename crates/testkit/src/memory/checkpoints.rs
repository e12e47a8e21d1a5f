//! Which groups have begun to read which topics.

use async_trait::async_trait;
use crossdock_core::{Checkpoints, Group, StoreError, Topic};

use super::{Defect, Memory};

#[async_trait]
impl Checkpoints for Memory {
    async fn begun(&self, group: &Group) -> Result<Vec<Topic>, StoreError> {
        let state = self.lock();
        let mine = state
            .checkpoints
            .iter()
            .filter(|(other, _)| *other == group || self.has(Defect::CheckpointsShared));
        Ok(mine.flat_map(|(_, topics)| topics).cloned().collect())
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), StoreError> {
        self.lock().checkpoints.entry(group.clone()).or_default().extend(topics.iter().cloned());
        Ok(())
    }
}
