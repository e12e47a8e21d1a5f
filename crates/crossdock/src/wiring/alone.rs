//! One worker at a time: what an embedded broker beside a shared store needs, since no other worker can read its log.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use crossdock_core::{Leases, StoreError, WorkerId, chain};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::hindrance::{Hindrance, hindrance};

const SCOPE: &str = "embedded-broker";
const LEASE: &str = "worker";
/// How long the store waits for a worker that says nothing.
const TIME_TO_LIVE: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How long the store may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The right to be the only worker. Kept up until it is given back.
pub struct Alone {
    leases: Arc<dyn Leases>,
    worker: WorkerId,
    renewals: JoinHandle<()>,
}

impl Alone {
    /// Takes the right. Another worker that is alive is the end of the start; one that was killed is waited for until
    /// its lease runs out. Should another worker take it, since this one was silent for too long, `lost` is cancelled.
    pub async fn take(
        leases: Arc<dyn Leases>,
        worker: WorkerId,
        lost: CancellationToken,
    ) -> Result<Self, Hindrance> {
        let (until, mut told) = (Instant::now() + TIME_TO_LIVE + RENEW_EVERY, false);
        loop {
            let taken = within(leases.take(SCOPE, &worker, &[LEASE.to_owned()], TIME_TO_LIVE)).await;
            if !taken.map_err(|error| hindrance(error.into()))?.is_empty() {
                break;
            }
            if Instant::now() >= until {
                return Err(Hindrance::Final(anyhow!(
                    "another worker uses this store with an embedded broker, and a second one could not see its events: end \
                     that one, give this one another `store`, or name a `broker` that they can share"
                )));
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!("another worker used this store; waiting whether it is still there");
            }
            tokio::time::sleep(RENEW_EVERY).await;
        }
        let renewals = tokio::spawn(renew(leases.clone(), worker.clone(), lost));
        Ok(Self { leases, worker, renewals })
    }

    /// Gives the right back.
    pub async fn leave(self) {
        self.renewals.abort();
        if let Err(error) = within(self.leases.leave(SCOPE, &self.worker)).await {
            tracing::warn!(error = chain(&error), "the next worker has to wait until the lease has run out");
        }
    }
}

/// Keeps the lease. One that ran out is taken again: as long as nobody else has it, nothing has happened.
async fn renew(leases: Arc<dyn Leases>, worker: WorkerId, lost: CancellationToken) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let held = within(leases.renew(SCOPE, &worker, TIME_TO_LIVE)).await;
        let held = match held {
            Ok(holdings) if holdings.leases.iter().any(|lease| lease.holder == worker) => Ok(true),
            Ok(_) => within(leases.take(SCOPE, &worker, &[LEASE.to_owned()], TIME_TO_LIVE))
                .await
                .map(|taken| !taken.is_empty()),
            Err(error) => Err(error),
        };
        match held {
            Ok(true) => {}
            Ok(false) => return lost.cancel(),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the lease of the only worker was not renewed")
            }
        }
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let doing = "keeping the lease of the only worker";
    tokio::time::timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or_else(|late| Err(StoreError::Unavailable { doing, source: late.into() }))
}
