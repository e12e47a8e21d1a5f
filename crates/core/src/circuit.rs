//! When a connection stops trying, and how it begins again. Pure: time comes in as an argument.

use std::time::Duration;

use jiff::Timestamp;

use crate::span;

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

/// How an attempt was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The circuit was closed.
    Normal,
    /// The circuit was half open.
    Probe {
        /// Which time it had opened, so that a late answer is not taken for one about a later time.
        opening: u64,
    },
}

/// The circuit breaker of a connection: `closed → open → half open → closed`.
///
/// While it is open no attempt is made, so none is counted and nothing is dead-lettered. Half open, at most three real
/// events probe at a time: one answer closes it, whoever brings it; one failure of a probe opens it again for twice as
/// long. A failure of an attempt that began before it opened says nothing new.
#[derive(Debug, Clone)]
pub struct Circuit {
    policy: CircuitPolicy,
    failures: u32,
    row_began: Option<Timestamp>,
    open_until: Option<Timestamp>,
    /// Pauses in a row without an answer.
    pauses: u32,
    /// How often it has opened in all.
    openings: u64,
    /// Probes that are out, of whichever opening.
    probes: u32,
}

impl Circuit {
    /// A closed circuit.
    pub fn new(policy: CircuitPolicy) -> Self {
        Self { policy, failures: 0, row_began: None, open_until: None, pauses: 0, openings: 0, probes: 0 }
    }

    /// Lets an attempt begin now, or not. What it gives is handed back with one of the three reports below.
    pub fn admit(&mut self, now: Timestamp) -> Option<Admitted> {
        match self.open_until {
            None => Some(Admitted::Normal),
            Some(until) if now >= until && self.probes < PROBES_MAX => {
                self.probes += 1;
                Some(Admitted::Probe { opening: self.openings })
            }
            Some(_) => None,
        }
    }

    /// The moment at which the next probe may begin, if the circuit is open.
    pub fn open_until(&self) -> Option<Timestamp> {
        self.open_until
    }

    /// An attempt reached the other side and was answered, whatever the answer.
    pub fn answered(&mut self, admitted: Admitted) {
        self.came_back(admitted);
        (self.failures, self.row_began) = (0, None);
        (self.open_until, self.pauses) = (None, 0);
    }

    /// An attempt failed in a way that speaks of the connection (transient).
    pub fn failed(&mut self, admitted: Admitted, now: Timestamp) {
        self.came_back(admitted);
        if self.open_until.is_some() {
            if admitted == (Admitted::Probe { opening: self.openings }) {
                self.open(now);
            }
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let lasted = span(*self.row_began.get_or_insert(now), now);
        if self.failures >= self.policy.failures && lasted >= self.policy.over {
            self.open(now);
        }
    }

    /// An attempt ended in a way that says nothing of the connection (a mapping failed, it was given up).
    pub fn withdrawn(&mut self, admitted: Admitted) {
        self.came_back(admitted);
    }

    fn came_back(&mut self, admitted: Admitted) {
        if matches!(admitted, Admitted::Probe { .. }) {
            self.probes = self.probes.saturating_sub(1);
        }
    }

    fn open(&mut self, now: Timestamp) {
        let pause = self.policy.pause.saturating_mul(1 << self.pauses.min(16)).min(self.policy.pause_max);
        self.pauses = self.pauses.saturating_add(1);
        self.openings += 1;
        self.open_until = Some(now.checked_add(pause).unwrap_or(Timestamp::MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a small number of seconds")
    }

    /// Opened at second 10, until second 11.
    fn opened() -> Circuit {
        let mut circuit = Circuit::new(CircuitPolicy::default());
        (0..=10).for_each(|second| circuit.failed(Admitted::Normal, at(second)));
        circuit
    }

    #[test]
    fn a_short_row_of_failures_leaves_it_closed() {
        let mut circuit = Circuit::new(CircuitPolicy::default());
        (0..500).for_each(|_| circuit.failed(Admitted::Normal, at(1)));
        assert_eq!(circuit.admit(at(1)), Some(Admitted::Normal));
    }

    #[test]
    fn a_long_row_opens_it_and_three_probe_after_the_pause() {
        let mut circuit = opened();
        assert_eq!(circuit.admit(at(10)), None);
        let admitted = (0..9).filter_map(|_| circuit.admit(at(11))).collect::<Vec<_>>();
        assert_eq!(admitted, [Admitted::Probe { opening: 1 }; 3]);
    }

    #[test]
    fn a_failed_probe_doubles_the_pause_and_an_answer_closes_it() {
        let mut circuit = opened();
        let probe = circuit.admit(at(11)).expect("a probe");
        circuit.failed(probe, at(11));
        assert_eq!(circuit.admit(at(12)), None);
        let probe = circuit.admit(at(13)).expect("a probe");
        circuit.answered(probe);
        assert!((0..50).all(|_| circuit.admit(at(13)) == Some(Admitted::Normal)));
    }

    #[test]
    fn late_failures_of_attempts_that_began_before_it_opened_do_not_lengthen_the_pause() {
        let mut circuit = opened();
        (0..30).for_each(|_| circuit.failed(Admitted::Normal, at(40)));
        assert_eq!(circuit.open_until(), Some(at(11)));
    }

    #[test]
    fn probes_that_fail_together_open_it_once() {
        let mut circuit = opened();
        let probes: Vec<_> = (0..3).filter_map(|_| circuit.admit(at(11))).collect();
        probes.into_iter().for_each(|probe| circuit.failed(probe, at(12)));
        assert_eq!(circuit.open_until(), Some(at(14)));
    }

    #[test]
    fn the_longest_pause_there_is_ends_at_the_end_of_time() {
        let policy =
            CircuitPolicy { pause: Duration::MAX, pause_max: Duration::MAX, ..CircuitPolicy::default() };
        let mut circuit = Circuit::new(policy);
        (0..=10).for_each(|second| circuit.failed(Admitted::Normal, at(second)));
        assert_eq!(circuit.open_until(), Some(Timestamp::MAX));
    }

    proptest! {
        #[test]
        fn never_more_than_three_probes_are_out(
            steps in prop::collection::vec((0u8..6, 0i64..40, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut circuit = opened();
            let (mut now, mut out) = (10, Vec::new());
            for (step, seconds, which) in steps {
                now += seconds;
                match step {
                    0 | 1 => out.extend(circuit.admit(at(now))),
                    2 | 3 if !out.is_empty() => circuit.failed(out.swap_remove(which.index(out.len())), at(now)),
                    4 if !out.is_empty() => circuit.withdrawn(out.swap_remove(which.index(out.len()))),
                    5 if !out.is_empty() => circuit.answered(out.swap_remove(which.index(out.len()))),
                    _ => {}
                }
                let probes = out.iter().filter(|admitted| **admitted != Admitted::Normal).count();
                prop_assert!(probes <= PROBES_MAX as usize);
            }
        }

        #[test]
        fn it_always_probes_again_in_the_end(steps in prop::collection::vec((0u8..4, 0i64..40), 0..200)) {
            let mut circuit = opened();
            let (mut now, mut out) = (10, Vec::new());
            for (step, seconds) in steps {
                now += seconds;
                match step {
                    0 | 1 => out.extend(circuit.admit(at(now))),
                    _ => out.drain(..).for_each(|admitted| circuit.failed(admitted, at(now))),
                }
            }
            out.drain(..).for_each(|admitted| circuit.withdrawn(admitted));
            prop_assert!(circuit.admit(at(now + 60)).is_some());
        }
    }
}
