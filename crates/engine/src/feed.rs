//! Feeds the items of replays to the dispatchers, in order, at the job's rate.
//!
//! Items go straight to the dispatcher of their partition in the flow that failed, never through the topic, so no other
//! flow sees them. What is settled is known to the store alone: whatever a dispatcher had in memory when it went is
//! pending there, and is handed to the one that takes its place.

use std::{sync::Arc, time::Duration};

use crossdock_core::{LetterState, ReplayItem, Settlement, StoreError, chain};
use tokio::sync::watch;

use crate::{
    dispatcher::Command,
    job::{Control, Going, Job, Place, place_of},
    pace::Pace,
    plan::Plan,
    runner::Dispatchers,
    stores::Stores,
};

/// Items that are read at a time.
const PAGE: usize = 500;
/// How often the store is asked whether a replay is over of which everything is handed over.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a store that fails is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Feeds replays.
pub(crate) struct Feeder {
    pub(crate) stores: Stores,
    pub(crate) plan: Arc<Plan>,
    pub(crate) dispatchers: Arc<Dispatchers>,
}

/// What became of a hand-over.
enum Handed {
    /// The dispatcher has it, or it is settled.
    Done,
    /// The job was told something in between.
    Told,
    /// The place has another dispatcher by now: what the one before had comes first.
    Moved,
}

impl Feeder {
    /// Feeds a job until the store says that the replay is over and nothing of it is to be settled any more.
    pub(crate) async fn feed(&self, job: &Job) {
        let mut control = job.watch();
        let mut made = self.dispatchers.watch();
        let mut pace = Pace::new();
        let mut from = 0;
        loop {
            made.borrow_and_update();
            let now = *control.borrow_and_update();
            if now.going == Going::Halted {
                // The sender lives in `job`, which we hold.
                let _ = control.changed().await;
                pace = Pace::new();
                continue;
            }
            if job.sent().await.forget_lost(&self.dispatchers) {
                from = 0;
            }
            let items = self.items(job, now.going, from).await;
            if !items.is_empty() {
                from = self.hand_over(job, items, now, &mut control, &mut pace).await;
            } else if self.is_over(job, now.going).await {
                return;
            } else {
                tokio::select! {
                    _ = control.changed() => {}
                    _ = made.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }

    /// The next items that are to be sent. A store that fails is asked again.
    async fn items(&self, job: &Job, going: Going, from: u64) -> Vec<ReplayItem> {
        loop {
            match self.stores.replays.items(&job.id, from, PAGE).await {
                Ok(mut items) => {
                    items.retain(|item| going.covers(item.ticket.item));
                    return items;
                }
                Err(error) => wait(&job.id, &error).await,
            }
        }
    }

    async fn is_over(&self, job: &Job, going: Going) -> bool {
        match self.stores.replays.get(&job.id).await {
            Ok(replay) => {
                replay.is_none_or(|replay| replay.state.is_final())
                    && self.items(job, going, 0).await.is_empty()
            }
            Err(error) => {
                wait(&job.id, &error).await;
                false
            }
        }
    }

    /// Hands a page over at the job's rate. Returns from which item to go on.
    async fn hand_over(
        &self,
        job: &Job,
        items: Vec<ReplayItem>,
        now: Control,
        control: &mut watch::Receiver<Control>,
        pace: &mut Pace,
    ) -> u64 {
        let mut allowed = 0;
        let mut next = 0;
        for item in items {
            let (number, place) = (item.ticket.item, place_of(&item));
            next = number;
            if !job.sent().await.has(&place, number) {
                if allowed == 0 {
                    allowed = tokio::select! {
                        biased;
                        _ = control.changed() => return next,
                        count = pace.next(now.rate) => count,
                    };
                }
                match self.hand(job, place, item, control).await {
                    Handed::Done => allowed -= 1,
                    Handed::Told | Handed::Moved => return next,
                }
            }
            next = number + 1;
        }
        next
    }

    async fn hand(
        &self,
        job: &Job,
        place: Place,
        item: ReplayItem,
        control: &mut watch::Receiver<Control>,
    ) -> Handed {
        let (flow, topic) = (&place.0, &place.1.topic);
        let is_read = self.plan.flows.iter().any(|plan| plan.name == *flow && plan.topics.contains(topic));
        let handing = async {
            if is_read {
                self.send(job, place, item).await
            } else {
                self.give_back(item).await;
                Handed::Done
            }
        };
        tokio::select! {
            // First of all, so that nothing is sent after the job was halted.
            biased;
            _ = control.changed() => Handed::Told,
            handed = handing => handed,
        }
    }

    async fn send(&self, job: &Job, place: Place, item: ReplayItem) -> Handed {
        let number = item.ticket.item;
        let mut sent = job.sent().await;
        let found = self.dispatchers.find(&place.0, &place.1, None).await;
        if sent.is_lost(&place, found.number) {
            return Handed::Moved;
        }
        match found.handle.inbox.send(Command::Replay(vec![item], None)).await {
            Ok(()) => {
                sent.note(place, found.number, number);
                Handed::Done
            }
            Err(_) => {
                drop(sent);
                self.dispatchers.find(&place.0, &place.1, Some(found.number)).await;
                Handed::Moved
            }
        }
    }

    /// An item whose flow is no longer in the configuration stays a dead letter.
    async fn give_back(&self, item: ReplayItem) {
        let (mut letter, replay) = (item.letter, item.ticket.replay.clone());
        letter.state = LetterState::Open;
        letter.reason = format!("the flow `{}` is no longer in the configuration", letter.flow);
        let settlement =
            Settlement::DeadLetter { letter: Arc::new(letter), held: None, replay: Some(item.ticket) };
        while let Err(error) = self.stores.settlements.settle(vec![settlement.clone()]).await {
            wait(&replay, &error).await;
        }
    }
}

async fn wait(replay: &str, error: &StoreError) {
    tracing::warn!(replay, error = chain(error), "the store fails a replay; trying again");
    tokio::time::sleep(AGAIN).await;
}
