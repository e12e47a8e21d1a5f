//! How far a group is behind.

use crossdock_core::{BrokerError, Group, GroupLag, Partition, Topic};

use crate::{RabbitError, RabbitMq, Wanted, broker::Inner, error::unavailable, topology::Desk};

/// The queues of a group for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// The group.
    pub group: Group,
    /// The topic.
    pub topic: Topic,
    /// The queues that are there.
    pub there: usize,
    /// Those that are not: what was in them is lost, if they ever were.
    pub missing: Vec<String>,
    /// Events that wait in the queues, without those that some worker has in hand.
    pub waiting: u64,
}

impl RabbitMq {
    /// What waits in the queues of all groups that are wanted. Takes nothing from them, and changes nothing.
    pub async fn depths(&self, wanted: &Wanted) -> Result<Vec<Depth>, RabbitError> {
        let inner = &self.inner;
        inner.registry.note(wanted);
        let (mut desk, mut depths) = (Desk::new(inner.link.clone()), Vec::new());
        for (group, topics) in &wanted.groups {
            for topic in topics {
                let ready = inner.ready(&mut desk, group, topic).await.map_err(|error| {
                    RabbitError::Unavailable { doing: "looking at queues", source: Box::new(error) }
                })?;
                let missing = inner.missing(group, topic, &ready);
                let (there, waiting) = (ready.len() - missing.len(), ready.iter().flatten().sum());
                depths.push(Depth { group: group.clone(), topic: topic.clone(), there, missing, waiting });
            }
        }
        Ok(depths)
    }
}

impl Inner {
    /// Events that wait in the queues are counted by the broker, those that are out by this worker. What is out at other workers,
    /// which AMQP does not tell, is not among them. The lowest unfinished offset is known of what is out here; where events
    /// wait and none is out, 0 stands for it: nothing is said to be finished that may not be.
    pub(crate) async fn lag(&self, group: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        let mut topics = self.registry.topics_of(group);
        if topics.is_empty() {
            topics = self
                .checkpoints
                .begun(group)
                .await
                .map_err(|error| unavailable("asking for the lag", error))?;
        }
        let mut desk = Desk::new(self.link.clone());
        let mut lag = Vec::new();
        for partition in self.partitions(&topics) {
            let queue = desk.queue(&self.names.queue(group, &partition)).await;
            let queue = queue.map_err(|error| unavailable("asking for the lag", error))?;
            lag.push(self.lag_of(group, partition, queue.map_or(0, |queue| queue.ready)));
        }
        Ok(lag)
    }

    fn lag_of(&self, group: &Group, partition: Partition, ready: u64) -> GroupLag {
        let (mut lowest, mut end, mut pending) = (None, self.line.end(&partition), ready);
        for hand in self.hands(group, &partition) {
            let (first, behind, open) = hand.reach();
            lowest = lowest.into_iter().chain(first).min();
            end = end.max(behind);
            pending += open;
        }
        let committed = if pending == 0 { end } else { lowest.unwrap_or(0) };
        GroupLag { partition, committed, end, pending }
    }
}
