//! A limit of events a second.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::{Problem, problem::Kind};

/// How many seconds' worth of events one request may hold.
const REQUEST_SECONDS_MAX: f64 = 10.0;

/// A bucket that fills with one second's worth of events and may be overdrawn by one request: a batch passes whole, and
/// what follows waits until it is paid for. Nobody waits for longer than [`REQUEST_SECONDS_MAX`]: a request with more
/// events than that is refused, since it could not be sent at this rate.
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

    /// Whether an event may come now, or when to come again. Takes nothing out: what a request holds is not known before
    /// it was read.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Problem> {
        self.filled(now).map(drop)
    }

    /// Takes events out, all of them or none.
    pub(crate) fn charge(&self, events: usize, now: Instant) -> Result<(), Problem> {
        let events = count(events);
        let events_max = (self.per_second * REQUEST_SECONDS_MAX).max(1.0);
        if events > events_max {
            let detail = format!(
                "the request holds {events} events; at {} a second it may hold at most {}",
                self.per_second,
                events_max.floor()
            );
            return Err(Problem::new(Kind::TOO_LARGE, detail));
        }
        if events > 0.0 {
            self.filled(now)?.0 -= events;
        }
        Ok(())
    }

    /// Puts events back that were none.
    pub(crate) fn give_back(&self, events: usize) {
        self.lock().0 += count(events);
    }

    /// The bucket as it is now, if there is an event in it.
    fn filled(&self, now: Instant) -> Result<MutexGuard<'_, (f64, Instant)>, Problem> {
        let mut level = self.lock();
        let (before, at) = *level;
        let filled = before + now.saturating_duration_since(at).as_secs_f64() * self.per_second;
        *level = (filled.min(self.per_second.max(1.0)), at.max(now));
        let missing = 1.0 - level.0;
        if missing > 0.0 { Err(self.refusal(missing)) } else { Ok(level) }
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

fn count(events: usize) -> f64 {
    f64::from(u32::try_from(events).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(result: Result<(), Problem>) -> Option<u64> {
        result.unwrap_err().retry_after_seconds
    }

    #[test]
    fn one_seconds_worth_passes_and_one_more_waits() {
        let start = Instant::now();
        let rate = Rate::new(10.0, start);
        assert!((0..10).all(|_| rate.charge(1, start).is_ok()));
        assert_eq!(wait(rate.charge(1, start)), Some(1));
        assert_eq!(wait(rate.check(start)), Some(1));
        assert!(rate.charge(1, start + Duration::from_millis(101)).is_ok());
        assert!(rate.charge(1, start + Duration::from_millis(102)).is_err());
    }

    #[test]
    fn looking_takes_nothing_out() {
        let start = Instant::now();
        let rate = Rate::new(1.0, start);
        assert!((0..100).all(|_| rate.check(start).is_ok()));
        assert!(rate.charge(1, start).is_ok());
    }

    #[test]
    fn a_batch_passes_and_is_paid_for() {
        let start = Instant::now();
        let rate = Rate::new(10.0, start);
        assert!(rate.charge(100, start).is_ok());
        assert_eq!(wait(rate.check(start)), Some(10));
        assert!(rate.check(start + Duration::from_secs(9)).is_err());
        assert!(rate.check(start + Duration::from_millis(9200)).is_ok());
    }

    #[test]
    fn nobody_waits_for_longer_than_one_request_may_cost() {
        let start = Instant::now();
        let rate = Rate::new(10.0, start);
        let problem = rate.charge(101, start).unwrap_err();
        assert!(problem.kind == Kind::TOO_LARGE && problem.detail.contains("at most 100"), "{problem:?}");
        assert!(rate.charge(9, start).is_ok() && rate.charge(100, start).is_ok());
        for _ in 0..100 {
            assert_eq!(wait(rate.charge(100, start)), Some(10), "what waits is not counted");
        }
    }

    #[test]
    fn a_slow_rate_takes_one_event_at_a_time() {
        let start = Instant::now();
        let rate = Rate::new(0.01, start);
        assert_eq!(rate.charge(2, start).unwrap_err().kind, Kind::TOO_LARGE);
        assert!(rate.charge(1, start).is_ok());
        assert_eq!(wait(rate.charge(1, start)), Some(100));
    }

    #[test]
    fn what_was_no_event_costs_nothing() {
        let start = Instant::now();
        let rate = Rate::new(1.0, start);
        assert!(rate.charge(0, start).is_ok());
        for _ in 0..100 {
            assert!(rate.charge(1, start).is_ok());
            rate.give_back(1);
        }
        assert!(rate.charge(1, start).is_ok() && rate.charge(0, start).is_ok());
    }
}
