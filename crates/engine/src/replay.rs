//! Replays: feeds the items of a job to the dispatchers, in order, at the job's rate.
//!
//! Items go straight to the dispatcher of their partition in the flow that failed, never through the topic, so no other
//! flow sees them. What is settled is known to the store alone; after a restart the pending items are fed again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crossdock_core::{
    Act, LetterState, NewReplay, Partition, Replay, ReplayItem, ReplayState, Selection, Settlement,
    StoreError,
};
use tokio::{
    sync::{Mutex as AsyncMutex, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    dispatcher::Command,
    hub::{ActError, ReplayChange, TestResult},
    plan::Plan,
    runner::Dispatchers,
    stores::Stores,
};

/// Items read at a time, and the most that are sent at once.
const PAGE: usize = 500;
const CHUNK: usize = 64;
/// How long a test may take: longer than any call.
const TEST_MAX: Duration = Duration::from_secs(120);

/// Runs the replays of a hub.
pub(crate) struct Replayer {
    stores: Stores,
    plan: Arc<Plan>,
    dispatchers: Arc<Dispatchers>,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    stop: CancellationToken,
}

/// A replay that is being fed.
struct Job {
    control: watch::Sender<Control>,
    /// The number of the next item; locked while items are handed over.
    sent: AsyncMutex<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Control {
    state: ReplayState,
    rate: Option<f64>,
}

impl Replayer {
    pub(crate) fn new(
        stores: Stores,
        plan: Arc<Plan>,
        dispatchers: Arc<Dispatchers>,
        stop: CancellationToken,
    ) -> Self {
        Self { stores, plan, dispatchers, jobs: Mutex::default(), stop }
    }

    /// Goes on with the replays that an earlier life of the hub left unfinished.
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        for replay in self.stores.replays.unfinished().await? {
            self.begin(&replay);
        }
        Ok(())
    }

    /// Makes a replay and begins to feed it.
    pub(crate) async fn create(self: &Arc<Self>, replay: NewReplay) -> Result<Replay, StoreError> {
        let replay = self.stores.replays.create(replay).await?;
        self.begin(&replay);
        Ok(replay)
    }

    fn begin(self: &Arc<Self>, replay: &Replay) {
        let control = Control { state: replay.state, rate: replay.rate };
        let job = Arc::new(Job { control: watch::Sender::new(control), sent: AsyncMutex::new(0) });
        self.lock().insert(replay.id.clone(), job.clone());
        let (replayer, id) = (self.clone(), replay.id.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = replayer.feed(&id, &job) => {
                    replayer.lock().remove(&id);
                }
                () = replayer.stop.cancelled() => {}
            }
        });
    }

    async fn feed(&self, id: &str, job: &Job) {
        let mut control = job.control.subscribe();
        let mut pace = Pace::new();
        loop {
            let now = *control.borrow_and_update();
            match now.state {
                ReplayState::Running => {}
                ReplayState::Paused => {
                    // The sender lives in `job`, which we hold.
                    let _ = control.changed().await;
                    pace = Pace::new();
                    continue;
                }
                ReplayState::Cancelled | ReplayState::Succeeded | ReplayState::Failed => return,
            }
            let from = *job.sent.lock().await;
            let items = self.items(id, from).await;
            if items.is_empty() {
                return;
            }
            self.hand_over(job, items, now, &mut control, &mut pace).await;
        }
    }

    /// The next pending items. A store that fails is asked again.
    async fn items(&self, id: &str, from: u64) -> Vec<ReplayItem> {
        loop {
            match self.stores.replays.items(id, from, PAGE).await {
                Ok(items) => return items,
                Err(error) => {
                    tracing::warn!(replay = id, error = %error, "failed to read the items of a replay; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Hands a page over at the job's rate, or until the job changes.
    async fn hand_over(
        &self,
        job: &Job,
        items: Vec<ReplayItem>,
        now: Control,
        control: &mut watch::Receiver<Control>,
        pace: &mut Pace,
    ) {
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let count = tokio::select! {
                count = pace.next(now.rate) => count,
                _ = control.changed() => return,
            };
            let mut sent = job.sent.lock().await;
            for item in items.by_ref().take(count) {
                let number = item.ticket.item;
                tokio::select! {
                    () = self.send(item) => *sent = number + 1,
                    _ = control.changed() => return,
                }
            }
        }
    }

    async fn send(&self, item: ReplayItem) {
        let letter = &item.letter;
        if !self
            .plan
            .flows
            .iter()
            .any(|flow| flow.name == letter.flow && flow.topics.contains(&letter.position.topic))
        {
            return self.give_back(item).await;
        }
        let partition = Partition { topic: letter.position.topic.clone(), number: letter.position.partition };
        let mut command = Command::Replay(vec![item.clone()], None);
        let mut gone = None;
        loop {
            let found = self.dispatchers.find(&letter.flow, &partition, gone).await;
            match found.handle.inbox.send(command).await {
                Ok(()) => return,
                // The partition moved on in between: its next dispatcher takes the item.
                Err(returned) => (command, gone) = (returned.0, Some(found.number)),
            }
        }
    }

    /// An item whose flow is no longer in the configuration stays a dead letter.
    async fn give_back(&self, item: ReplayItem) {
        let mut letter = item.letter;
        letter.state = LetterState::Open;
        letter.reason = format!("the flow `{}` is no longer in the configuration", letter.flow);
        let settlement =
            Settlement::DeadLetter { letter: Arc::new(letter), held: None, replay: Some(item.ticket) };
        while let Err(error) = self.stores.settlements.settle(vec![settlement.clone()]).await {
            tracing::warn!(error = %error, "failed to settle a replayed item; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Changes a replay, in the store and in what is being fed.
    pub(crate) async fn change(&self, id: &str, change: ReplayChange, act: &Act) -> Result<Replay, ActError> {
        let job = self.lock().get(id).cloned();
        let replay = match change {
            ReplayChange::Rate(rate) => self.stores.replays.set_rate(id, rate, act).await?,
            ReplayChange::State(state) => {
                let sent = self.halt(job.as_deref(), state).await;
                self.stores.replays.change(id, state, sent, act).await?
            }
        };
        if let Some(job) = job {
            job.control.send_replace(Control { state: replay.state, rate: replay.rate });
        }
        Ok(replay)
    }

    /// Stops the feeding before the store is told, so that nothing is sent after it was given back. Returns how far the
    /// feeding had come.
    async fn halt(&self, job: Option<&Job>, state: ReplayState) -> u64 {
        let Some(job) = job else { return 0 };
        if state == ReplayState::Cancelled {
            job.control.send_modify(|control| control.state = ReplayState::Paused);
        }
        *job.sent.lock().await
    }

    /// Sends one dead letter now and waits for the result of that try.
    pub(crate) async fn test(&self, dead_letter: &str, act: &Act) -> Result<TestResult, ActError> {
        let not_found = || ActError::NotFound { what: "dead letter", id: dead_letter.to_owned() };
        let letter = self.stores.dead_letters.get(dead_letter).await?.ok_or_else(not_found)?;
        if !self.plan.flows.iter().any(|flow| flow.name == letter.flow) {
            let text = format!("the flow `{}` is no longer in the configuration", letter.flow);
            return Err(StoreError::Conflict(text).into());
        }
        let selection = Selection { ids: vec![letter.id.clone()], ..Selection::default() };
        let replay =
            self.stores.replays.create(NewReplay { selection, rate: None, act: act.clone() }).await?;
        let items = self.stores.replays.items(&replay.id, 0, 1).await?;
        let partition = Partition { topic: letter.position.topic.clone(), number: letter.position.partition };
        let (result, waiting) = oneshot::channel();
        let sent = async {
            let found = self.dispatchers.find(&letter.flow, &partition, None).await;
            // A dispatcher that is gone drops `result`, which the wait below sees.
            let _ = found.handle.inbox.send(Command::Replay(items, Some(result))).await;
            waiting.await.ok()
        };
        let result = tokio::time::timeout(TEST_MAX, sent).await.ok().flatten();
        let (outcome, attempt) = result.ok_or_else(|| {
            StoreError::Conflict(format!(
                "the test gave no result; look at it with `replay show {}`",
                replay.id
            ))
        })?;
        Ok(TestResult { dead_letter: letter.id, outcome, attempt })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.jobs.lock().expect("no holder of this lock panics")
    }
}

/// Says how many items may be sent when. Unused time is not saved up beyond a tenth of a second.
struct Pace {
    last: Instant,
    tokens: f64,
}

impl Pace {
    fn new() -> Self {
        Self { last: Instant::now(), tokens: 1.0 }
    }

    async fn next(&mut self, rate: Option<f64>) -> usize {
        let Some(rate) = rate else { return CHUNK };
        loop {
            let now = Instant::now();
            let burst = (rate / 10.0).max(1.0);
            self.tokens = (self.tokens + rate * now.duration_since(self.last).as_secs_f64()).min(burst);
            self.last = now;
            if self.tokens >= 1.0 {
                let count = (self.tokens as usize).min(CHUNK);
                self.tokens -= count as f64;
                return count;
            }
            let wait = (1.0 - self.tokens) / rate;
            tokio::time::sleep(Duration::from_secs_f64(wait.clamp(0.001, 3600.0))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_over_a_second_and_never_bursts() {
        for rate in [0.5, 3.0, 200.0, 2000.0] {
            let (mut pace, began, mut sent) = (Pace::new(), Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(10) {
                let count = pace.next(Some(rate)).await;
                assert!(count as f64 <= (rate / 10.0).max(1.0));
                sent += count;
            }
            let expected = rate * 10.0;
            assert!((sent as f64 - expected).abs() <= expected * 0.1 + 2.0, "{rate}/s sent {sent} in 10 s");
        }
    }
}
