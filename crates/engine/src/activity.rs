//! Whether a dispatcher gets on, for those who watch it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a dispatcher does, as far as others look at it. Read by people and probes only, so the order to other memory does not
/// matter.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    steps: AtomicU64,
    out: AtomicU64,
    in_hand: AtomicU64,
}

impl Activity {
    /// Something was written or left out.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// A call goes out.
    pub(crate) fn call_begins(&self) {
        self.step();
        self.out.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has come back.
    pub(crate) fn call_ends(&self) {
        self.step();
        self.out.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many deliveries are in memory.
    pub(crate) fn has(&self, in_hand: usize) {
        self.in_hand.store(in_hand as u64, Ordering::Relaxed);
    }

    /// How often anything has happened.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether calls are out: each comes back in its time, and until then nothing else need happen.
    pub(crate) fn is_calling(&self) -> bool {
        self.out.load(Ordering::Relaxed) > 0
    }

    /// Whether there are deliveries in memory.
    pub(crate) fn has_work(&self) -> bool {
        self.in_hand.load(Ordering::Relaxed) > 0
    }
}
