//! When a connection stops trying, and how it begins again. Pure: time comes in as an argument.

use std::time::Duration;

use jiff::Timestamp;

/// When the circuit opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// Failures in a row that it takes. Default 10.
    pub failures: u32,
    /// How long the row must last, so that a short outage follows each event's own schedule. Default 10 s.
    pub over: Duration,
    /// How long the circuit stays open the first time; doubles each time it opens again. Default 1 s.
    pub pause: Duration,
    /// The longest pause. Default 60 s.
    pub pause_max: Duration,
}

impl Default for CircuitPolicy {
    fn default() -> Self {
        Self {
            failures: 10,
            over: Duration::from_secs(10),
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
        }
    }
}

/// Real events that may probe a connection whose circuit is half open, at a time.
const PROBES_MAX: u32 = 3;

/// The circuit breaker of a connection: `closed → open → half open → closed`.
///
/// While it is open no attempt is made, so none is counted and nothing is dead-lettered. Half open, at most three real
/// events probe at a time: one success closes it, one failure opens it again for twice as long.
#[derive(Debug, Clone)]
pub struct Circuit {
    policy: CircuitPolicy,
    failures: u32,
    row_began: Option<Timestamp>,
    open_until: Option<Timestamp>,
    opened: u32,
    probes: u32,
}

impl Circuit {
    /// A closed circuit.
    pub fn new(policy: CircuitPolicy) -> Self {
        Self { policy, failures: 0, row_began: None, open_until: None, opened: 0, probes: 0 }
    }

    /// Whether an attempt may begin now. Each `true` must be followed by one of the three reports below.
    pub fn admit(&mut self, now: Timestamp) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) if self.probes < PROBES_MAX => {
                self.probes += 1;
                true
            }
            Some(_) => false,
        }
    }

    /// The moment at which the next probe may begin, if the circuit is open.
    pub fn open_until(&self) -> Option<Timestamp> {
        self.open_until
    }

    /// An attempt reached the other side and was answered, whatever the answer.
    pub fn answered(&mut self) {
        *self = Self::new(self.policy);
    }

    /// An attempt failed in a way that speaks of the connection (transient).
    pub fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.probes = self.probes.saturating_sub(1);
        let began = *self.row_began.get_or_insert(now);
        if self.open_until.is_some_and(|until| now < until) {
            return;
        }
        let lasted = Duration::try_from(now.duration_since(began)).unwrap_or_default();
        let probing = self.open_until.is_some();
        if probing || (self.failures >= self.policy.failures && lasted >= self.policy.over) {
            let pause = self.policy.pause.saturating_mul(1 << self.opened.min(16)).min(self.policy.pause_max);
            self.opened += 1;
            self.open_until = Some(now + pause);
        }
    }

    /// An attempt ended in a way that says nothing of the connection (a mapping failed, it was cancelled).
    pub fn withdrawn(&mut self) {
        self.probes = self.probes.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a small number of seconds")
    }

    fn opened() -> Circuit {
        let mut circuit = Circuit::new(CircuitPolicy::default());
        (0..=10).for_each(|second| circuit.failed(at(second)));
        circuit
    }

    #[test]
    fn a_short_row_of_failures_leaves_it_closed() {
        let mut circuit = Circuit::new(CircuitPolicy::default());
        (0..500).for_each(|_| circuit.failed(at(1)));
        assert!(circuit.admit(at(1)));
    }

    #[test]
    fn a_long_row_opens_it_and_three_probe_after_the_pause() {
        let mut circuit = opened();
        assert!(!circuit.admit(at(10)));
        let admitted = (0..9).filter(|_| circuit.admit(at(11))).count();
        assert_eq!(admitted, 3);
    }

    #[test]
    fn a_failed_probe_doubles_the_pause_and_an_answer_closes_it() {
        let mut circuit = opened();
        assert!(circuit.admit(at(11)));
        circuit.failed(at(11));
        assert!(!circuit.admit(at(12)));
        assert!(circuit.admit(at(13)));
        circuit.answered();
        assert!((0..50).all(|_| circuit.admit(at(13))));
    }

    proptest! {
        #[test]
        fn never_more_than_three_probes_are_out(steps in prop::collection::vec((0u8..4, 0i64..5), 0..200)) {
            let mut circuit = opened();
            let (mut now, mut out) = (10, 0u32);
            for (step, seconds) in steps {
                now += seconds;
                match step {
                    0 => out += u32::from(circuit.admit(at(now))),
                    1 if out > 0 => { circuit.failed(at(now)); out -= 1; }
                    2 if out > 0 => { circuit.withdrawn(); out -= 1; }
                    _ => {}
                }
                prop_assert!(out <= PROBES_MAX);
            }
        }
    }
}
