//! A replay that is being fed: what it is told, and what it has handed over.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use crossdock_core::{FlowName, Partition, ReplayId, ReplayItem, ReplayState, Sent};
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::pace::Pace;

/// Where an item goes: to the flow that failed, in the partition of its event.
pub(crate) type Place = (FlowName, Partition);

/// A replay that is being fed.
pub(crate) struct Job {
    pub(crate) id: ReplayId,
    control: watch::Sender<Control>,
    /// What was handed over. Locked while an item is, and while the job is halted, so that nothing is sent after that.
    sent: Mutex<HashMap<Place, HandedTo>>,
    pub(crate) pace: AsyncMutex<Pace>,
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
    /// Nowhere either: it is a test, whose only item is handed over by hand.
    Test,
    /// It was cancelled. What was handed over is still to be settled: items that a dispatcher lost are handed over again, and
    /// no other.
    Cancelled,
}

impl Going {
    /// What a replay in this state does.
    pub(crate) fn of(state: ReplayState) -> Self {
        match state {
            ReplayState::Paused => Self::Halted,
            ReplayState::Cancelled => Self::Cancelled,
            ReplayState::Running | ReplayState::Succeeded | ReplayState::Failed => Self::On,
        }
    }
}

/// What was handed over at a place.
#[derive(Clone, Copy)]
struct HandedTo {
    /// The dispatcher that has all items below `next` that are not settled.
    dispatcher: u64,
    next: u64,
    /// The number after the highest item that any dispatcher there was ever given.
    below: u64,
}

impl Job {
    pub(crate) fn new(id: ReplayId, control: Control) -> Self {
        let pace = AsyncMutex::new(Pace::new());
        Self { id, control: watch::Sender::new(control), sent: Mutex::default(), pace }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Control> {
        self.control.subscribe()
    }

    pub(crate) fn control(&self) -> Control {
        *self.control.borrow()
    }

    pub(crate) fn go(&self, going: Going) {
        self.control.send_modify(|control| control.going = going);
    }

    pub(crate) fn set_rate(&self, rate: Option<f64>) {
        self.control.send_modify(|control| control.rate = rate);
    }

    /// Takes over what the store says of the replay.
    pub(crate) fn follow(&self, control: Control) {
        self.control.send_if_modified(|known| std::mem::replace(known, control) != control);
    }

    /// The first item of a place that the dispatcher with this number does not have: all of them, if it is a new one, since
    /// what the one before had in memory may have gone down with it.
    pub(crate) fn next(&self, place: &Place, dispatcher: u64) -> u64 {
        let sent = self.sent();
        sent.get(place).filter(|handed| handed.dispatcher == dispatcher).map_or(0, |handed| handed.next)
    }

    /// Whether an item is still to be sent.
    pub(crate) fn covers(&self, place: &Place, item: u64) -> bool {
        self.is_covered(&self.sent(), place, item)
    }

    fn is_covered(&self, sent: &HashMap<Place, HandedTo>, place: &Place, item: u64) -> bool {
        match self.control().going {
            Going::On => true,
            Going::Halted | Going::Test => false,
            Going::Cancelled => sent.get(place).is_some_and(|handed| item < handed.below),
        }
    }

    /// Hands an item to a dispatcher with `send`, unless it is not to be sent any more. Returns whether it was handed over.
    pub(crate) fn hand(&self, place: &Place, dispatcher: u64, item: u64, send: impl FnOnce()) -> bool {
        let mut sent = self.sent();
        let covered = self.is_covered(&sent, place, item);
        if covered {
            send();
            note(&mut sent, place, dispatcher, item);
        }
        covered
    }

    /// The same for the only item of a test, whose job is halted until then; not if the job was told anything that `told` has
    /// not seen.
    pub(crate) fn hand_test(
        &self,
        place: &Place,
        dispatcher: u64,
        item: u64,
        told: &watch::Receiver<Control>,
        send: impl FnOnce(),
    ) -> bool {
        let mut sent = self.sent();
        // The sender lives in `self`.
        let untold = !told.has_changed().unwrap_or(true);
        if untold {
            send();
            note(&mut sent, place, dispatcher, item);
        }
        untold
    }

    /// Stops the feeding before the store is told of the state, so that nothing is sent after it was given back. Returns
    /// what was handed over, which the store asks for where the replay is cancelled.
    pub(crate) fn halt(&self, state: ReplayState) -> Vec<Sent> {
        if state == ReplayState::Running {
            return Vec::new();
        }
        let sent = self.sent();
        self.go(Going::Halted);
        if state != ReplayState::Cancelled {
            return Vec::new();
        }
        let handed = sent.iter().map(|((flow, partition), handed)| Sent {
            flow: flow.clone(),
            partition: partition.clone(),
            below: handed.below,
        });
        handed.collect()
    }

    fn sent(&self) -> MutexGuard<'_, HashMap<Place, HandedTo>> {
        self.sent.lock().expect("no holder of this lock panics")
    }
}

/// A dispatcher took an item.
fn note(sent: &mut HashMap<Place, HandedTo>, place: &Place, dispatcher: u64, item: u64) {
    let next = item + 1;
    let below = sent.get(place).map_or(0, |before| before.below).max(next);
    sent.insert(place.clone(), HandedTo { dispatcher, next, below });
}

/// The place of an item.
pub(crate) fn place_of(item: &ReplayItem) -> Place {
    let position = &item.letter.position;
    let partition = Partition { topic: position.topic.clone(), number: position.partition };
    (item.letter.flow.clone(), partition)
}
