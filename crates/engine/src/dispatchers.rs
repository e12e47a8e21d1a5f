//! The dispatchers of this process, and how others find them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crossdock_core::{FlowName, Partition};
use tokio::sync::watch;

use crate::dispatcher::Handle;

/// The dispatchers of this process, for those who bring them work from elsewhere (replays).
#[derive(Default)]
pub(crate) struct Dispatchers {
    handles: Mutex<HashMap<(FlowName, Partition), Found>>,
    /// How many there have been; the number of the latest one.
    made: watch::Sender<u64>,
}

/// A dispatcher that was found.
#[derive(Clone)]
pub(crate) struct Found {
    /// Tells it from those that the partition had before.
    pub(crate) number: u64,
    pub(crate) handle: Handle,
}

impl Dispatchers {
    /// Changes whenever a dispatcher is made. What the one that it replaces had in memory is settled by then, or will not
    /// be settled by it.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.made.subscribe()
    }

    /// The dispatcher that a partition in a flow has now, if it has one.
    pub(crate) fn get(&self, flow: &FlowName, partition: &Partition) -> Option<Found> {
        self.lock().get(&(flow.clone(), partition.clone())).cloned()
    }

    /// A partition has a dispatcher, or another one, until what is returned is dropped.
    #[must_use]
    pub(crate) fn list(self: &Arc<Self>, flow: &FlowName, partition: &Partition, handle: Handle) -> Listed {
        let (mut number, place) = (0, (flow.clone(), partition.clone()));
        self.made.send_modify(|made| {
            *made += 1;
            number = *made;
            self.lock().insert(place.clone(), Found { number, handle });
        });
        Listed { dispatchers: self.clone(), place, number }
    }

    /// A partition has none any more.
    pub(crate) fn remove(&self, flow: &FlowName, partition: &Partition) {
        self.lock().remove(&(flow.clone(), partition.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(FlowName, Partition), Found>> {
        self.handles.lock().expect("no holder of this lock panics")
    }
}

/// Keeps a dispatcher in the list. Dropped, it takes out that one and no later one.
pub(crate) struct Listed {
    dispatchers: Arc<Dispatchers>,
    place: (FlowName, Partition),
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut handles = self.dispatchers.lock();
        if handles.get(&self.place).is_some_and(|found| found.number == self.number) {
            handles.remove(&self.place);
        }
    }
}
