//! The gate of a connection: how many calls are out, and whether new ones may begin.
//!
//! Anything but `ok` stops the clock: deliveries wait before the gate, no attempt is made, none is counted, nothing is
//! dead-lettered.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crossdock_core::{
    Act, Circuit, Class, Clock, ConnectionState, Connections, Fault, StoreError, StoredConnection,
};
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};

use crate::{
    plan::ConnectionPlan,
    status::{ConnectionStatus, Moment},
};

/// Refusals of the credential in a row after which the connection stops.
const AUTH_FAULTS_MAX: u32 = 5;
/// The pause after a refused credential that is not yet the last straw.
const AUTH_PAUSE: Duration = Duration::from_secs(1);
/// The first and the longest wait between probes of a connection that needs a person.
const PROBE_WAIT: Duration = Duration::from_secs(10);
const PROBE_WAIT_MAX: Duration = Duration::from_secs(300);

/// Permission for one call. Dropped when the call is over.
pub(crate) struct Permit {
    _slot: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Passes a closed gate: for a person's test.
    pub(crate) fn of_a_test() -> Self {
        Self { _slot: None }
    }
}

/// The gate of one connection.
pub(crate) struct Gate {
    pub(crate) plan: Arc<ConnectionPlan>,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    changed: Notify,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Connections>,
    moments: broadcast::Sender<Moment>,
}

struct State {
    shown: ConnectionState,
    detail: Option<String>,
    since: Timestamp,
    paused: bool,
    throttled_until: Option<Timestamp>,
    auth_faults: u32,
    /// Set while the connection needs a person: when real events probe it next, and after what wait.
    probe: Option<(Timestamp, Duration)>,
    circuit: Option<Circuit>,
    last_event_at: Option<Timestamp>,
}

enum Admit {
    Go,
    WaitUntil(Option<Timestamp>),
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
        let state = State {
            shown,
            since: stored.as_ref().map_or(now, |stored| stored.since),
            paused: shown == ConnectionState::Paused,
            probe: (shown == ConnectionState::NeedsAuth).then_some((now, PROBE_WAIT)),
            auth_faults: if shown == ConnectionState::NeedsAuth { AUTH_FAULTS_MAX } else { 0 },
            detail: stored.and_then(|stored| stored.detail),
            throttled_until: None,
            circuit: plan.circuit.map(Circuit::new),
            last_event_at: None,
        };
        let slots = Arc::new(Semaphore::new(plan.concurrency));
        Self { plan, slots, state: Mutex::new(state), changed: Notify::new(), clock, store, moments }
    }

    /// A permit, if there is one at this moment.
    pub(crate) fn try_enter(&self) -> Option<Permit> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        match self.admit() {
            Admit::Go => Some(Permit { _slot: Some(slot) }),
            Admit::WaitUntil(_) => None,
        }
    }

    /// Waits for a permit, in turn. Cancellation is safe.
    pub(crate) async fn enter(self: Arc<Self>) -> Permit {
        loop {
            let changed = self.changed.notified();
            let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            let Admit::WaitUntil(until) = self.admit() else { return Permit { _slot: Some(slot) } };
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
                let wait = Duration::try_from(until.duration_since(self.clock.now())).unwrap_or_default();
                tokio::time::sleep(wait + Duration::from_millis(1)).await;
            }
            None => std::future::pending().await,
        }
    }

    fn admit(&self) -> Admit {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.paused {
            return Admit::WaitUntil(None);
        }
        if let Some(until) = state.throttled_until {
            if now < until {
                return Admit::WaitUntil(Some(until));
            }
            state.throttled_until = None;
        }
        if let Some((at, wait)) = state.probe {
            if now < at {
                return Admit::WaitUntil(Some(at));
            }
            let wait = (wait * 2).min(PROBE_WAIT_MAX);
            state.probe = Some((now + wait, wait));
            return Admit::Go;
        }
        let Some(circuit) = &mut state.circuit else { return Admit::Go };
        if circuit.admit(now) {
            return Admit::Go;
        }
        // Half open with all probes out: their answers notify.
        Admit::WaitUntil(circuit.open_until().filter(|until| *until > now))
    }

    /// An attempt came back.
    pub(crate) fn report(self: &Arc<Self>, result: &Result<(), Fault>, throttle: Option<Duration>) {
        let now = self.clock.now();
        let mut state = self.lock();
        match result.as_ref().map_err(|fault| fault.class) {
            Err(Class::Transient) => {
                if let Some(circuit) = &mut state.circuit {
                    circuit.failed(now);
                }
            }
            Err(Class::Bug) => {
                if let Some(circuit) = &mut state.circuit {
                    circuit.withdrawn();
                }
            }
            Err(Class::AuthExpired | Class::AuthBroken) => self.auth_fault(&mut state, now),
            Err(Class::Throttled) => {
                let until = now + throttle.unwrap_or_default();
                state.throttled_until = state.throttled_until.max(Some(until));
                answered(&mut state);
            }
            Ok(()) | Err(Class::Rejected | Class::AlreadyDone | Class::Ambiguous) => {
                (state.auth_faults, state.probe) = (0, None);
                answered(&mut state);
            }
        }
        let detail = result.as_ref().err().map(|fault| fault.message.clone());
        self.show(&mut state, now, detail);
        drop(state);
        self.changed.notify_waiters();
    }

    fn auth_fault(&self, state: &mut State, now: Timestamp) {
        state.auth_faults += 1;
        answered(state);
        if state.auth_faults < AUTH_FAULTS_MAX {
            state.throttled_until = Some(now + AUTH_PAUSE);
        } else if state.probe.is_none() {
            state.probe = Some((now + PROBE_WAIT, PROBE_WAIT));
        }
    }

    /// Whether a refused credential that is about to be reported speaks of one event only: the connection has worked for
    /// others in between, and does not stop.
    pub(crate) fn works_for_others(&self) -> bool {
        let state = self.lock();
        state.probe.is_none() && state.auth_faults + 1 < AUTH_FAULTS_MAX
    }

    /// An event came in through the connection.
    pub(crate) fn saw_event(&self) {
        self.lock().last_event_at = Some(self.clock.now());
    }

    /// Pauses or resumes by a person's act.
    pub(crate) async fn set(self: &Arc<Self>, paused: bool, act: &Act) -> Result<(), StoreError> {
        let now = self.clock.now();
        let stored = {
            let mut state = self.lock();
            state.paused = paused;
            if !paused {
                (state.auth_faults, state.probe, state.throttled_until) = (0, None, None);
                answered(&mut state);
            }
            state.shown = if paused { ConnectionState::Paused } else { ConnectionState::Ok };
            state.detail = paused.then(|| format!("{}: {}", act.actor, act.reason));
            state.since = now;
            self.stored(&state)
        };
        self.changed.notify_waiters();
        self.announce(&stored);
        self.store.save(&stored, Some(act)).await
    }

    /// The connection at a glance.
    pub(crate) fn status(&self) -> ConnectionStatus {
        let now = self.clock.now();
        let mut state = self.lock();
        self.show(&mut state, now, None);
        let until = match state.shown {
            ConnectionState::Throttled => state.throttled_until,
            ConnectionState::NeedsAuth => state.probe.map(|(at, _)| at),
            ConnectionState::CircuitOpen => state.circuit.as_ref().and_then(Circuit::open_until),
            ConnectionState::Ok | ConnectionState::Paused => None,
        };
        ConnectionStatus {
            name: self.plan.name.clone(),
            connector: self.plan.connector.clone(),
            state: state.shown,
            detail: state.detail.clone(),
            since: state.since,
            until,
            in_flight: self.plan.concurrency.saturating_sub(self.slots.available_permits()),
            last_event_at: state.last_event_at,
        }
    }

    /// Derives the state that is shown; when it changed, tells and saves it.
    fn show(&self, state: &mut State, now: Timestamp, detail: Option<String>) {
        let shown = if state.paused {
            ConnectionState::Paused
        } else if state.probe.is_some() {
            ConnectionState::NeedsAuth
        } else if state.throttled_until.is_some_and(|until| now < until) {
            ConnectionState::Throttled
        } else if state.circuit.as_ref().is_some_and(|circuit| circuit.open_until().is_some()) {
            ConnectionState::CircuitOpen
        } else {
            ConnectionState::Ok
        };
        if shown == state.shown {
            return;
        }
        let before = std::mem::replace(&mut state.shown, shown);
        state.since = now;
        state.detail = if shown == ConnectionState::Ok { None } else { detail };
        let stored = self.stored(state);
        self.announce(&stored);
        if shown == ConnectionState::NeedsAuth || before == ConnectionState::NeedsAuth {
            self.save_later(stored);
        }
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

    fn save_later(&self, stored: StoredConnection) {
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.save(&stored, None).await {
                tracing::warn!(connection = %stored.name, error = %error, "failed to save the connection's state");
            }
        });
    }

    fn stored(&self, state: &State) -> StoredConnection {
        let (name, detail) = (self.plan.name.clone(), state.detail.clone());
        StoredConnection { name, state: state.shown, detail, since: state.since }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

fn answered(state: &mut State) {
    if let Some(circuit) = &mut state.circuit {
        circuit.answered();
    }
}
