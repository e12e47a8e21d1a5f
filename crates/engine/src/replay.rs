//! Replays: what people ask for, and the jobs that follow from it.
//!
//! A job is there from the moment at which this worker knows of a replay until the store says that the replay is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crossdock_core::{Act, NewReplay, Replay, ReplayState, StoreError};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use crate::{
    acts::{ActError, ReplayChange},
    feed::Feeder,
    job::{Control, Job},
    limit::within,
};

/// Runs the replays of a hub.
pub(crate) struct Replayer {
    pub(crate) feeder: Feeder,
    /// Whether this worker sends items at all.
    pub(crate) delivers: bool,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    /// One act at a time, so that store and jobs are told the same in the same order.
    pub(crate) acting: AsyncMutex<()>,
    stop: CancellationToken,
}

impl Replayer {
    pub(crate) fn new(feeder: Feeder, delivers: bool, stop: CancellationToken) -> Self {
        Self { feeder, delivers, jobs: Mutex::default(), acting: AsyncMutex::default(), stop }
    }

    /// Takes up the replays that are not over: those that an earlier life of the hub left, and where workers share the store
    /// those that others have made or changed.
    pub(crate) async fn follow(self: &Arc<Self>) -> Result<(), StoreError> {
        let _acting = self.acting.lock().await;
        let unfinished =
            within("reading unfinished replays", self.feeder.stores.replays.unfinished()).await?;
        for replay in &unfinished {
            match self.get(&replay.id) {
                Some(job) => job.follow(Control::of(replay)),
                None => self.begin(replay),
            }
        }
        let jobs: Vec<_> = self.lock().values().cloned().collect();
        let is_over = |job: &&Arc<Job>| !unfinished.iter().any(|replay| replay.id == job.id);
        jobs.iter().filter(is_over).for_each(|job| job.end());
        Ok(())
    }

    /// Makes a replay and begins to feed it. Must run to its end.
    pub(crate) async fn create(self: &Arc<Self>, replay: NewReplay) -> Result<Replay, ActError> {
        let _acting = self.acting.lock().await;
        let replay = within("making a replay", self.feeder.stores.replays.create(replay)).await?;
        self.begin(&replay);
        Ok(replay)
    }

    fn begin(self: &Arc<Self>, replay: &Replay) {
        if !self.delivers {
            return;
        }
        let job = Arc::new(Job::new(replay));
        self.lock().insert(replay.id.clone(), job.clone());
        let replayer = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = replayer.feeder.feed(&job) => {
                    replayer.lock().remove(&job.id);
                }
                () = replayer.stop.cancelled() => {}
            }
        });
    }

    /// Changes a replay, in the store and in what is being fed. Must run to its end.
    pub(crate) async fn change(&self, id: &str, change: ReplayChange, act: &Act) -> Result<Replay, ActError> {
        let _acting = self.acting.lock().await;
        let job = self.get(id);
        match change {
            ReplayChange::State(state) => self.change_state(job.as_deref(), id, state, act).await,
            ReplayChange::Rate(rate) => {
                let set = self.feeder.stores.replays.set_rate(id, rate, act);
                let replay = within("changing the rate of a replay", set).await?;
                if let Some(job) = job {
                    job.follow(Control::of(&replay));
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
        let changing = self.feeder.stores.replays.change(id, state, act);
        let changing = within("changing a replay", changing);
        // None: it is over, as the store will say, or there is none, or it is sent by other workers.
        let Some(job) = job else { return Ok(changing.await?) };
        let before = job.control();
        if state != ReplayState::Running {
            job.halt();
        }
        match changing.await {
            Ok(replay) => {
                job.follow(Control::of(&replay));
                if replay.state.is_final() {
                    job.end();
                }
                Ok(replay)
            }
            Err(error) => {
                job.follow(before);
                Err(error.into())
            }
        }
    }

    fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.jobs.lock().expect("no holder of this lock panics")
    }
}
