//! The events of one call, and their answers as they come.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Instant,
};

use crossdock_core::{Event, PublishError, Published, Topic};

use crate::record;

type Answer = Result<Published, PublishError>;

/// One call of `publish`.
pub(crate) struct Batch {
    pub(crate) topic: Topic,
    pub(crate) events: Vec<Event>,
    /// What its records weigh.
    pub(crate) bytes: usize,
    pub(crate) since: Instant,
    state: Mutex<State>,
}

struct State {
    answers: Vec<Option<Answer>>,
    missing: usize,
    waker: Option<Waker>,
    /// Whether the caller is gone or has its answers.
    collected: bool,
    /// Whether the line waits for the caller, since some events were given back.
    owed: bool,
}

impl Batch {
    pub(crate) fn new(topic: &Topic, events: Vec<Event>) -> Arc<Self> {
        let (missing, bytes) = (events.len(), events.iter().map(record::bytes).sum());
        let answers = std::iter::repeat_with(|| None).take(missing).collect();
        let state = State { answers, missing, waker: None, collected: false, owed: false };
        Arc::new(Self {
            topic: topic.clone(),
            events,
            bytes,
            since: Instant::now(),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for one event; the first answer counts. True if it was the last one that was missing.
    pub(crate) fn answer(&self, index: usize, answer: Answer) -> bool {
        let waker = {
            let mut state = self.state();
            let Some(place @ None) = state.answers.get_mut(index) else { return false };
            *place = Some(answer);
            state.missing -= 1;
            if state.missing > 0 {
                return false;
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Answers for every event that has no answer yet.
    pub(crate) fn answer_rest(&self, error: &PublishError) {
        for index in 0..self.events.len() {
            self.answer(index, Err(error.clone()));
        }
    }

    /// Marks that the line waits for the caller of this batch. False if the caller is gone.
    pub(crate) fn owe(&self) -> bool {
        let mut state = self.state();
        let owed_now = !state.collected && !state.owed;
        state.owed |= owed_now;
        owed_now
    }

    /// The caller is gone or has its answers. True if the line waited for that.
    pub(crate) fn collect(&self) -> bool {
        let mut state = self.state();
        state.collected = true;
        std::mem::take(&mut state.owed)
    }

    /// Waits until every event has its answer.
    pub(crate) async fn answers(&self) -> Vec<Answer> {
        poll_fn(|context| {
            let mut state = self.state();
            if state.missing > 0 {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            let answers = std::mem::take(&mut state.answers);
            Poll::Ready(
                answers.into_iter().map(|answer| answer.unwrap_or(Err(PublishError::Unknown))).collect(),
            )
        })
        .await
    }
}
