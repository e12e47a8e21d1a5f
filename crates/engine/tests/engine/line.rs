//! A broker whose connection breaks by chance, as one that keeps its promises does: once an event is lost, nothing that is on
//! the line behind it arrives either.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Broker, BrokerError, Event, Group, GroupLag, PublishError, Published, Subscription, Topic,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::Notify, time::sleep};

/// The line, and what has arrived at its other end.
#[derive(Clone)]
pub struct Line(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    moved: Notify,
}

struct State {
    random: StdRng,
    /// How often in a hundred calls the line breaks.
    breaks: u32,
    away: bool,
    /// Counts how often it broke.
    generation: u64,
    next: u64,
    /// The calls that are under way, in the order in which they began.
    queue: VecDeque<u64>,
    arrived: Vec<(Topic, Event)>,
    calls_at_once: usize,
}

impl Line {
    pub fn new(seed: u64, breaks: u32) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            breaks,
            away: false,
            generation: 0,
            next: 0,
            queue: VecDeque::new(),
            arrived: Vec::new(),
            calls_at_once: 0,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), moved: Notify::new() }))
    }

    /// Every call fails from now on, or does no more.
    pub fn away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Everything that has arrived, in order.
    pub fn arrived(&self) -> Vec<(Topic, Event)> {
        self.lock().arrived.clone()
    }

    pub fn count(&self) -> usize {
        self.lock().arrived.len()
    }

    /// How often it broke.
    pub fn broken(&self) -> u64 {
        self.lock().generation
    }

    /// The most calls that were under way at a time.
    pub fn calls_at_once(&self) -> usize {
        self.lock().calls_at_once
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of this lock panics")
    }
}

impl State {
    fn begin(&mut self) -> (u64, u64, Duration) {
        self.next += 1;
        self.queue.push_back(self.next);
        self.calls_at_once = self.calls_at_once.max(self.queue.len());
        (self.next, self.generation, Duration::from_millis(self.random.random_range(1..20)))
    }

    /// Lets events arrive, up to where the line breaks.
    fn arrive(
        &mut self,
        generation: u64,
        topic: &Topic,
        events: Vec<Event>,
    ) -> Vec<Result<Published, PublishError>> {
        let lost = || PublishError::Unavailable("the line broke".to_owned());
        if self.away || self.generation != generation {
            return vec![Err(lost()); events.len()];
        }
        let breaks = self.random.random_range(0..100) < self.breaks;
        let up_to = if breaks { self.random.random_range(0..=events.len()) } else { events.len() };
        self.generation += u64::from(breaks);
        let mut results = Vec::new();
        for (n, event) in events.into_iter().enumerate() {
            if event.data.len() > 1000 {
                results.push(Err(PublishError::TooLarge { bytes: event.data.len(), bytes_max: 1000 }));
            } else if n < up_to {
                self.arrived.push((topic.clone(), event));
                // Of the last ones that arrive before it breaks, the answers are lost.
                let heard = !breaks || n + 3 < up_to;
                results.push(if heard { Ok(Published::New(None)) } else { Err(PublishError::Unknown) });
            } else {
                results.push(Err(lost()));
            }
        }
        results
    }
}

/// Leaves the queue also if the call is dropped.
struct Turn {
    line: Line,
    number: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.lock().queue.retain(|other| *other != self.number);
        self.line.0.moved.notify_waiters();
    }
}

#[async_trait]
impl Broker for Line {
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let (number, generation, wait) = self.lock().begin();
        let _turn = Turn { line: self.clone(), number };
        sleep(wait).await;
        loop {
            let moved = self.0.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.lock().queue.front() == Some(&number) {
                return self.lock().arrive(generation, topic, events);
            }
            moved.await;
        }
    }

    async fn subscribe(&self, _: &Group, _: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        Err(BrokerError::Closed)
    }

    async fn lag(&self, _: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        Ok(Vec::new())
    }
}
