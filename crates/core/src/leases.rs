//! Leases: how several workers share what only one of them may do at a time.

use std::time::Duration;

use async_trait::async_trait;

use crate::StoreError;

/// Names one life of a worker: another one after every start.
pub type WorkerId = String;

/// Counts the owners of a thing, from 1. A write that carries the epoch of an earlier owner is refused.
pub type Epoch = u64;

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is leased, unique in its scope.
    pub name: String,
    /// Who holds it.
    pub holder: WorkerId,
    /// The epoch of the holder.
    pub epoch: Epoch,
}

/// Who is there, and who holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The workers that renewed within their time to live, by ascending id, the one that asks among them.
    pub workers: Vec<WorkerId>,
    /// The leases that have not run out, by name.
    pub leases: Vec<Lease>,
}

/// Keeps leases. Time is the store's alone, so the clocks of workers do not matter.
///
/// A lease is held by one worker at a time: it ends when its holder lets it go, or when the holder has not renewed within
/// the time to live. A holder that was paused may not know that yet: what it writes must carry the epoch.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Says that the worker is alive for another `ttl`, extends every lease that it still holds in the scope, and tells how
    /// things stand. A lease that ran out is not extended: it is missing in the answer.
    async fn renew(&self, scope: &str, worker: &WorkerId, ttl: Duration) -> Result<Holdings, StoreError>;

    /// Takes these leases where they are free (or held by the same worker) and answers with those that were got, with
    /// their epochs. Each new holder has a higher epoch than any before.
    async fn take(
        &self,
        scope: &str,
        worker: &WorkerId,
        names: &[String],
        ttl: Duration,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Lets leases go at once; those of others are left alone.
    async fn release(&self, scope: &str, worker: &WorkerId, names: &[String]) -> Result<(), StoreError>;

    /// Leaves the scope: the worker counts no more, and everything that it holds is free.
    async fn leave(&self, scope: &str, worker: &WorkerId) -> Result<(), StoreError>;
}
