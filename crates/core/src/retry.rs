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
        /// No wait is longer, before it is spread.
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
///
/// While the connection is anything but `ok` its clock stands still. Attempts that a connection which is not `ok` lets
/// through to see whether it works again (probes) do not count if they fail in a way that speaks of the connection, and the
/// time that it was closed makes no event older.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The waits.
    pub schedule: Schedule,
    /// Their spread.
    pub jitter: Jitter,
    /// Counted attempts, the first included. For a list the default is one more than its length; for a schedule that never
    /// waits it is 3; otherwise there is no limit but `max_age`.
    pub max_attempts: Option<u32>,
    /// No attempt is planned to begin later than this after the event was first tried, without the time that its
    /// connection was closed to it.
    pub max_age: Option<Duration>,
    /// The longest wait that the other side may ask for. A throttled connection waits 1 s at the least all the
    /// same. Default 1 h.
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

/// The wait for a throttled connection that does not say how long, or names a moment that is over. GitHub's secondary
/// limits want a minute, most systems answer sooner, and a wasted try costs nothing here.
const THROTTLE_DEFAULT: Duration = Duration::from_secs(5);
/// A throttled connection is never asked again sooner: where clocks differ by a second, or the answer says `0`, it would be
/// hammered without an end, since such attempts are not counted.
const THROTTLE_MIN: Duration = Duration::from_secs(1);

/// Attempts without a wait between them, where no limit is set.
const IMMEDIATE_ATTEMPTS: u32 = 3;

impl Schedule {
    fn never_waits(&self) -> bool {
        match self {
            Self::Immediate => true,
            Self::Fixed(wait) => wait.is_zero(),
            Self::Exponential { initial, max, .. } => initial.is_zero() || max.is_zero(),
            Self::List(waits) => waits.iter().all(Duration::is_zero),
        }
    }
}

impl RetryPolicy {
    /// Decides what follows an attempt that failed.
    ///
    /// `tried` is the number of counted attempts with this one; `age` the time since the first one began, without the time
    /// that the connection was closed; `chance` a random number from 0 to 1 (excluded).
    pub fn decide(&self, tried: u32, age: Duration, fault: &Fault, now: Timestamp, chance: f64) -> Decision {
        match fault.class {
            Class::AlreadyDone => Decision::Done,
            Class::Throttled => Decision::Throttle(self.throttle(fault, now)),
            Class::AuthExpired | Class::AuthBroken => Decision::Hold,
            Class::Rejected => Decision::DeadLetter("the other side rejects it"),
            Class::Ambiguous => Decision::DeadLetter("it may have happened, and repeating it is not safe"),
            Class::Bug => Decision::DeadLetter("it cannot be processed on our side"),
            Class::Transient => self.retry(tried, age, fault, now, chance),
        }
    }

    fn throttle(&self, fault: &Fault, now: Timestamp) -> Duration {
        let asked = fault.wait.map(|wait| wait.from(now)).filter(|wait| !wait.is_zero());
        asked.unwrap_or(THROTTLE_DEFAULT).min(self.retry_after_max).max(THROTTLE_MIN)
    }

    /// What the other side asks for lengthens the schedule's wait, but never beyond `max_age`: it asks for a delay, not for
    /// the end of the delivery.
    fn retry(&self, tried: u32, age: Duration, fault: &Fault, now: Timestamp, chance: f64) -> Decision {
        if self.attempts_max().is_some_and(|max| tried >= max) {
            return Decision::DeadLetter("every attempt failed");
        }
        let left = self.max_age.map_or(Duration::MAX, |max| max.saturating_sub(age));
        let asked = fault.wait.map_or(Duration::ZERO, |wait| wait.from(now));
        let wait = self.spread(self.wait_after(tried), chance).max(asked.min(self.retry_after_max).min(left));
        if self.max_age.is_some_and(|max| age.saturating_add(wait) > max) {
            return Decision::DeadLetter("it is older than `max_age` allows");
        }
        Decision::Retry(wait)
    }

    /// The most counted attempts that a delivery gets, the first included.
    pub fn attempts_max(&self) -> Option<u32> {
        self.max_attempts.or(match &self.schedule {
            Schedule::List(waits) => Some(u32::try_from(waits.len()).unwrap_or(u32::MAX).saturating_add(1)),
            schedule => schedule.never_waits().then_some(IMMEDIATE_ATTEMPTS),
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

    #[test]
    fn a_throttled_connection_is_never_asked_again_at_once() {
        let throttled = |wait| Fault { wait: Some(wait), ..Fault::new(Class::Throttled, "429") };
        let decide =
            |policy: &RetryPolicy, wait| policy.decide(1, Duration::ZERO, &throttled(wait), NOW, 0.5);
        let policy = list(&[10]);
        let past = NOW - Duration::from_secs(1);
        assert_eq!(decide(&policy, Wait::For(Duration::ZERO)), Decision::Throttle(THROTTLE_DEFAULT));
        assert_eq!(decide(&policy, Wait::Until(past)), Decision::Throttle(THROTTLE_DEFAULT));
        assert_eq!(decide(&policy, Wait::For(Duration::from_millis(1))), Decision::Throttle(THROTTLE_MIN));
        let none = RetryPolicy { retry_after_max: Duration::ZERO, ..policy };
        assert_eq!(decide(&none, Wait::For(Duration::from_secs(9))), Decision::Throttle(THROTTLE_MIN));
    }

    #[test]
    fn a_long_retry_after_delays_up_to_max_age_and_does_not_kill() {
        let policy = RetryPolicy { max_age: Some(Duration::from_secs(3600)), ..list(&[1000, 1000]) };
        let fault = Fault { wait: Some(Wait::For(Duration::from_secs(3600))), ..transient() };
        let decide = |age| policy.decide(1, Duration::from_secs(age), &fault, NOW, 0.5);
        assert_eq!(decide(0), Decision::Retry(Duration::from_secs(3600)));
        assert_eq!(decide(600), Decision::Retry(Duration::from_secs(3000)));
        assert_eq!(decide(3600), Decision::DeadLetter("it is older than `max_age` allows"));
    }

    #[test]
    fn a_schedule_that_never_waits_ends_after_three_attempts() {
        let zero = Duration::ZERO;
        for schedule in [
            Schedule::Immediate,
            Schedule::Fixed(zero),
            Schedule::Exponential { initial: zero, factor: 2.0, max: Duration::from_secs(1) },
        ] {
            let policy = RetryPolicy { schedule, ..RetryPolicy::default() };
            assert_eq!(policy.attempts_max(), Some(3), "{policy:?}");
        }
        let policy =
            RetryPolicy { schedule: Schedule::Fixed(Duration::from_millis(1)), ..RetryPolicy::default() };
        assert_eq!(policy.attempts_max(), None);
    }

    fn any_wait() -> impl Strategy<Value = Option<Wait>> {
        prop_oneof![
            Just(None),
            any::<u64>().prop_map(|seconds| Some(Wait::For(Duration::from_secs(seconds)))),
            (-100_000i64..100_000).prop_map(|seconds| {
                Some(Wait::Until(Timestamp::from_second(seconds).expect("a small number of seconds")))
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_throttle_always_waits(wait in any_wait(), most in 0u64..100_000, tried in 1u32..10) {
            let retry_after_max = Duration::from_secs(most);
            let policy = RetryPolicy { retry_after_max, ..list(&[10]) };
            let fault = Fault { wait, ..Fault::new(Class::Throttled, "429") };
            let Decision::Throttle(wait) = policy.decide(tried, Duration::MAX, &fault, NOW, 0.5) else {
                panic!("a throttled attempt is never given up");
            };
            prop_assert!(wait >= THROTTLE_MIN && wait <= retry_after_max.max(THROTTLE_MIN));
        }

        #[test]
        fn no_attempt_is_planned_after_max_age(
            wait in any_wait(), age in 0u64..10_000, max_age in 0u64..10_000, chance in 0.0..1.0f64,
        ) {
            let (age, max_age) = (Duration::from_secs(age), Duration::from_secs(max_age));
            let policy = RetryPolicy { max_age: Some(max_age), ..RetryPolicy::default() };
            let decision = policy.decide(3, age, &Fault { wait, ..transient() }, NOW, chance);
            match decision {
                Decision::Retry(wait) => prop_assert!(age + wait <= max_age),
                other => prop_assert_eq!(other, Decision::DeadLetter("it is older than `max_age` allows")),
            }
        }

        #[test]
        fn full_jitter_stays_between_nothing_and_the_wait(chance in 0.0..1.0f64, tried in 1u32..500) {
            let policy = RetryPolicy { jitter: Jitter::Full, max_age: None, ..RetryPolicy::default() };
            let Decision::Retry(wait) = policy.decide(tried, Duration::ZERO, &transient(), NOW, chance) else {
                panic!("no limit is set");
            };
            prop_assert!(wait <= policy.wait_after(tried));
        }

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
