//! Leases. Time is that of the runtime, so that a test with a paused clock waits for none.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use crossdock_core::{Epoch, Holdings, Lease, Leases, StoreError, WorkerId};
use tokio::time::Instant;

use super::{Defect, Memory};

/// Who is there, and who holds what.
#[derive(Default)]
pub(super) struct Scope {
    workers: BTreeMap<WorkerId, Instant>,
    leases: BTreeMap<String, Held>,
}

/// A lease that is held, or was.
#[derive(Default)]
struct Held {
    holder: Option<(WorkerId, Instant)>,
    epoch: Epoch,
}

impl Held {
    fn holder(&self, now: Instant) -> Option<&WorkerId> {
        self.holder.as_ref().filter(|(_, until)| now < *until).map(|(worker, _)| worker)
    }

    fn lease(&self, name: &str, now: Instant) -> Option<Lease> {
        let holder = self.holder(now)?.clone();
        Some(Lease { name: name.to_owned(), holder, epoch: self.epoch })
    }
}

#[async_trait]
impl Leases for Memory {
    async fn renew(&self, scope: &str, worker: &WorkerId, ttl: Duration) -> Result<Holdings, StoreError> {
        let now = Instant::now();
        let mut state = self.lock();
        let scope = state.leases.entry(scope.to_owned()).or_default();
        scope.workers.insert(worker.clone(), now + ttl);
        for held in scope.leases.values_mut() {
            let is_its = held.holder(now) == Some(worker)
                || (self.has(Defect::LeaseRevived)
                    && held.holder.as_ref().is_some_and(|(holder, _)| holder == worker));
            if is_its {
                held.holder = Some((worker.clone(), now + ttl));
            }
        }
        let workers = scope.workers.iter().filter(|(_, until)| now < **until);
        Ok(Holdings {
            workers: workers.map(|(worker, _)| worker.clone()).collect(),
            leases: scope.leases.iter().filter_map(|(name, held)| held.lease(name, now)).collect(),
        })
    }

    async fn take(
        &self,
        scope: &str,
        worker: &WorkerId,
        names: &[String],
        ttl: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        let now = Instant::now();
        let mut state = self.lock();
        let scope = state.leases.entry(scope.to_owned()).or_default();
        let mut taken = Vec::new();
        for name in names {
            let held = scope.leases.entry(name.clone()).or_default();
            match held.holder(now) {
                Some(holder) if holder != worker => continue,
                Some(_) => {}
                None if self.has(Defect::EpochKept) => held.epoch = 1,
                None => held.epoch += 1,
            }
            held.holder = Some((worker.clone(), now + ttl));
            taken.extend(held.lease(name, now));
        }
        Ok(taken)
    }

    async fn release(&self, scope: &str, worker: &WorkerId, names: &[String]) -> Result<(), StoreError> {
        let mut state = self.lock();
        let leases = state.leases.entry(scope.to_owned()).or_default().leases.iter_mut();
        for (_, held) in leases.filter(|(name, _)| names.contains(name)) {
            held.holder.take_if(|(holder, _)| holder == worker || self.has(Defect::ReleasesForOthers));
        }
        Ok(())
    }

    async fn leave(&self, scope: &str, worker: &WorkerId) -> Result<(), StoreError> {
        let mut state = self.lock();
        let scope = state.leases.entry(scope.to_owned()).or_default();
        scope.workers.remove(worker);
        for held in scope.leases.values_mut() {
            held.holder.take_if(|(holder, _)| holder == worker);
        }
        Ok(())
    }
}
