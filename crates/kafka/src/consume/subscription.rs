//! The subscription port.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::{BrokerError, Partition, Signal, Subscription};

use super::{End, Shared};

/// How long a wait lasts before the queues are looked at again, should a wake-up have been lost (librdkafka's events have lost
/// some: rust-rdkafka issues 638 and 665).
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A member of a group, as the engine holds it.
pub(crate) struct KafkaSubscription {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<Signal, BrokerError> {
        loop {
            if let Some(signal) = self.shared.take()? {
                return Ok(signal);
            }
            // What came in between has left its permit, and a wait that ends by its time looks again.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.shared.news.notified()).await;
        }
    }

    fn pause(&mut self, partition: &Partition) {
        self.shared.set_paused(partition, true);
    }

    fn resume(&mut self, partition: &Partition) {
        self.shared.set_paused(partition, false);
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        // The thread of the member leaves the group; nobody waits for it here.
        self.shared.end(End::Left);
    }
}
