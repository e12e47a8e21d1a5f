//! What the relay tells of itself.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use crossdock_core::{Clock, chain};
use jiff::Timestamp;

use crate::status::RelayRole;

/// So many panics in a row, half a minute of them, are no accident.
const PANICS_MAX: u32 = 10;

/// What the relay of this worker does, and what troubles it. Says each change once.
pub(crate) struct Watch {
    clock: Arc<dyn Clock>,
    relayed: AtomicU64,
    state: Mutex<State>,
}

struct State {
    role: RelayRole,
    broker: Option<Trouble>,
    store: Option<Trouble>,
    /// How often in a row it panicked.
    panics: u32,
}

struct Trouble {
    since: Timestamp,
    why: String,
}

impl Watch {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { role: RelayRole::StandingBy, broker: None, store: None, panics: 0 };
        Self { clock, relayed: AtomicU64::new(0), state: Mutex::new(state) }
    }

    pub(crate) fn role(&self) -> RelayRole {
        self.lock().role
    }

    pub(crate) fn relayed(&self) -> u64 {
        self.relayed.load(Ordering::Relaxed)
    }

    /// What is wrong at this moment, for people.
    pub(crate) fn problem(&self) -> Option<String> {
        let state = self.lock();
        if let Some(Trouble { since, why }) = &state.broker {
            return Some(format!(
                "the broker takes no events since {since:.0} ({why}): what comes in waits in the outbox, nothing is lost, and \
                 it goes on by itself"
            ));
        }
        state.store.as_ref().map(|Trouble { since, why }| {
            format!("the outbox cannot be read since {since:.0} ({why}): it is tried again by itself")
        })
    }

    /// Whether it does nothing but panic: only another process may do better.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().panics >= PANICS_MAX
    }

    /// It panicked.
    pub(super) fn panicked(&self) {
        let mut state = self.lock();
        state.panics = state.panics.saturating_add(1);
    }

    /// It moved something, or there was nothing to do.
    pub(super) fn gets_on(&self) {
        self.lock().panics = 0;
    }

    pub(super) fn takes(&self, role: RelayRole) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.role, role) != role {
            tracing::info!(role = role.as_str(), "the relay of the outbox");
        }
    }

    /// So many events are in the broker.
    pub(super) fn moved(&self, count: usize) {
        self.relayed.fetch_add(count as u64, Ordering::Relaxed);
        self.gets_on();
        if count > 0 && self.lock().broker.take().is_some() {
            tracing::info!("the broker takes events again");
        }
    }

    pub(super) fn broker_fails(&self, error: &dyn std::error::Error) {
        let (mut state, why) = (self.lock(), chain(error));
        match &mut state.broker {
            Some(trouble) => trouble.why = why,
            None => {
                tracing::warn!(error = why, "the broker takes no events; they wait in the outbox");
                state.broker = Some(Trouble { since: self.clock.now(), why });
            }
        }
    }

    pub(super) fn store_fails(&self, error: &dyn std::error::Error) {
        let (mut state, why) = (self.lock(), chain(error));
        match &mut state.store {
            Some(trouble) => trouble.why = why,
            None => {
                tracing::warn!(error = why, "the outbox cannot be read; trying again");
                state.store = Some(Trouble { since: self.clock.now(), why });
            }
        }
    }

    pub(super) fn store_answers(&self) {
        if self.lock().store.take().is_some() {
            tracing::info!("the outbox is read again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
