//! Where batches wait for the sender, in the order of their first polls, and where the order after a failure is kept.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crossdock_core::{PublishError, Published};

use super::Batch;

/// How long the line stays closed after a failure, at least: long enough for whoever publishes page by page to see it.
const CLOSED_MIN: Duration = Duration::from_millis(250);

/// What waits here, at most, in bytes of records; a batch that finds nothing before it is always taken.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The waiting batches.
#[derive(Default)]
pub(crate) struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Batch>>,
    waiting_bytes: usize,
    /// Callers that have not collected what was given back to them.
    owed: usize,
    /// Why and until when nothing is taken, after a failure.
    broken: Option<(PublishError, Instant)>,
    /// Until when what is on its way may take, once no batch is taken any more.
    closed: Option<Instant>,
}

/// What the sender finds in the line.
pub(crate) enum Next {
    Batch(Arc<Batch>),
    Nothing,
    /// No batch will come any more; what is on its way has until then.
    Closed(Instant),
}

/// Tells the line that a caller is gone or has its answers.
struct Collected<'l>(&'l Line, Arc<Batch>);

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        if self.1.collect() {
            self.0.state().owed -= 1;
        }
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a batch, at once when first polled, and waits for its answers. Dropped, it leaves open what became of them.
    pub(crate) async fn publish(&self, batch: Arc<Batch>) -> Vec<Result<Published, PublishError>> {
        let refused = self.queue(&batch);
        if let Some(error) = refused {
            batch.answer_rest(&error);
        }
        let _collected = Collected(self, batch.clone());
        batch.answers().await
    }

    fn queue(&self, batch: &Arc<Batch>) -> Option<PublishError> {
        let mut state = self.state();
        if state.closed.is_some() {
            return Some(PublishError::Unavailable("the broker is closed".to_owned()));
        }
        if let Some((error, until)) = &state.broken {
            if state.owed > 0 || Instant::now() < *until {
                return Some(error.clone());
            }
            state.broken = None;
        }
        if state.waiting_bytes > 0 && state.waiting_bytes + batch.bytes > WAITING_BYTES_MAX {
            // Nothing may overtake this batch either.
            state.owed += usize::from(batch.owe());
            state.broken = Some((PublishError::Busy, Instant::now() + CLOSED_MIN));
            return Some(PublishError::Busy);
        }
        state.waiting_bytes += batch.bytes;
        state.waiting.push_back(batch.clone());
        self.changed.notify_one();
        None
    }

    /// The next batch; waits for one up to the limit.
    pub(crate) fn next(&self, limit: Duration) -> Next {
        let until = Instant::now() + limit;
        let mut state = self.state();
        loop {
            if let Some(batch) = state.waiting.pop_front() {
                state.waiting_bytes -= batch.bytes;
                return Next::Batch(batch);
            }
            if let Some(until) = state.closed {
                return Next::Closed(until);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Closes the line for a failure that gives back all of `in_flight`, before any of them is answered, and gives back what
    /// waits here.
    pub(crate) fn break_off(&self, why: &str, in_flight: &[Arc<Batch>]) {
        let error = PublishError::Unavailable(why.to_owned());
        let waiting = {
            let mut state = self.state();
            let waiting = std::mem::take(&mut state.waiting);
            state.waiting_bytes = 0;
            state.owed += in_flight.iter().chain(&waiting).filter(|batch| batch.owe()).count();
            state.broken = Some((error.clone(), Instant::now() + CLOSED_MIN));
            waiting
        };
        waiting.iter().for_each(|batch| batch.answer_rest(&error));
    }

    /// Takes no batch any more; those that wait are still sent, and have until then.
    pub(crate) fn close(&self, until: Instant) {
        self.state().closed.get_or_insert(until);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use crossdock_core::Topic;
    use futures::FutureExt;

    use super::*;

    fn batch() -> Arc<Batch> {
        batch_of(0)
    }

    fn batch_of(bytes: usize) -> Arc<Batch> {
        let event = crossdock_core::Event {
            id: "1".to_owned(),
            source: "/s".to_owned(),
            kind: "t".to_owned(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            key: None,
            extensions: Vec::new(),
            data: bytes::Bytes::from(vec![0; bytes]),
        };
        Batch::new(&Topic::new("orders").expect("a name"), vec![event])
    }

    #[test]
    fn nothing_overtakes_what_was_given_back_and_not_seen_yet() {
        let line = Line::default();
        let (flying, mut first) = (batch(), Box::pin(line.publish(batch())));
        let mut flight = Box::pin(line.publish(flying.clone()));
        assert!((&mut first).now_or_never().is_none() && (&mut flight).now_or_never().is_none());
        assert!(matches!(line.next(Duration::ZERO), Next::Batch(_)));
        assert!(matches!(line.next(Duration::ZERO), Next::Batch(_)));
        line.break_off("broken", std::slice::from_ref(&flying));
        flying.answer_rest(&PublishError::Unknown);
        std::thread::sleep(CLOSED_MIN);
        let refused = line.publish(batch()).now_or_never().expect("it is refused at once");
        assert_eq!(refused, [Err(PublishError::Unavailable("broken".to_owned()))]);
        assert_eq!(flight.now_or_never().expect("it is answered"), [Err(PublishError::Unknown)]);
        drop(first);
        let mut later = Box::pin(line.publish(batch()));
        assert!((&mut later).now_or_never().is_none(), "it is taken now");
    }

    #[test]
    fn more_than_fits_is_refused_and_not_overtaken() {
        let line = Line::default();
        let mut taken = Box::pin(line.publish(batch_of(WAITING_BYTES_MAX)));
        assert!((&mut taken).now_or_never().is_none());
        let full = batch_of(1);
        assert_eq!(line.queue(&full), Some(PublishError::Busy));
        assert!(matches!(line.next(Duration::ZERO), Next::Batch(_)));
        std::thread::sleep(CLOSED_MIN);
        assert_eq!(
            line.queue(&batch()),
            Some(PublishError::Busy),
            "the caller of the full one does not know yet"
        );
        drop(Collected(&line, full));
        assert_eq!(line.queue(&batch()), None);
    }
}
