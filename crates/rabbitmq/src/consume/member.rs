//! One member of a group: which shards it owns.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crossdock_core::{Group, Holdings, Leases, Partition, Revocation, Signal, StoreError, WorkerId, chain};
use futures::{channel::oneshot, future::join_all};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Hand, Shared,
    shard::{Shard, ShardWith},
    share::plan,
};

/// How long the engine has to let go of shards.
const LET_GO_MAX: Duration = Duration::from_secs(10);
/// How long the last acknowledgements of a shard may take.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How soon to ask again for shards that are due to us, or for a store that does not answer.
const SOON: Duration = Duration::from_millis(500);

/// Tells the members of a group in this process that somebody has let go of something.
pub(crate) type Peers = watch::Sender<u64>;

/// A member.
pub(crate) struct Member {
    pub(crate) group: Group,
    pub(crate) worker: WorkerId,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) ttl: Duration,
    pub(crate) shared: Arc<Shared>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) with: Arc<ShardWith>,
}

/// A member at work.
struct Work {
    member: Member,
    scope: String,
    owned: BTreeMap<Partition, Owned>,
    revoking: Option<Revoking>,
    /// When the leases were extended last, by our clock, taken before the store was asked.
    renewed: Instant,
    /// The store does not answer, and that was said.
    store_fails: bool,
}

struct Owned {
    hand: Arc<Hand>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Owned {
    async fn ended(mut self) {
        if timeout(STOP_MAX, &mut self.task).await.is_err() {
            self.task.abort();
        }
        self.hand.end();
    }
}

/// Shards that the engine was asked to let go of.
struct Revoking {
    partitions: Vec<Partition>,
    let_go: oneshot::Receiver<()>,
    until: Instant,
}

impl Revoking {
    /// The engine has let go, or is gone, or has had its time. Cancellation is safe.
    async fn over(&mut self) {
        let _ = tokio::time::timeout_at(self.until, &mut self.let_go).await;
    }
}

impl Member {
    /// Works until the subscription is dropped or the broker closed; then everything is given back.
    pub(crate) async fn run(self) {
        let scope = format!("rabbitmq/{}", self.group);
        let (leave, mut peers) = (self.shared.leave.clone(), self.peers.subscribe());
        let mut work = Work {
            member: self,
            scope,
            owned: BTreeMap::new(),
            revoking: None,
            renewed: Instant::now(),
            store_fails: false,
        };
        let mut wait = Duration::ZERO;
        loop {
            let revoking = async {
                match &mut work.revoking {
                    Some(revoking) => revoking.over().await,
                    None => std::future::pending().await,
                }
            };
            let let_go = tokio::select! {
                biased;
                () = leave.cancelled() => break,
                () = revoking => true,
                _ = peers.changed() => false,
                () = sleep(wait) => false,
            };
            if let_go {
                work.let_go().await;
            }
            wait = work.round().await;
        }
        work.leave().await;
    }
}

impl Work {
    /// Renews and does what is due; answers with how long to wait for the next time.
    async fn round(&mut self) -> Duration {
        let (asked, ttl) = (Instant::now(), self.member.ttl);
        let renewing = self.member.leases.renew(&self.scope, &self.member.worker, ttl);
        match within(ttl / 3, renewing).await {
            Ok(holdings) => {
                self.renewed = asked;
                self.store_answers();
                self.apply(&holdings).await
            }
            Err(why) => {
                self.store_is_silent(&why);
                // What nobody has extended is about to be somebody else's.
                let until = self.renewed + ttl;
                if let Some(revoking) = &mut self.revoking {
                    revoking.until = revoking.until.min(until);
                } else if self.renewed.elapsed() > ttl * 2 / 3 && !self.owned.is_empty() {
                    let all = self.owned.keys().cloned().collect();
                    self.revoke(all, "the leases could not be renewed", until);
                }
                SOON.min(ttl / 6)
            }
        }
    }

    async fn apply(&mut self, holdings: &Holdings) -> Duration {
        let pause = self.member.ttl / 3;
        if self.revoking.is_some() {
            return pause;
        }
        let mine: BTreeSet<&str> = holdings
            .leases
            .iter()
            .filter(|lease| lease.holder == self.member.worker)
            .map(|lease| &*lease.name)
            .collect();
        let lost: Vec<_> =
            self.owned.keys().filter(|partition| !mine.contains(&*partition.to_string())).cloned().collect();
        if !lost.is_empty() {
            self.revoke(lost, "their leases ran out", Instant::now() + pause);
            return pause;
        }
        let shards: Vec<_> = self.member.partitions.iter().map(Partition::to_string).collect();
        let plan = plan(&shards, holdings, &self.member.worker);
        let (give, stray): (Vec<_>, Vec<_>) =
            self.named(&plan.give).into_iter().partition(|partition| self.owned.contains_key(partition));
        self.release(&stray).await;
        if !give.is_empty() {
            self.revoke(give, "another worker has joined", Instant::now() + LET_GO_MAX);
            return pause;
        }
        // A lease that we hold and do not know of: the answer to taking it was lost.
        let unknown = self.member.partitions.iter().filter(|partition| {
            mine.contains(&*partition.to_string())
                && !self.owned.contains_key(partition)
                && !stray.contains(partition)
        });
        let mut names = plan.take;
        names.extend(unknown.map(Partition::to_string));
        let complete = names.is_empty() || self.take(&names).await;
        if complete && plan.missing == 0 { pause } else { SOON.min(pause) }
    }

    fn named(&self, names: &[String]) -> Vec<Partition> {
        let partitions = self.member.partitions.iter();
        partitions.filter(|partition| names.contains(&partition.to_string())).cloned().collect()
    }

    /// Takes leases and begins with their shards; false if some were not got.
    async fn take(&mut self, names: &[String]) -> bool {
        let Member { leases, worker, ttl, .. } = &self.member;
        let taken = match within(*ttl / 3, leases.take(&self.scope, worker, names, *ttl)).await {
            Ok(taken) => taken,
            Err(why) => {
                self.store_is_silent(&why);
                return false;
            }
        };
        let got: Vec<_> = taken.iter().map(|lease| lease.name.clone()).collect();
        let partitions = self.named(&got);
        if !partitions.is_empty() {
            tracing::info!(group = %self.member.group, shards = %list(&partitions), "shards taken");
            self.begin(partitions);
        }
        got.len() == names.len()
    }

    fn begin(&mut self, partitions: Vec<Partition>) {
        let hands: Vec<_> =
            partitions.into_iter().map(|partition| Hand::new(partition, self.member.with.prefetch)).collect();
        self.member.shared.assign(&hands);
        for hand in hands {
            let stop = CancellationToken::new();
            let shard = Shard::new(
                hand.clone(),
                &self.member.group,
                self.member.shared.clone(),
                self.member.with.clone(),
            );
            let task = tokio::spawn(shard.run(stop.clone()));
            self.owned.insert(hand.partition.clone(), Owned { hand, stop, task });
        }
    }

    /// Asks the engine to let go until then.
    fn revoke(&mut self, partitions: Vec<Partition>, why: &str, until: Instant) {
        tracing::info!(group = %self.member.group, shards = %list(&partitions), why, "shards are given up");
        let (revocation, let_go) = Revocation::new(partitions.clone());
        self.member.shared.revoke(&partitions, Signal::Revoked(revocation));
        self.revoking = Some(Revoking { partitions, let_go, until });
    }

    /// The engine has let go, or has had its time.
    async fn let_go(&mut self) {
        let Some(Revoking { partitions, .. }) = self.revoking.take() else { return };
        let owned: Vec<_> = partitions.iter().filter_map(|partition| self.owned.remove(partition)).collect();
        end(owned).await;
        self.release(&partitions).await;
        self.member.peers.send_modify(|count| *count += 1);
    }

    async fn release(&mut self, partitions: &[Partition]) {
        if partitions.is_empty() {
            return;
        }
        let names: Vec<_> = partitions.iter().map(Partition::to_string).collect();
        let Member { leases, worker, ttl, .. } = &self.member;
        if let Err(why) = within(*ttl / 3, leases.release(&self.scope, worker, &names)).await {
            self.store_is_silent(&why);
        }
    }

    async fn leave(mut self) {
        end(std::mem::take(&mut self.owned).into_values().collect()).await;
        let Member { leases, worker, .. } = &self.member;
        if let Err(why) = within(STOP_MAX, leases.leave(&self.scope, worker)).await {
            tracing::warn!(
                group = %self.member.group, error = why,
                "the group could not be left; its shards are free when the leases run out"
            );
        }
        self.member.peers.send_modify(|count| *count += 1);
    }

    fn store_answers(&mut self) {
        if std::mem::take(&mut self.store_fails) {
            tracing::info!(group = %self.member.group, "leases are renewed again");
        }
    }

    fn store_is_silent(&mut self, why: &str) {
        if !std::mem::replace(&mut self.store_fails, true) {
            tracing::warn!(group = %self.member.group, error = why, "leases cannot be renewed; it is tried again");
        }
    }
}

/// Ends shards: what is finished is acknowledged, what is not comes again to whoever is next.
async fn end(owned: Vec<Owned>) {
    owned.iter().for_each(|owned| owned.stop.cancel());
    join_all(owned.into_iter().map(Owned::ended)).await;
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("the store did not answer in time".to_owned()),
    }
}

fn list(partitions: &[Partition]) -> String {
    partitions.iter().map(Partition::to_string).collect::<Vec<_>>().join(" ")
}
