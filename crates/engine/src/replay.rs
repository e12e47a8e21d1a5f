//! Replays: what people ask for, and the jobs that follow from it.
//!
//! A job is there from the moment at which the store has its replay until the store says that the replay is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crossdock_core::{Act, DeadLetter, NewReplay, Replay, ReplayState, Selection, StoreError, chain};
use tokio::{
    sync::{Mutex as AsyncMutex, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    acts::{ActError, ReplayChange, TestResult},
    dispatcher::Command,
    feed::Feeder,
    job::{Control, Going, Job, place_of},
    plan::Plan,
    runner::Dispatchers,
    stores::Stores,
    work::TestOutcome,
};

/// How long a person waits for a test. The call itself may take longer; what it came to is in the store then.
const TEST_MAX: Duration = Duration::from_secs(120);

/// Runs the replays of a hub.
pub(crate) struct Replayer {
    feeder: Feeder,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    /// One act at a time, so that store and jobs are told the same in the same order.
    acting: AsyncMutex<()>,
    stop: CancellationToken,
}

impl Replayer {
    pub(crate) fn new(
        stores: Stores,
        plan: Arc<Plan>,
        dispatchers: Arc<Dispatchers>,
        stop: CancellationToken,
    ) -> Self {
        let feeder = Feeder { stores, plan, dispatchers };
        Self { feeder, jobs: Mutex::default(), acting: AsyncMutex::default(), stop }
    }

    /// Goes on with the replays that an earlier life of the hub left unfinished.
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        for replay in self.feeder.stores.replays.unfinished().await? {
            self.begin(&replay, Going::of(replay.state, 0));
        }
        Ok(())
    }

    /// Makes a replay and begins to feed it. Must run to its end.
    pub(crate) async fn create(self: &Arc<Self>, replay: NewReplay) -> Result<Replay, ActError> {
        let _acting = self.acting.lock().await;
        let replay = self.feeder.stores.replays.create(replay).await?;
        self.begin(&replay, Going::On);
        Ok(replay)
    }

    fn begin(self: &Arc<Self>, replay: &Replay, going: Going) -> Arc<Job> {
        let job = Arc::new(Job::new(replay.id.clone(), Control { going, rate: replay.rate }));
        self.lock().insert(replay.id.clone(), job.clone());
        let (replayer, fed) = (self.clone(), job.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = replayer.feeder.feed(&fed) => {
                    replayer.lock().remove(&fed.id);
                }
                () = replayer.stop.cancelled() => {}
            }
        });
        job
    }

    /// Changes a replay, in the store and in what is being fed. Must run to its end.
    pub(crate) async fn change(&self, id: &str, change: ReplayChange, act: &Act) -> Result<Replay, ActError> {
        let _acting = self.acting.lock().await;
        let job = self.lock().get(id).cloned();
        match change {
            ReplayChange::State(state) => self.change_state(job.as_deref(), id, state, act).await,
            ReplayChange::Rate(rate) => {
                let replay = self.feeder.stores.replays.set_rate(id, rate, act).await?;
                if let Some(job) = job {
                    job.set_rate(replay.rate);
                }
                Ok(replay)
            }
        }
    }

    async fn change_state(
        &self,
        job: Option<&Job>,
        id: &str,
        state: ReplayState,
        act: &Act,
    ) -> Result<Replay, ActError> {
        let replays = &self.feeder.stores.replays;
        let Some(job) = job else {
            // It is over, as the store will say, or there is none. Nothing of it may be given back.
            return Ok(replays.change(id, state, u64::MAX, act).await?);
        };
        let before = job.going();
        let sent = job.halt(state).await;
        match replays.change(id, state, sent, act).await {
            Ok(replay) => {
                job.go(Going::of(replay.state, sent));
                Ok(replay)
            }
            Err(error) => {
                job.go(before);
                Err(error.into())
            }
        }
    }

    /// Sends one dead letter now and waits for the result of that try. Must run to its end.
    pub(crate) async fn test(self: &Arc<Self>, dead_letter: &str, act: &Act) -> Result<TestResult, ActError> {
        let until = Instant::now() + TEST_MAX;
        let letter = self.testable(dead_letter).await?;
        let job = self.create_test(&letter, act).await?;
        let (result, waiting) = oneshot::channel();
        if let Err(error) = self.hand_test(&job, result, until).await {
            self.give_up(&job, act).await;
            return Err(error);
        }
        let Ok(Ok((outcome, attempt))) = timeout_at(until, waiting).await else {
            let text = format!("the test has given no result yet; look at it with `replay show {}`", job.id);
            return Err(StoreError::Conflict(text).into());
        };
        Ok(TestResult { dead_letter: letter.id, outcome, attempt })
    }

    async fn testable(&self, dead_letter: &str) -> Result<DeadLetter, ActError> {
        let not_found = || ActError::NotFound { what: "dead letter", id: dead_letter.to_owned() };
        let letter = self.feeder.stores.dead_letters.get(dead_letter).await?.ok_or_else(not_found)?;
        if !self.feeder.plan.flows.iter().any(|flow| flow.name == letter.flow) {
            let text = format!("the flow `{}` is no longer in the configuration", letter.flow);
            return Err(StoreError::Conflict(text).into());
        }
        Ok(letter)
    }

    async fn create_test(self: &Arc<Self>, letter: &DeadLetter, act: &Act) -> Result<Arc<Job>, ActError> {
        let _acting = self.acting.lock().await;
        let selection = Selection { ids: vec![letter.id.clone()], ..Selection::default() };
        let new = NewReplay { selection, rate: None, act: act.clone() };
        let replay = self.feeder.stores.replays.create(new).await?;
        Ok(self.begin(&replay, Going::Halted))
    }

    /// Hands the only item of a test to its dispatcher. From then on the job looks after it.
    async fn hand_test(
        &self,
        job: &Job,
        result: oneshot::Sender<TestOutcome>,
        until: Instant,
    ) -> Result<(), ActError> {
        let items = self.feeder.stores.replays.items(&job.id, 0, 1).await?;
        let Some(item) = items.first() else { return Ok(()) };
        let (place, number) = (place_of(item), item.ticket.item);
        let mut control = job.watch();
        let handing = async {
            let mut sent = job.sent().await;
            let found = self.feeder.dispatchers.find(&place.0, &place.1, None).await;
            found.handle.inbox.send(Command::Replay(items, Some(result))).await.ok()?;
            sent.note(place, found.number, number);
            Some(())
        };
        let handed = tokio::select! {
            biased;
            // Somebody cancels it.
            _ = control.changed() => None,
            handed = timeout_at(until, handing) => handed.ok().flatten(),
        };
        if handed.is_none() {
            let text =
                "the flow takes nothing at the moment: the test was not made, the dead letter is open again";
            return Err(StoreError::Conflict(text.to_owned()).into());
        }
        job.go(Going::On);
        Ok(())
    }

    /// A test that could not be handed over is cancelled. If that fails too, it goes on as a replay of one.
    async fn give_up(&self, job: &Job, act: &Act) {
        let cancel = ReplayChange::State(ReplayState::Cancelled);
        if let Err(error) = self.change(&job.id, cancel, act).await {
            tracing::warn!(replay = job.id, error = chain(&error), "failed to cancel a test; it goes on");
            job.go(Going::On);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.jobs.lock().expect("no holder of this lock panics")
    }
}
