//! A replay that is being fed: what it is told, and what it has handed over.

use std::collections::HashMap;

use crossdock_core::{FlowName, Partition, ReplayId, ReplayItem, ReplayState};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::runner::Dispatchers;

/// Where an item goes.
pub(crate) type Place = (FlowName, Partition);

/// A replay that is being fed.
pub(crate) struct Job {
    pub(crate) id: ReplayId,
    control: watch::Sender<Control>,
    /// Locked while an item is handed over.
    sent: Mutex<Sent>,
}

/// What the feeding is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Control {
    pub(crate) going: Going,
    /// Items a second; none is as fast as the lanes take them.
    pub(crate) rate: Option<f64>,
}

/// How far the feeding goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Going {
    /// To the end.
    On,
    /// Nowhere, until it is told otherwise.
    Halted,
    /// It was cancelled. Items below this number were handed over and are still to be settled: those that a dispatcher lost
    /// are handed over again, and no other.
    Below(u64),
}

impl Going {
    /// What a replay in this state does, of which the items below `sent` were handed over.
    pub(crate) fn of(state: ReplayState, sent: u64) -> Self {
        match state {
            ReplayState::Paused => Self::Halted,
            ReplayState::Cancelled => Self::Below(sent),
            ReplayState::Running | ReplayState::Succeeded | ReplayState::Failed => Self::On,
        }
    }

    /// Whether an item is still to be sent.
    pub(crate) fn covers(self, item: u64) -> bool {
        match self {
            Self::On => true,
            Self::Halted => false,
            Self::Below(limit) => item < limit,
        }
    }
}

/// What was handed over.
#[derive(Default)]
pub(crate) struct Sent {
    /// For each place its dispatcher and the number after the last item that it was given: it has all of them below.
    places: HashMap<Place, (u64, u64)>,
    /// The number after the highest item that was ever handed over.
    below: u64,
}

impl Sent {
    /// Whether a dispatcher has the item already.
    pub(crate) fn has(&self, place: &Place, item: u64) -> bool {
        self.places.get(place).is_some_and(|(_, next)| item < *next)
    }

    /// Whether items of the place may have gone down with a dispatcher that was there before this one.
    pub(crate) fn is_lost(&self, place: &Place, dispatcher: u64) -> bool {
        self.places.get(place).is_some_and(|(before, _)| *before != dispatcher)
    }

    /// A dispatcher took an item.
    pub(crate) fn note(&mut self, place: Place, dispatcher: u64, item: u64) {
        self.places.insert(place, (dispatcher, item + 1));
        self.below = self.below.max(item + 1);
    }

    /// Forgets what went down with dispatchers in whose place there is another one. One that is gone without another may
    /// still be settling what it has. Returns whether there was any.
    pub(crate) fn forget_lost(&mut self, dispatchers: &Dispatchers) -> bool {
        let before = self.places.len();
        self.places.retain(|(flow, partition), (dispatcher, _)| {
            dispatchers.number(flow, partition).is_none_or(|now| now == *dispatcher)
        });
        self.places.len() < before
    }
}

impl Job {
    pub(crate) fn new(id: ReplayId, control: Control) -> Self {
        Self { id, control: watch::Sender::new(control), sent: Mutex::default() }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Control> {
        self.control.subscribe()
    }

    pub(crate) fn going(&self) -> Going {
        self.control.borrow().going
    }

    pub(crate) fn go(&self, going: Going) {
        self.control.send_modify(|control| control.going = going);
    }

    pub(crate) fn set_rate(&self, rate: Option<f64>) {
        self.control.send_modify(|control| control.rate = rate);
    }

    pub(crate) async fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().await
    }

    /// Stops the feeding before the store is told of the state, so that nothing is sent after it was given back. Returns
    /// below which number everything was handed over, which the store asks for where the replay is cancelled.
    pub(crate) async fn halt(&self, state: ReplayState) -> u64 {
        if state == ReplayState::Running {
            return 0;
        }
        self.go(Going::Halted);
        if state == ReplayState::Cancelled { self.sent().await.below } else { 0 }
    }
}

/// Where an item goes: to the flow that failed, in the partition of its event.
pub(crate) fn place_of(item: &ReplayItem) -> Place {
    let position = &item.letter.position;
    let partition = Partition { topic: position.topic.clone(), number: position.partition };
    (item.letter.flow.clone(), partition)
}
