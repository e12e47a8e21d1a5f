//! Feeds the items of replays to the dispatchers: each place by itself, in order, together at the job's rate.
//!
//! Items go straight to the dispatcher of their partition in the flow that failed, never through the topic, so no other
//! flow sees them. A worker feeds the places that it owns. What is settled is known to the store alone: whatever a dispatcher
//! had in memory when it went is pending there, and is handed to the one that takes its place, here or in another worker.

use std::{sync::Arc, time::Duration};

use crossdock_core::{LetterState, ReplayId, ReplayItem, Settlement, StoreError, Tried, chain};
use futures::future::join_all;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    dispatcher::Command,
    dispatchers::Dispatchers,
    job::{Job, Place},
    limit::within,
    pace::AT_ONCE,
    plan::Plan,
    stores::Stores,
    work::Resend,
};

/// Items that are read at a time. Every place that is fed may have so many in memory.
const PAGE: usize = 100;
/// How often the store is asked whether a replay is over of which everything is handed over.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same where other workers may leave something to us.
const LOOK_AGAIN_SHARED: Duration = Duration::from_secs(1);
/// How long a store that fails is left alone.
const AGAIN: Duration = Duration::from_secs(1);
/// How long it is tried to keep what a test came to: nobody waits longer for it.
const KEEP_MAX: Duration = Duration::from_secs(120);
/// How long a worker that does not know a flow waits for one that does.
const OTHERS_MAX: Duration = Duration::from_secs(60);
/// What a worker asks the store for at a time where the rate is shared, and the waits between two questions.
const WANT: u64 = 16;
const ASK_AGAIN_MIN: Duration = Duration::from_millis(10);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// Feeds replays.
pub(crate) struct Feeder {
    pub(crate) stores: Stores,
    pub(crate) plan: Arc<Plan>,
    pub(crate) dispatchers: Arc<Dispatchers>,
}

impl Feeder {
    /// Feeds a job until the replay is over.
    pub(crate) async fn feed(&self, job: &Job) {
        tokio::select! {
            () = self.feed_places(job) => job.end(),
            () = job.over().cancelled() => {}
        }
    }

    async fn feed_places(&self, job: &Job) {
        let (mut control, mut made) = (job.watch(), self.dispatchers.watch());
        loop {
            made.borrow_and_update();
            if !control.borrow_and_update().halted {
                let feeding = async {
                    let places = self.places(job).await;
                    if places.is_empty() && self.is_over(job).await {
                        return true;
                    }
                    join_all(places.iter().map(|place| self.feed_place(job, place))).await;
                    false
                };
                tokio::select! {
                    // First of all, so that nothing more is read and handed over by what it was told before.
                    biased;
                    _ = control.changed() => continue,
                    _ = made.changed() => continue,
                    over = feeding => if over { return },
                }
            }
            let again = if self.stores.shared { LOOK_AGAIN_SHARED } else { LOOK_AGAIN };
            tokio::select! {
                _ = control.changed() => {}
                _ = made.changed() => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// The places at which something is to be sent. A store that fails is asked again.
    async fn places(&self, job: &Job) -> Vec<Place> {
        loop {
            match within("reading the places of a replay", self.stores.replays.places(&job.id)).await {
                Ok(places) => return places,
                Err(error) => wait(&job.id, &error).await,
            }
        }
    }

    async fn is_over(&self, job: &Job) -> bool {
        match within("reading a replay", self.stores.replays.get(&job.id)).await {
            Ok(replay) => replay.is_none_or(|replay| replay.state.is_final()),
            Err(error) => {
                wait(&job.id, &error).await;
                false
            }
        }
    }

    /// Hands over what is to be sent at one place, until nothing is left or its dispatcher goes. Cancellation is safe.
    async fn feed_place(&self, job: &Job, place: &Place) {
        if !self.is_read(place) {
            return self.give_back(job, place).await;
        }
        // None: the place is another worker's, or moves. When it comes to us, its dispatcher is made.
        let Some(found) = self.dispatchers.get(&place.0, &place.1) else { return };
        let mut from = job.next(place, found.number);
        let mut allowed = 0;
        loop {
            let items = self.items(job, place, from).await;
            if items.is_empty() {
                return;
            }
            for item in items {
                let number = item.ticket.item;
                if !job.is_going() {
                    return;
                }
                if allowed == 0 {
                    allowed = self.allowed(job).await;
                }
                let Ok(slot) = found.handle.inbox.reserve().await else { return };
                let send = || {
                    let test = job.is_test.then(|| self.kept(&job.id));
                    slot.send(Command::Replay(Box::new(Resend { item, over: job.over().clone(), test })));
                };
                if !job.hand(place, found.number, number, send) {
                    return;
                }
                allowed -= 1;
                from = number + 1;
            }
        }
    }

    /// Who is told what a test came to: the store, for the person who waits for it, through whichever worker.
    fn kept(&self, replay: &ReplayId) -> oneshot::Sender<Tried> {
        let (told, waiting) = oneshot::channel();
        let (replays, replay) = (self.stores.replays.clone(), replay.clone());
        tokio::spawn(async move {
            // Dropped: the dispatcher has gone before it had a result, and the item is handed to the next one.
            let Ok(tried) = waiting.await else { return };
            let until = Instant::now() + KEEP_MAX;
            while let Err(error) = within("keeping what a test came to", replays.tried(&replay, &tried)).await
                && Instant::now() < until
            {
                wait(&replay, &error).await;
            }
        });
        told
    }

    fn is_read(&self, (flow, partition): &Place) -> bool {
        self.plan.flows.iter().any(|plan| plan.name == *flow && plan.topics.contains(&partition.topic))
    }

    /// The next items of a place. A store that fails is asked again.
    async fn items(&self, job: &Job, (flow, partition): &Place, from: u64) -> Vec<ReplayItem> {
        loop {
            let items = self.stores.replays.items(&job.id, flow, partition, from, PAGE);
            match within("reading the items of a replay", items).await {
                Ok(items) => return items,
                Err(error) => wait(&job.id, &error).await,
            }
        }
    }

    /// Waits until something may be sent, and says how much: at least one.
    async fn allowed(&self, job: &Job) -> u64 {
        let Some(rate) = job.control().rate else { return AT_ONCE };
        if !self.stores.shared {
            return job.pace.lock().await.next(rate).await;
        }
        let again = Duration::from_secs_f64(0.5 / rate.clamp(0.001, 1000.0));
        loop {
            match within("asking for the rate of a replay", self.stores.replays.allow(&job.id, WANT)).await {
                Ok(0) => tokio::time::sleep(again.clamp(ASK_AGAIN_MIN, ASK_AGAIN_MAX)).await,
                Ok(allowed) => return allowed,
                Err(error) => wait(&job.id, &error).await,
            }
        }
    }

    /// Items whose flow is no longer in the configuration stay dead letters.
    async fn give_back(&self, job: &Job, place: &Place) {
        if self.stores.shared {
            // In the middle of a change of configuration another worker knows the flow.
            tokio::time::sleep(OTHERS_MAX).await;
        }
        loop {
            let items = self.items(job, place, 0).await;
            if items.is_empty() || !job.is_going() {
                return;
            }
            let batch: Vec<_> = items.into_iter().map(given_back).collect();
            let settle = self.stores.settlements.settle(None, batch);
            if let Err(error) = within("giving back items of a replay", settle).await {
                wait(&job.id, &error).await;
            }
        }
    }
}

fn given_back(item: ReplayItem) -> Settlement {
    let mut letter = item.letter;
    letter.state = LetterState::Open;
    letter.reason = format!("the flow `{}` is no longer in the configuration", letter.flow);
    Settlement::DeadLetter { letter: Arc::new(letter), held: None, replay: Some(item.ticket) }
}

async fn wait(replay: &str, error: &StoreError) {
    tracing::warn!(replay, error = chain(error), "the store fails a replay; trying again");
    tokio::time::sleep(AGAIN).await;
}
