//! A load generator: events at a steady rate or as fast as they are taken, over a bounded time.

mod connection;
mod payload;
mod report;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{task::JoinSet, time::Instant};

pub use payload::{Payload, Slot};
pub use report::Report;
use report::Results;

/// The most connections.
const CONNECTIONS_MAX: usize = 1024;

/// A load was refused before it began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Loads stay on this machine.
    #[error("{0} is not a loopback address, and loads go nowhere else")]
    NotLoopback(SocketAddr),
    /// A load without work or with too many connections.
    #[error("a load needs 1 to 1,024 connections, at least one request and, if set, a rate above 0")]
    Empty,
}

/// How fast requests leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Closed loop: each connection sends again as soon as it is answered.
    Full,
    /// Open loop: so many requests a second over all connections, whatever the answers. Latency counts from the moment that
    /// a request was due, so a stall shows in every request that it delayed.
    Rate(f64),
}

/// A load.
#[derive(Clone)]
pub struct Load {
    /// Where to; loopback only.
    pub target: SocketAddr,
    /// Path and query.
    pub path: String,
    /// More headers, for example a key.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub payload: Payload,
    /// How many connections are kept open. Each owns its own keys, so the order of a key is the order of sending.
    pub connections: usize,
    /// How fast.
    pub pace: Pace,
    /// Ends after so many requests…
    pub requests: u64,
    /// …or after so long, whichever comes first.
    pub at_most: Duration,
}

impl Load {
    /// Sends and measures. Returns when the last answer is there.
    pub async fn run(self) -> Result<Report, LoadError> {
        self.check()?;
        let (load, results) = (Arc::new(self), Arc::new(Results::default()));
        let schedule = Arc::new(Schedule::new(&load));
        let mut connections = JoinSet::new();
        for number in 0..load.connections {
            let (load, results) = (Arc::clone(&load), Arc::clone(&results));
            connections.spawn(connection::run(number, load, Arc::clone(&schedule), results));
        }
        connections.join_all().await;
        Ok(results.report(schedule.start.elapsed(), load.payload.events))
    }

    fn check(&self) -> Result<(), LoadError> {
        if !self.target.ip().is_loopback() {
            return Err(LoadError::NotLoopback(self.target));
        }
        let paced = match self.pace {
            Pace::Full => true,
            Pace::Rate(rate) => rate > 0.0 && rate.is_finite(),
        };
        let sensible = (1..=CONNECTIONS_MAX).contains(&self.connections) && self.requests > 0 && paced;
        sensible.then_some(()).ok_or(LoadError::Empty)
    }
}

/// Hands out requests to connections until there are none left.
struct Schedule {
    start: Instant,
    end: Instant,
    next: AtomicU64,
    requests: u64,
    pace: Pace,
}

impl Schedule {
    fn new(load: &Load) -> Self {
        let start = Instant::now();
        let end = start + load.at_most;
        Self { start, end, next: AtomicU64::new(0), requests: load.requests, pace: load.pace }
    }

    /// The moment at which the next request is due; none when the load is over.
    async fn next(&self) -> Option<Instant> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = match self.pace {
            Pace::Full => Instant::now(),
            Pace::Rate(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
        };
        if number >= self.requests || due >= self.end {
            return None;
        }
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        Some(due)
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Load {
    fn body(&self, number: usize, nth: u64) -> Bytes {
        let slot = Slot { connection: number, connections: self.connections, nth, sent_ns: now_ns() };
        self.payload.make(slot)
    }
}
