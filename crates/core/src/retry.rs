//! Whether and when a failed delivery is tried again. Pure: time, age and chance come in as arguments.

use std::time::Duration;

use jiff::Timestamp;

use crate::{Class, Fault};

/// The waits between attempts.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// No wait.
    Immediate,
    /// The same wait each time.
    Fixed(Duration),
    /// `initial * factor^(n-1)`, at most `max`.
    Exponential {
        /// The wait after the first attempt.
        initial: Duration,
        /// By how much each wait is longer than the one before; at least 1.
        factor: f64,
        /// No wait is longer.
        max: Duration,
    },
    /// The n-th wait of the list; the last one repeats if more attempts are allowed.
    List(Vec<Duration>),
}

/// How waits are spread, so that failures of one moment do not come back in one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// Between `1 - x` and `1 + x` times the wait; `x` from 0 to 1.
    Ratio(f64),
    /// Anything between nothing and the wait.
    Full,
}

/// When a failed delivery is tried again, and when it is given up.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The waits.
    pub schedule: Schedule,
    /// Their spread.
    pub jitter: Jitter,
    /// Counted attempts, the first included. For a list the default is one more than its length, for
    /// [`Schedule::Immediate`] it is 3; otherwise there is no limit but `max_age`.
    pub max_attempts: Option<u32>,
    /// No attempt is planned to begin later than this after the event was first tried.
    pub max_age: Option<Duration>,
    /// The longest wait that the other side may ask for. Default 1 h.
    pub retry_after_max: Duration,
}

impl Default for RetryPolicy {
    /// Exponential from 1 s to 10 min, spread by a fifth, for 24 h: fast after a restart of the other side, and
    /// about 150 attempts through a day's outage.
    fn default() -> Self {
        Self {
            schedule: Schedule::Exponential {
                initial: Duration::from_secs(1),
                factor: 2.0,
                max: Duration::from_secs(600),
            },
            jitter: Jitter::Ratio(0.2),
            max_attempts: None,
            max_age: Some(Duration::from_secs(24 * 3600)),
            retry_after_max: Duration::from_secs(3600),
        }
    }
}

/// What happens to a delivery after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The other side has it.
    Done,
    /// Try again after this wait; the attempt counts.
    Retry(Duration),
    /// The connection asks for a pause of this length; the attempt does not count.
    Throttle(Duration),
    /// The connection's credential is refused; the attempt does not count and the events of the connection wait.
    Hold,
    /// Not tried again by itself. The text says why, for people.
    DeadLetter(&'static str),
}

/// The wait for a throttled connection that does not say how long: as long as GitHub's secondary limits ask at
/// the least is a minute, but most systems answer again sooner, and a wasted try costs nothing here.
const THROTTLE_DEFAULT: Duration = Duration::from_secs(5);

impl RetryPolicy {
    /// Decides what follows an attempt that failed.
    ///
    /// `tried` is the number of counted attempts with this one, `age` the time since the first one began, `chance`
    /// a random number from 0 to 1 (excluded).
    pub fn decide(&self, tried: u32, age: Duration, fault: &Fault, now: Timestamp, chance: f64) -> Decision {
        match fault.class {
            Class::AlreadyDone => Decision::Done,
            Class::Throttled => Decision::Throttle(
                fault.wait.map_or(THROTTLE_DEFAULT, |wait| wait.from(now)).min(self.retry_after_max),
            ),
            Class::AuthExpired | Class::AuthBroken => Decision::Hold,
            Class::Rejected => Decision::DeadLetter("the other side rejects it"),
            Class::Ambiguous => Decision::DeadLetter("it may have happened, and repeating it is not safe"),
            Class::Bug => Decision::DeadLetter("it cannot be processed on our side"),
            Class::Transient => self.retry(tried, age, fault, now, chance),
        }
    }

    fn retry(&self, tried: u32, age: Duration, fault: &Fault, now: Timestamp, chance: f64) -> Decision {
        if self.attempts_max().is_some_and(|max| tried >= max) {
            return Decision::DeadLetter("every attempt failed");
        }
        let mut wait = self.spread(self.wait_after(tried), chance);
        if let Some(asked) = fault.wait {
            wait = wait.max(asked.from(now).min(self.retry_after_max));
        }
        if self.max_age.is_some_and(|max| age.saturating_add(wait) > max) {
            return Decision::DeadLetter("it is older than `max_age` allows");
        }
        Decision::Retry(wait)
    }

    /// The most counted attempts that a delivery gets, the first included.
    pub fn attempts_max(&self) -> Option<u32> {
        self.max_attempts.or(match &self.schedule {
            Schedule::List(waits) => Some(u32::try_from(waits.len()).unwrap_or(u32::MAX).saturating_add(1)),
            Schedule::Immediate => Some(3),
            Schedule::Fixed(_) | Schedule::Exponential { .. } => None,
        })
    }

    /// The wait after the n-th attempt, before it is spread.
    pub fn wait_after(&self, tried: u32) -> Duration {
        let nth = tried.max(1) - 1;
        match &self.schedule {
            Schedule::Immediate => Duration::ZERO,
            Schedule::Fixed(wait) => *wait,
            Schedule::Exponential { initial, factor, max } => {
                let scale = factor.max(1.0).powi(i32::try_from(nth).unwrap_or(i32::MAX));
                let seconds = (initial.as_secs_f64() * scale).min(max.as_secs_f64());
                Duration::from_secs_f64(seconds)
            }
            Schedule::List(waits) => waits.get(nth as usize).or(waits.last()).copied().unwrap_or_default(),
        }
    }

    fn spread(&self, wait: Duration, chance: f64) -> Duration {
        match self.jitter {
            Jitter::Ratio(ratio) => wait.mul_f64(1.0 + ratio.clamp(0.0, 1.0) * (2.0 * chance - 1.0)),
            Jitter::Full => wait.mul_f64(chance),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Wait;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn list(waits: &[u64]) -> RetryPolicy {
        RetryPolicy {
            schedule: Schedule::List(waits.iter().copied().map(Duration::from_millis).collect()),
            jitter: Jitter::Ratio(0.0),
            max_age: None,
            ..RetryPolicy::default()
        }
    }

    fn transient() -> Fault {
        Fault::new(Class::Transient, "503")
    }

    #[test]
    fn a_list_gives_one_attempt_more_than_waits() {
        let policy = list(&[200, 1000]);
        let decide = |tried| policy.decide(tried, Duration::ZERO, &transient(), NOW, 0.5);
        assert_eq!(decide(1), Decision::Retry(Duration::from_millis(200)));
        assert_eq!(decide(2), Decision::Retry(Duration::from_millis(1000)));
        assert_eq!(decide(3), Decision::DeadLetter("every attempt failed"));
    }

    #[test]
    fn more_attempts_than_waits_repeat_the_last_wait() {
        let policy = RetryPolicy { max_attempts: Some(9), ..list(&[200, 1000]) };
        assert_eq!(
            policy.decide(7, Duration::ZERO, &transient(), NOW, 0.5),
            Decision::Retry(Duration::from_millis(1000))
        );
    }

    #[test]
    fn immediate_gives_three_attempts() {
        let policy = RetryPolicy { schedule: Schedule::Immediate, ..list(&[]) };
        assert_eq!(policy.decide(2, Duration::ZERO, &transient(), NOW, 0.5), Decision::Retry(Duration::ZERO));
        assert!(matches!(policy.decide(3, Duration::ZERO, &transient(), NOW, 0.5), Decision::DeadLetter(_)));
    }

    #[test]
    fn exponential_waits_double_up_to_their_limit() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = [1, 2, 3, 20].map(|n| policy.wait_after(n).as_secs()).to_vec();
        assert_eq!(waits, [1, 2, 4, 600]);
    }

    #[test]
    fn an_event_older_than_max_age_is_given_up() {
        let policy = RetryPolicy { max_age: Some(Duration::from_secs(10)), ..list(&[5000; 9]) };
        assert!(matches!(
            policy.decide(1, Duration::from_secs(5), &transient(), NOW, 0.5),
            Decision::Retry(_)
        ));
        assert!(matches!(
            policy.decide(1, Duration::from_secs(6), &transient(), NOW, 0.5),
            Decision::DeadLetter(_)
        ));
    }

    #[test]
    fn a_throttled_attempt_waits_as_told_and_no_longer_than_allowed() {
        let policy = list(&[10]);
        let throttled = |wait| Fault { wait: Some(wait), ..Fault::new(Class::Throttled, "429") };
        let decide = |fault: &Fault| policy.decide(99, Duration::MAX, fault, NOW, 0.5);
        assert_eq!(
            decide(&throttled(Wait::For(Duration::from_secs(3)))),
            Decision::Throttle(Duration::from_secs(3))
        );
        assert_eq!(
            decide(&throttled(Wait::For(Duration::from_secs(1_000_000)))),
            Decision::Throttle(Duration::from_secs(3600))
        );
    }

    #[test]
    fn a_retry_after_on_a_503_lengthens_the_wait_and_never_shortens_it() {
        let policy = list(&[1000]);
        let fault = |seconds| Fault { wait: Some(Wait::For(Duration::from_secs(seconds))), ..transient() };
        assert_eq!(
            policy.decide(1, Duration::ZERO, &fault(7), NOW, 0.5),
            Decision::Retry(Duration::from_secs(7))
        );
        assert_eq!(
            policy.decide(1, Duration::ZERO, &fault(0), NOW, 0.5),
            Decision::Retry(Duration::from_secs(1))
        );
    }

    proptest! {
        #[test]
        fn waits_stay_inside_their_spread(
            chance in 0.0..1.0f64, ratio in 0.0..1.0f64, tried in 1u32..500, initial in 1u64..100_000, factor in 1.0..10.0f64,
        ) {
            let max = Duration::from_secs(3600);
            let schedule = Schedule::Exponential { initial: Duration::from_millis(initial), factor, max };
            let policy = RetryPolicy { schedule, jitter: Jitter::Ratio(ratio), max_age: None, ..RetryPolicy::default() };
            let base = policy.wait_after(tried);
            prop_assert!(base <= max);
            let Decision::Retry(wait) = policy.decide(tried, Duration::ZERO, &transient(), NOW, chance) else {
                panic!("no limit is set");
            };
            let slack = Duration::from_micros(1);
            prop_assert!(wait + slack >= base.mul_f64(1.0 - ratio) && wait <= base.mul_f64(1.0 + ratio) + slack);
        }

        #[test]
        fn exponential_waits_never_get_shorter(tried in 1u32..500, factor in 1.0..10.0f64) {
            let schedule = Schedule::Exponential { initial: Duration::from_millis(50), factor, max: Duration::from_secs(60) };
            let policy = RetryPolicy { schedule, ..RetryPolicy::default() };
            prop_assert!(policy.wait_after(tried + 1) >= policy.wait_after(tried));
        }

        #[test]
        fn only_transient_faults_are_tried_again(tried in 1u32..10, chance in 0.0..1.0f64) {
            for class in [Class::Rejected, Class::Ambiguous, Class::Bug] {
                let decision = list(&[1; 50]).decide(tried, Duration::ZERO, &Fault::new(class, ""), NOW, chance);
                prop_assert!(matches!(decision, Decision::DeadLetter(_)));
            }
        }
    }
}
