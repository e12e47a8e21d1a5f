//! The gate of a connection: how many calls are out, and whether new ones may begin.
//!
//! Anything but `ok` stops the clock: deliveries wait before the gate, no attempt is made, none is counted, nothing is
//! dead-lettered. What follows from each answer is in [`crate::standing`].

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossdock_core::{
    Act, Class, Clock, ConnectionState, Connections, Fault, StoreError, StoredConnection, chain, span,
};
use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore, broadcast};

use crate::{
    closures::Closures,
    limit::within,
    plan::ConnectionPlan,
    standing::{Admit, Pass, Pause, Standing},
    status::{ConnectionStatus, Moment},
};

/// The first and the longest wait before a state that could not be saved is saved again.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Permission for one call. Dropped without a report it says nothing of the connection; its slot is free from then on.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    pass: Option<Pass>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Passes a closed gate: for a person's test.
    pub(crate) fn of_a_test(gate: Arc<Gate>) -> Self {
        Self { gate, pass: Some(Pass::UNASKED), _slot: None }
    }

    /// Whether the call is to show if a connection that is not `ok` works again.
    pub(crate) fn is_probe(&self) -> bool {
        self.pass.is_some_and(|pass| pass.is_probe)
    }

    /// The call came back; `throttle` is the pause that a throttled one leads to.
    pub(crate) fn report(&mut self, result: &Result<(), Fault>, throttle: Option<Duration>) {
        if let Some(pass) = self.pass.take() {
            self.gate.report(pass, result, throttle.unwrap_or_default());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.gate.withdrawn(pass);
        }
    }
}

/// The gate of one connection.
pub(crate) struct Gate {
    pub(crate) plan: Arc<ConnectionPlan>,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    /// The state that the store has; none if that is not known. Held while it is written, so that writes keep their order.
    saved: AsyncMutex<Option<ConnectionState>>,
    /// Counts the beginnings and the ends of writes.
    writes: AtomicU64,
    changed: Notify,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Connections>,
    moments: broadcast::Sender<Moment>,
}

struct State {
    standing: Standing,
    closures: Closures,
    shown: ConnectionState,
    detail: Option<String>,
    since: Timestamp,
    /// A task is on its way to save what is to be kept.
    saving: bool,
    last_event_at: Option<Timestamp>,
}

impl Gate {
    pub(crate) fn new(
        plan: Arc<ConnectionPlan>,
        stored: Option<StoredConnection>,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Connections>,
        moments: broadcast::Sender<Moment>,
    ) -> Self {
        let now = clock.now();
        let shown = stored.as_ref().map_or(ConnectionState::Ok, |stored| stored.state);
        let since = stored.as_ref().map_or(now, |stored| stored.since);
        let mut closures = Closures::default();
        if shown != ConnectionState::Ok {
            closures.begin(since);
        }
        let state = State {
            standing: Standing::new(shown, plan.circuit, now),
            closures,
            shown,
            since,
            detail: stored.and_then(|stored| stored.detail),
            saving: false,
            last_event_at: None,
        };
        let slots = Arc::new(Semaphore::new(plan.concurrency));
        let (state, saved) = (Mutex::new(state), AsyncMutex::new(Some(shown)));
        let (writes, changed) = (AtomicU64::new(0), Notify::new());
        Self { plan, slots, state, saved, writes, changed, clock, store, moments }
    }

    /// A permit, if there is one at this moment.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        match self.admit() {
            Admit::Go(pass) => Some(self.permit(pass, slot)),
            Admit::WaitUntil(_) => None,
        }
    }

    /// Waits for a permit, in turn. Cancellation is safe.
    pub(crate) async fn enter(self: Arc<Self>) -> Permit {
        loop {
            let changed = self.changed.notified();
            let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            let until = match self.admit() {
                Admit::Go(pass) => return self.permit(pass, slot),
                Admit::WaitUntil(until) => until,
            };
            drop(slot);
            tokio::select! {
                () = changed => {}
                () = self.sleep_until(until) => {}
            }
        }
    }

    async fn sleep_until(&self, until: Option<Timestamp>) {
        match until {
            Some(until) => {
                let wait = span(self.clock.now(), until);
                tokio::time::sleep(wait + Duration::from_millis(1)).await;
            }
            None => std::future::pending().await,
        }
    }

    fn permit(self: &Arc<Self>, pass: Pass, slot: OwnedSemaphorePermit) -> Permit {
        Permit { gate: self.clone(), pass: Some(pass), _slot: Some(slot) }
    }

    fn admit(self: &Arc<Self>) -> Admit {
        let now = self.clock.now();
        let mut state = self.lock();
        self.show(&mut state, now, None);
        state.standing.admit(now)
    }

    fn report(self: &Arc<Self>, pass: Pass, result: &Result<(), Fault>, throttle: Duration) {
        let now = self.clock.now();
        let fault = result.as_ref().err();
        let is_told = fault.and_then(|fault| fault.wait).is_some_and(|wait| !wait.from(now).is_zero());
        let pause = if is_told { Pause::Told(throttle) } else { Pause::Guessed(throttle) };
        let mut state = self.lock();
        state.standing.report(pass, fault.map(|fault| fault.class), pause, now);
        // What an expression says of its failure may quote the payload.
        let detail = fault.filter(|fault| fault.class != Class::Bug).map(|fault| fault.message.clone());
        self.show(&mut state, now, detail);
        drop(state);
        self.changed.notify_waiters();
    }

    fn withdrawn(&self, pass: Pass) {
        self.lock().standing.withdrawn(pass);
        self.changed.notify_waiters();
    }

    /// Whether a refused credential that is about to be reported speaks of one event only: the connection has worked for
    /// others in between, and does not stop.
    pub(crate) fn works_for_others(&self) -> bool {
        self.lock().standing.works_for_others()
    }

    /// For how long of the time between two moments the connection was anything but `ok`. Knows of this life of the hub, and
    /// of a state that it began with.
    pub(crate) fn closed_between(&self, from: Timestamp, to: Timestamp) -> Duration {
        self.lock().closures.between(from, to)
    }

    /// An event came in through the connection.
    pub(crate) fn saw_event(&self) {
        self.lock().last_event_at = Some(self.clock.now());
    }

    /// Pauses or resumes by a person's act. Takes effect once the store has it.
    pub(crate) async fn set(self: &Arc<Self>, paused: bool, act: &Act) -> Result<(), StoreError> {
        let mut saved = self.saved.lock().await;
        let stored = StoredConnection {
            name: self.plan.name.clone(),
            state: if paused { ConnectionState::Paused } else { ConnectionState::Ok },
            detail: paused.then(|| format!("{}: {}", act.actor, act.reason)),
            since: self.clock.now(),
        };
        if let Err(error) = self.write(&stored, Some(act)).await {
            // It may have happened: the store is asked, by writing what holds as something that was found out.
            *saved = None;
            self.save_later(&mut self.lock());
            return Err(error);
        }
        *saved = Some(stored.state);
        let mut state = self.lock();
        if paused {
            state.standing.pause()
        } else {
            state.standing.resume()
        }
        self.changed_to(&mut state, stored, self.clock.now());
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Answers with what stands from then on.
    async fn write(
        &self,
        stored: &StoredConnection,
        act: Option<&Act>,
    ) -> Result<StoredConnection, StoreError> {
        self.writes.fetch_add(1, Ordering::AcqRel);
        let saved = within("saving the state of a connection", self.store.save(stored, act)).await;
        self.writes.fetch_add(1, Ordering::AcqRel);
        saved
    }

    /// Tells whether this worker has written in between: what was read of the store then may be older than that.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// Takes over what another worker has written. `writes` was asked before the store was read.
    pub(crate) fn follow(self: &Arc<Self>, stored: &StoredConnection, writes: u64) {
        // Locked: we are writing ourselves, or are about to.
        let Ok(mut saved) = self.saved.try_lock() else { return };
        if saved.is_none_or(|known| known == stored.state) || self.writes() != writes {
            return;
        }
        *saved = Some(stored.state);
        self.take_over(stored.clone());
    }

    /// What the store has holds here too.
    fn take_over(&self, stored: StoredConnection) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.standing.follow(stored.state, now);
        self.changed_to(&mut state, stored, now);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The connection at a glance.
    pub(crate) fn status(self: &Arc<Self>) -> ConnectionStatus {
        let now = self.clock.now();
        let mut state = self.lock();
        self.show(&mut state, now, None);
        ConnectionStatus {
            name: self.plan.name.clone(),
            connector: self.plan.connector.clone(),
            state: state.shown,
            detail: state.detail.clone(),
            since: state.since,
            until: state.standing.until(state.shown),
            in_flight: self.plan.concurrency.saturating_sub(self.slots.available_permits()),
            last_event_at: state.last_event_at,
        }
    }

    /// Derives the state that is shown; when it changed, tells and saves it.
    fn show(self: &Arc<Self>, state: &mut State, now: Timestamp, detail: Option<String>) {
        let (before, shown) = (state.shown, state.standing.shown(now));
        if shown == before {
            return;
        }
        let detail = if shown == ConnectionState::Ok { None } else { detail };
        self.changed_to(
            state,
            StoredConnection { state: shown, detail, since: now, ..self.stored(state) },
            now,
        );
        if shown == ConnectionState::NeedsAuth || before == ConnectionState::NeedsAuth {
            self.save_later(state);
        }
    }

    fn changed_to(&self, state: &mut State, new: StoredConnection, now: Timestamp) {
        // A throttle ends by itself, noticed only when somebody looks.
        let ended =
            (state.shown == ConnectionState::Throttled).then(|| state.standing.until(state.shown)).flatten();
        state.closures.end(ended.map_or(now, |ended| ended.min(now)));
        if new.state != ConnectionState::Ok {
            state.closures.begin(now);
        }
        self.announce(&new);
        (state.shown, state.detail, state.since) = (new.state, new.detail, new.since);
    }

    fn announce(&self, stored: &StoredConnection) {
        let StoredConnection { name, state, detail, .. } = stored;
        let detail_text = detail.as_deref().unwrap_or_default();
        match state {
            ConnectionState::NeedsAuth => tracing::error!(
                connection = %name, state = state.as_str(), error = detail_text,
                "the credential is refused; its events wait until it is mended"
            ),
            _ => {
                tracing::info!(connection = %name, state = state.as_str(), error = detail_text, "connection changed")
            }
        }
        if self.moments.receiver_count() > 0 {
            let moment =
                Moment::Connection { connection: name.clone(), state: *state, detail: detail.clone() };
            // Nobody listening any more is no error.
            let _ = self.moments.send(moment);
        }
    }

    /// Saves what is to be kept, soon. One task at a time does it, and it writes what holds then.
    fn save_later(self: &Arc<Self>, state: &mut State) {
        if !std::mem::replace(&mut state.saving, true) {
            tokio::spawn(self.clone().save());
        }
    }

    async fn save(self: Arc<Self>) {
        let mut wait = AGAIN;
        loop {
            let mut saved = self.saved.lock().await;
            let Some(stored) = self.to_be_saved(*saved) else { return };
            match self.write(&stored, None).await {
                Ok(stands) => {
                    *saved = Some(stands.state);
                    if stands.state != stored.state {
                        // A person has paused or resumed it, through another worker or without our hearing the answer.
                        self.take_over(stands);
                    }
                    continue;
                }
                Err(error) => {
                    let (name, error) = (&self.plan.name, chain(&error));
                    tracing::warn!(connection = %name, error, "failed to save the connection's state; trying again");
                    *saved = None;
                }
            }
            drop(saved);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    /// What is to be kept, if the store does not have it. If it has, the task that saves has nothing more to do.
    fn to_be_saved(&self, saved: Option<ConnectionState>) -> Option<StoredConnection> {
        let mut state = self.lock();
        let stored = self.stored(&state);
        let kept = match stored.state {
            lasting @ (ConnectionState::NeedsAuth | ConnectionState::Paused) => lasting,
            ConnectionState::Ok | ConnectionState::Throttled | ConnectionState::CircuitOpen => {
                ConnectionState::Ok
            }
        };
        if saved == Some(kept) {
            state.saving = false;
            return None;
        }
        let detail = stored.detail.filter(|_| kept == stored.state);
        Some(StoredConnection { state: kept, detail, ..stored })
    }

    fn stored(&self, state: &State) -> StoredConnection {
        let (name, detail) = (self.plan.name.clone(), state.detail.clone());
        StoredConnection { name, state: state.shown, detail, since: state.since }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
