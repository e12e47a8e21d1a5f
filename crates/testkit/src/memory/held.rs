//! Held events.

use std::collections::BTreeMap;

use async_trait::async_trait;
use crossdock_core::{
    Adopted, FlowName, HeldEvent, HeldEvents, HeldId, HeldKey, NewHeld, Owner, Partition, Position,
    StoreError,
};
use jiff::Timestamp;

use super::{Defect, Memory};

fn is_in(held: &NewHeld, flow: &FlowName, partition: &Partition) -> bool {
    held.flow == *flow
        && held.position.topic == partition.topic
        && held.position.partition == partition.number
}

#[async_trait]
impl HeldEvents for Memory {
    async fn adopt(&self, flow: &FlowName, partition: &Partition) -> Result<Adopted, StoreError> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let epoch = state.epochs.entry((flow.clone(), partition.clone())).or_default();
        *epoch += 1;
        let owner = Owner { flow: flow.clone(), partition: partition.clone(), epoch: *epoch };
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for held in state.held.values_mut().filter(|held| is_in(held, flow, partition)) {
            let count = counts.entry(held.key_hash).or_default();
            if *count == 0 && !self.has(Defect::AdoptHealsNothing) {
                held.due.get_or_insert(now);
            }
            *count += 1;
        }
        let keys = counts.into_iter().map(|(hash, count)| HeldKey { hash, count }).collect();
        Ok(Adopted { owner, keys })
    }

    async fn due(
        &self,
        flow: &FlowName,
        partition: &Partition,
        until: Timestamp,
        after: Option<(Timestamp, HeldId)>,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        let state = self.lock();
        let mut due: Vec<_> = state
            .held
            .iter()
            .filter(|(_, held)| is_in(held, flow, partition))
            .filter_map(|(id, held)| held.due.map(|due| ((due, *id), held)))
            .filter(|((due, _), _)| *due < until || (*due == until && !self.has(Defect::DueExcludesUntil)))
            .filter(|(rank, _)| after.is_none_or(|after| *rank > after))
            .collect();
        if !self.has(Defect::DueOrderedById) {
            due.sort_by_key(|(rank, _)| *rank);
        }
        Ok(due.into_iter().take(limit).map(|((_, id), held)| HeldEvent { id, held: held.clone() }).collect())
    }

    async fn behind(
        &self,
        flow: &FlowName,
        partition: &Partition,
        key_hash: u64,
        after: HeldId,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        let state = self.lock();
        let rows = state.held.range(after + 1..);
        let rows = rows.filter(|(_, held)| is_in(held, flow, partition) && held.key_hash == key_hash);
        Ok(rows.take(limit).map(|(id, held)| HeldEvent { id: *id, held: held.clone() }).collect())
    }

    async fn count(&self, flow: &FlowName) -> Result<(u64, Option<Timestamp>), StoreError> {
        let state = self.lock();
        let rows: Vec<_> = state.held.values().filter(|held| held.flow == *flow).collect();
        Ok((rows.len() as u64, rows.iter().filter_map(|held| held.due).min()))
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<HeldEvent>, StoreError> {
        let state = self.lock();
        let rows = state.held.iter().filter(|(_, held)| held.position == *position);
        Ok(rows.map(|(id, held)| HeldEvent { id: *id, held: held.clone() }).collect())
    }
}
