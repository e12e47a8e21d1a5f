//! A replay that is being fed: what it is told, and what it has handed over.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use crossdock_core::{FlowName, Partition, Replay, ReplayId, ReplayState};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;

use crate::pace::Pace;

/// Where an item goes: to the flow that failed, in the partition of its event.
pub(crate) type Place = (FlowName, Partition);

/// A replay that is being fed.
pub(crate) struct Job {
    pub(crate) id: ReplayId,
    /// Whether a person waits for what becomes of its only item.
    pub(crate) is_test: bool,
    control: watch::Sender<Control>,
    /// Set once the store says that the replay is over: what is in lanes of a cancelled one is not sent any more.
    over: CancellationToken,
    /// What was handed over. Locked while an item is, and while the job is halted, so that nothing is sent after that.
    sent: Mutex<HashMap<Place, HandedTo>>,
    pub(crate) pace: AsyncMutex<Pace>,
}

/// What the feeding is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Control {
    /// Whether nothing is handed over until it is told otherwise.
    pub(crate) halted: bool,
    /// Items a second; none is as fast as the lanes take them.
    pub(crate) rate: Option<f64>,
}

impl Control {
    /// What the store says of a replay.
    pub(crate) fn of(replay: &Replay) -> Self {
        Self { halted: replay.state == ReplayState::Paused, rate: replay.rate }
    }
}

/// What was handed over at a place.
#[derive(Clone, Copy)]
struct HandedTo {
    /// The dispatcher that has all items below `next` that are not settled.
    dispatcher: u64,
    next: u64,
}

impl Job {
    pub(crate) fn new(replay: &Replay) -> Self {
        let (control, over) = (watch::Sender::new(Control::of(replay)), CancellationToken::new());
        let (id, is_test, pace) = (replay.id.clone(), replay.test, AsyncMutex::new(Pace::new()));
        Self { id, is_test, control, over, sent: Mutex::default(), pace }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Control> {
        self.control.subscribe()
    }

    pub(crate) fn control(&self) -> Control {
        *self.control.borrow()
    }

    /// Takes over what the store says of the replay.
    pub(crate) fn follow(&self, control: Control) {
        self.control.send_if_modified(|known| std::mem::replace(known, control) != control);
    }

    /// Stops the feeding before the store is told to pause or to cancel the replay, so that nothing is sent after it has. Goes on
    /// by [`Job::follow`].
    pub(crate) fn halt(&self) {
        let _sent = self.sent();
        self.follow(Control { halted: true, ..self.control() });
    }

    /// The store says that the replay is over.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// Tells when the replay is over.
    pub(crate) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// The first item of a place that the dispatcher with this number does not have: all of them, if it is a new one, since
    /// what the one before had in memory may have gone down with it.
    pub(crate) fn next(&self, place: &Place, dispatcher: u64) -> u64 {
        let sent = self.sent();
        sent.get(place).filter(|handed| handed.dispatcher == dispatcher).map_or(0, |handed| handed.next)
    }

    /// Whether items are to be sent at this moment.
    pub(crate) fn is_going(&self) -> bool {
        !self.control().halted && !self.over.is_cancelled()
    }

    /// Hands an item to a dispatcher with `send`, unless it is not to be sent any more. Returns whether it was handed over.
    pub(crate) fn hand(&self, place: &Place, dispatcher: u64, item: u64, send: impl FnOnce()) -> bool {
        let mut sent = self.sent();
        if !self.is_going() {
            return false;
        }
        send();
        sent.insert(place.clone(), HandedTo { dispatcher, next: item + 1 });
        true
    }

    fn sent(&self) -> MutexGuard<'_, HashMap<Place, HandedTo>> {
        self.sent.lock().expect("no holder of this lock panics")
    }
}
