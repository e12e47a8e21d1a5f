//! Which groups have begun to read which topics.

use async_trait::async_trait;
use crossdock_core::{Checkpoints, Group, StoreError, Topic};

use super::Memory;

#[async_trait]
impl Checkpoints for Memory {
    async fn begun(&self, group: &Group) -> Result<Vec<Topic>, StoreError> {
        Ok(self.lock().checkpoints.get(group).into_iter().flatten().cloned().collect())
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), StoreError> {
        self.lock().checkpoints.entry(group.clone()).or_default().extend(topics.iter().cloned());
        Ok(())
    }
}
