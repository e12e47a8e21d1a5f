//! How far a group is behind.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use crossdock_core::{BrokerError, Completed, Group, GroupLag, Offset, Partition, Topic};

use super::Inner;
use crate::{
    consume::{self, Shared},
    error::unavailable,
    topics::{Asker, Edge},
};

const DOING: &str = "asking how far a group is";

impl Inner {
    /// What our own members have finished counts at once; of others, what they have committed.
    pub(super) async fn lag(self: &Arc<Self>, group: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        let (mut topics, members) = self.members_of(group);
        if topics.is_empty() {
            topics = self.checkpoints.begun(group).await.map_err(|error| unavailable(DOING, error))?;
        }
        let mut ours: HashMap<Partition, Completed> = HashMap::new();
        for (ledger, ..) in members.iter().flat_map(|member| member.owned()) {
            ours.insert(ledger.partition.clone(), ledger.completed().clone());
        }
        let name = self.group_name(group);
        self.ask(DOING, move |inner| inner.lag_of(&name, &topics, ours)).await
    }

    fn members_of(&self, group: &Group) -> (Vec<Topic>, Vec<Arc<Shared>>) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut topics, mut alive) = (Vec::new(), Vec::new());
        for (name, reads, member) in &members.list {
            if name == group
                && let Some(member) = member.upgrade()
            {
                topics.extend(reads.iter().cloned());
                alive.push(member);
            }
        }
        topics.sort_unstable();
        topics.dedup();
        (topics, alive)
    }

    fn lag_of(
        &self,
        name: &str,
        topics: &[Topic],
        mut known: HashMap<Partition, Completed>,
    ) -> Result<Vec<GroupLag>, BrokerError> {
        let failed = |error| unavailable(DOING, error);
        let partitions = self.partitions(topics)?;
        let others: Vec<_> =
            partitions.iter().filter(|partition| !known.contains_key(partition)).cloned().collect();
        if !others.is_empty() {
            let asker = Asker::new(&self.options, self.context.clone(), Some(name))
                .map_err(|error| unavailable(DOING, error))?;
            known.extend(consume::committed(asker.consumer(), &self.topics, &others).map_err(failed)?);
        }
        let lost: Vec<_> = others.into_iter().filter(|partition| !known.contains_key(partition)).collect();
        let oldest = self.topics.edges(&lost, Edge::Oldest).map_err(failed)?;
        known.extend(oldest.into_iter().map(|(partition, place)| (partition, Completed::from(place))));
        let ends = self.topics.edges(&partitions, Edge::End).map_err(failed)?;
        let lag = |partition: Partition| {
            let completed = known.get(&partition).cloned().unwrap_or_default();
            let end = ends.get(&partition).copied().unwrap_or_default().max(completed.mark());
            GroupLag { committed: completed.mark(), end, pending: pending(&completed, end), partition }
        };
        Ok(partitions.into_iter().map(lag).collect())
    }
}

/// Offsets below the end that are not finished.
fn pending(completed: &Completed, end: Offset) -> u64 {
    let finished: u64 = completed.ranges().map(|(start, stop)| stop.min(end).saturating_sub(start)).sum();
    (end - completed.mark()).saturating_sub(finished)
}
