//! Who owns which partition in which flow.
//!
//! In memory: an owner lives in this process, which is the only one that has the store, so none outlives it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use crossdock_core::{Epoch, FlowName, Owner, Partition, StoreError};

/// The owners. Asked and changed by the writer alone.
pub(crate) struct Owners(Mutex<State>);

struct State {
    last: Epoch,
    epochs: HashMap<(FlowName, Partition), Epoch>,
}

impl Owners {
    /// Nobody owns anything. Epochs begin with the moment of opening, so that one from before it is never a current one.
    pub(crate) fn new() -> Self {
        let opened = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = Epoch::try_from(opened.as_micros()).unwrap_or_default();
        Self(Mutex::new(State { last, epochs: HashMap::new() }))
    }

    /// The next owner of a partition in a flow; the one before is none any more.
    pub(crate) fn next(&self, flow: FlowName, partition: Partition) -> Owner {
        let mut state = self.lock();
        state.last += 1;
        let epoch = state.last;
        state.epochs.insert((flow.clone(), partition.clone()), epoch);
        Owner { flow, partition, epoch }
    }

    /// Refuses whoever is not the owner any more.
    pub(crate) fn check(&self, owner: &Owner) -> Result<(), StoreError> {
        let epoch = self.lock().epochs.get(&(owner.flow.clone(), owner.partition.clone())).copied();
        if epoch == Some(owner.epoch) {
            return Ok(());
        }
        Err(StoreError::Fenced(format!("the partition {} in the flow {}", owner.partition, owner.flow)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
