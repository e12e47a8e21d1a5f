//! What the writer is asked for, and how much of it may wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::{append::Append, options::Options, task::Task};

/// What the writer is asked for.
pub(crate) enum Request {
    Append(Append),
    Task(Box<dyn Task>),
    /// Move the ids that are in memory to a run, so that the log may be trimmed.
    Merge(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// What waits to be written.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) events: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
}

impl Load {
    /// Takes room for an append, or none if there is not enough.
    pub(crate) fn take(&self, events: usize, bytes: usize, options: &Options) -> bool {
        // A single append may be larger than the queue; it is then alone in it.
        let fits = |now: usize, more: usize, max: usize| now == 0 || now + more <= max;
        let waiting = (self.events.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        if !fits(waiting.0, events, options.queue_events_max)
            || !fits(waiting.1, bytes, options.queue_bytes_max)
        {
            return false;
        }
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Gives the room back.
    pub(crate) fn release(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Request {
    /// Bytes of events in it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.bytes,
            _ => 0,
        }
    }
}
