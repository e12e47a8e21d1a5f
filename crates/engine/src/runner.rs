//! Runs a flow: subscribes, gives each assigned partition a dispatcher, and routes batches to them.
//!
//! A dispatcher that has no room gets its partition paused; the others go on.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crossdock_core::{
    Batch, Broker, BrokerError, FlowName, Partition, Signal, Subscription, chain, failpoint,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    dispatcher::{Command, Handle},
    dispatchers::Dispatchers,
    flow::Flow,
    joining::{Joined, subscribe},
    stores::Stores,
    takeover::{Ended, TakeOver, Voices},
};

/// The first and the longest wait before a flow subscribes again.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// How long calls that are out may take once their partition is taken away, and once the hub stops: that ends it earlier.
const LET_GO_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(3600);

/// Runs one flow until it is told to stop.
pub(crate) struct Runner {
    pub(crate) flow: Arc<Flow>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) stores: Stores,
    pub(crate) dispatchers: Arc<Dispatchers>,
    pub(crate) joined: Arc<Joined>,
    pub(crate) stop: CancellationToken,
}

/// A partition that is ours.
struct Owned {
    handle: Handle,
    /// A batch that the dispatcher had no room for. The partition is paused while there is one.
    stash: Option<Batch>,
    /// Ends with the runner, should that be aborted.
    task: AbortOnDropHandle<()>,
    /// Which of the partitions that were given to the runner, counted.
    number: u64,
    stop: CancellationToken,
}

impl Runner {
    /// Runs the flow with a subscription that was made already, if there is one, and makes a new one whenever it breaks.
    pub(crate) async fn run(self, mut subscription: Option<Box<dyn Subscription>>) {
        // A subscription that cannot be made is told of once, until one is.
        let (mut missing, mut told, mut wait) = (subscription.is_none(), subscription.is_none(), AGAIN);
        let flow = &self.flow.plan.name;
        while !self.stop.is_cancelled() {
            let began = Instant::now();
            let made = match subscription.take() {
                Some(subscription) => Ok(subscription),
                None => tokio::select! {
                    made = subscribe(self.broker.as_ref(), &self.flow.plan) => made,
                    () = self.stop.cancelled() => return,
                },
            };
            let result = match made {
                Ok(subscription) => {
                    if std::mem::take(&mut missing) {
                        self.joined.one();
                    }
                    if std::mem::take(&mut told) {
                        tracing::info!(%flow, "the flow has joined its topics");
                    }
                    self.flow.joined.store(true, Ordering::Relaxed);
                    let served = self.serve(subscription).await;
                    self.flow.joined.store(false, Ordering::Relaxed);
                    served
                }
                Err(error) => Err(error),
            };
            let Err(error) = result else { return };
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(%flow, error = chain(&error), "the subscription broke; joining again");
            }
            if began.elapsed() > AGAIN_MAX {
                wait = AGAIN;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(AGAIN_MAX),
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn serve(&self, mut subscription: Box<dyn Subscription>) -> Result<(), BrokerError> {
        let (room, mut has_room) = mpsc::unbounded_channel();
        let (ended, mut has_ended) = mpsc::unbounded_channel();
        let voices = Voices { room, ended };
        let (mut owned, mut given) = (HashMap::new(), 0);
        let mut leaving = JoinSet::new();
        let result = loop {
            tokio::select! {
                signal = subscription.next() => match signal {
                    Ok(Signal::Revoked(revocation)) => {
                        let tasks = self.release(&revocation.partitions, &mut owned);
                        let flow = self.flow.plan.name.clone();
                        leaving.spawn(async move {
                            finish(&flow, tasks, LET_GO_MAX).await;
                            revocation.done();
                        });
                    }
                    Ok(Signal::Assigned(partitions)) => {
                        for partition in partitions {
                            given += 1;
                            let ours = self.take_over(partition.clone(), given, voices.clone());
                            owned.insert(partition, ours);
                        }
                    }
                    Ok(Signal::Batch(batch)) => route(batch, subscription.as_mut(), &mut owned),
                    Err(error) => break Err(error),
                },
                Some(_) = leaving.join_next(), if !leaving.is_empty() => {}
                // A new subscription takes everything over anew, if the broker still gives it to us; nothing that was not
                // settled is lost. What ended of a partition that was let go since is over.
                Some(ended) = has_ended.recv() => {
                    if owned.get(&ended.partition).is_some_and(|ours: &Owned| ours.number == ended.number) {
                        break Err(ended_badly(&ended));
                    }
                }
                Some(partition) = has_room.recv() => self.unblock(&partition, subscription.as_mut(), &mut owned),
                () = self.stop.cancelled() => break Ok(()),
            }
        };
        let partitions: Vec<_> = owned.keys().cloned().collect();
        let limit = if self.stop.is_cancelled() { STOP_MAX } else { LET_GO_MAX };
        finish(&self.flow.plan.name, self.release(&partitions, &mut owned), limit).await;
        while leaving.join_next().await.is_some() {}
        result
    }

    /// Begins to work on a partition.
    fn take_over(&self, partition: Partition, number: u64, voices: Voices) -> Owned {
        let (handle, inbox) = Handle::new();
        let stop = self.stop.child_token();
        let take_over = TakeOver {
            flow: self.flow.clone(),
            partition,
            stores: self.stores.clone(),
            dispatchers: self.dispatchers.clone(),
            voices,
            number,
            stop: stop.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(take_over.run(handle.clone(), inbox)));
        Owned { handle, stash: None, task, number, stop }
    }

    /// Tells the dispatchers of partitions to come to an end; nothing is handed to them any more.
    fn release(
        &self,
        partitions: &[Partition],
        owned: &mut HashMap<Partition, Owned>,
    ) -> Vec<AbortOnDropHandle<()>> {
        let mut tasks = Vec::new();
        for partition in partitions {
            if let Some(ours) = owned.remove(partition) {
                self.dispatchers.remove(&self.flow.plan.name, partition);
                ours.stop.cancel();
                tasks.push(ours.task);
            }
        }
        tasks
    }

    fn unblock(
        &self,
        partition: &Partition,
        subscription: &mut dyn Subscription,
        owned: &mut HashMap<Partition, Owned>,
    ) {
        let Some(batch) = owned.get_mut(partition).and_then(|ours| ours.stash.take()) else { return };
        subscription.resume(partition);
        route(batch, subscription, owned);
    }
}

/// Waits until dispatchers have finished what is out, for a while. What has not finished by then is dropped: it comes again to
/// the next owner, and what it still writes is refused.
async fn finish(flow: &FlowName, tasks: Vec<AbortOnDropHandle<()>>, limit: Duration) {
    let until = Instant::now() + limit;
    for task in tasks {
        match timeout_at(until, task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%flow, error = chain(&error), "a dispatcher ended badly"),
            Err(_) => {
                tracing::warn!(%flow, "a partition is let go with calls that are still out; they come again")
            }
        }
    }
}

fn ended_badly(Ended { partition, why, .. }: &Ended) -> BrokerError {
    let source = format!("the dispatcher of {partition} {why}").into();
    BrokerError::Unavailable { doing: "handing out deliveries", source }
}

/// Hands a batch to its dispatcher; one that has no room gets its partition paused.
fn route(batch: Batch, subscription: &mut dyn Subscription, owned: &mut HashMap<Partition, Owned>) {
    failpoint("batch.route");
    let partition = batch.partition.clone();
    let Some(ours) = owned.get_mut(&partition) else { return };
    // Set before the try: the dispatcher that makes room in between says so.
    ours.handle.blocked.store(true, Ordering::Release);
    match ours.handle.inbox.try_send(Command::Batch(batch.deliveries)) {
        Ok(()) => ours.handle.blocked.store(false, Ordering::Release),
        Err(mpsc::error::TrySendError::Full(Command::Batch(deliveries))) => {
            subscription.pause(&partition);
            ours.stash = Some(Batch { partition, deliveries });
        }
        // The dispatcher has ended: the partition or the hub is being let go, or it panicked, which the runner is told.
        Err(_) => {}
    }
}
