//! A limit of events a second.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::{Problem, problem::Kind};

/// A bucket that fills with one second's worth of events and may be overdrawn by one request: a batch of any size passes,
/// and what follows waits until it is paid for.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    /// Events that may come now, and when that was true.
    level: Mutex<(f64, Instant)>,
}

impl Rate {
    /// A full bucket. `per_second` is above 0.
    pub(crate) fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, level: Mutex::new((per_second.max(1.0), now)) }
    }

    /// Takes one event out, or says when to come again.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Problem> {
        let mut level = self.lock();
        let (before, at) = *level;
        let filled = before + now.saturating_duration_since(at).as_secs_f64() * self.per_second;
        let filled = filled.min(self.per_second.max(1.0));
        if filled < 1.0 {
            *level = (filled, now);
            return Err(self.refusal(1.0 - filled));
        }
        *level = (filled - 1.0, now);
        Ok(())
    }

    /// Takes the further events of a request out that was let in.
    pub(crate) fn charge(&self, events: usize) {
        self.lock().0 -= f64::from(u32::try_from(events).unwrap_or(u32::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, (f64, Instant)> {
        self.level.lock().expect("no holder of this lock panics")
    }

    fn refusal(&self, missing: f64) -> Problem {
        let wait = Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX);
        let detail = format!("more than {} events a second came in", self.per_second);
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).clamp(1, 3600);
        Problem { retry_after_seconds: Some(seconds), ..Problem::new(Kind::RATE, detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seconds_worth_passes_and_one_more_waits() {
        let start = Instant::now();
        let rate = Rate::new(10.0, start);
        assert!((0..10).all(|_| rate.take(start).is_ok()));
        assert_eq!(rate.take(start).unwrap_err().retry_after_seconds, Some(1));
        assert!(rate.take(start + Duration::from_millis(101)).is_ok());
        assert!(rate.take(start + Duration::from_millis(102)).is_err());
    }

    #[test]
    fn a_large_batch_passes_and_is_paid_for() {
        let start = Instant::now();
        let rate = Rate::new(10.0, start);
        assert!(rate.take(start).is_ok());
        rate.charge(99);
        assert_eq!(rate.take(start).unwrap_err().retry_after_seconds, Some(10));
        assert!(rate.take(start + Duration::from_secs(9)).is_err());
        assert!(rate.take(start + Duration::from_millis(9200)).is_ok());
    }
}
