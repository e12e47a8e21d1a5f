//! What a load came to.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use crate::Histogram;

/// Collects results while a load runs.
#[derive(Default)]
pub(super) struct Results {
    latency: Histogram,
    accepted: AtomicU64,
    refused: Mutex<BTreeMap<u16, u64>>,
    unanswered: AtomicU64,
}

impl Results {
    pub(super) fn answered(&self, status: u16, latency: Duration) {
        self.latency.record(latency);
        if (200..300).contains(&status) {
            self.accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
        }
    }

    pub(super) fn unanswered(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn report(&self, elapsed: Duration, events_per_request: u64) -> Report {
        let accepted = self.accepted.load(Ordering::Relaxed);
        let events = accepted * events_per_request;
        let us = |q| u64::try_from(self.latency.quantile(q).as_micros()).unwrap_or(u64::MAX);
        Report {
            requests_accepted: accepted,
            events_accepted: events,
            refused: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            elapsed_seconds: elapsed.as_secs_f64(),
            events_per_second: events as f64 / elapsed.as_secs_f64().max(1e-9),
            latency_p50_us: us(0.5),
            latency_p90_us: us(0.9),
            latency_p99_us: us(0.99),
            latency_p999_us: us(0.999),
            latency_max_us: us(1.0),
        }
    }
}

/// What a load came to. Latencies are those of answers of any status, in microseconds, exact to 3 %.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Requests answered 2xx.
    pub requests_accepted: u64,
    /// Events in them.
    pub events_accepted: u64,
    /// Requests answered otherwise, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub unanswered: u64,
    /// From the first request to the last answer.
    pub elapsed_seconds: f64,
    /// Accepted events a second.
    pub events_per_second: f64,
    /// Half of the answers came within.
    pub latency_p50_us: u64,
    /// 90 % came within.
    pub latency_p90_us: u64,
    /// 99 % came within.
    pub latency_p99_us: u64,
    /// 99.9 % came within.
    pub latency_p999_us: u64,
    /// All came within.
    pub latency_max_us: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        write!(
            f,
            "{} events in {:.2} s, {:.0}/s · answer p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
            self.events_accepted,
            self.elapsed_seconds,
            self.events_per_second,
            ms(self.latency_p50_us),
            ms(self.latency_p90_us),
            ms(self.latency_p99_us),
            ms(self.latency_p999_us),
            ms(self.latency_max_us),
        )?;
        for (status, requests) in &self.refused {
            write!(f, " · {requests} requests got {status}")?;
        }
        if self.unanswered > 0 {
            write!(f, " · {} requests got no answer", self.unanswered)?;
        }
        Ok(())
    }
}
