//! Where a connection stands, and what follows from each answer. Pure: time comes in as an argument.

use std::time::Duration;

use crossdock_core::{Admitted, Circuit, CircuitPolicy, Class, ConnectionState};
use jiff::Timestamp;

/// Refusals of the credential in a row after which the connection stops.
const AUTH_FAULTS_MAX: u32 = 5;
/// The pause after a refused credential that is not yet the last straw.
const AUTH_PAUSE: Duration = Duration::from_secs(1);
/// The first and the longest wait between probes of a connection that needs a person.
const PROBE_WAIT: Duration = Duration::from_secs(10);
const PROBE_WAIT_MAX: Duration = Duration::from_secs(300);
/// Where the other side names no pause, or none that is one, pauses that follow each other without another answer double up
/// to this.
const THROTTLE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Where a connection stands.
pub(crate) struct Standing {
    paused: bool,
    closed_until: Option<Timestamp>,
    /// Throttled in a row, without another answer. Until there is one, a single call is let through at a time.
    throttles: u32,
    single_out: bool,
    auth_faults: u32,
    /// Set while the connection needs a person: when real events probe it next, and after what wait.
    probe: Option<(Timestamp, Duration)>,
    circuit: Option<Circuit>,
}

/// How a call was let through; comes back with its answer, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    admitted: Admitted,
    /// The connection is not `ok`, and this call is to show whether it works again.
    pub(crate) is_probe: bool,
    single: bool,
}

impl Pass {
    /// Of a call that was not asked for at the gate.
    pub(crate) const UNASKED: Self = Self { admitted: Admitted::Normal, is_probe: false, single: false };
}

/// The pause that a throttled call leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pause {
    /// The other side has named it.
    Told(Duration),
    /// It has not, or named one that is none.
    Guessed(Duration),
}

/// Whether a call may begin.
pub(crate) enum Admit {
    Go(Pass),
    /// Not before this moment; without one, not before something changes.
    WaitUntil(Option<Timestamp>),
}

impl Standing {
    /// Where a connection stands at the start, after what was kept of it.
    pub(crate) fn new(kept: ConnectionState, circuit: Option<CircuitPolicy>, now: Timestamp) -> Self {
        let needs_auth = kept == ConnectionState::NeedsAuth;
        Self {
            paused: kept == ConnectionState::Paused,
            closed_until: None,
            throttles: 0,
            single_out: false,
            auth_faults: if needs_auth { AUTH_FAULTS_MAX } else { 0 },
            probe: needs_auth.then_some((now, PROBE_WAIT)),
            circuit: circuit.map(Circuit::new),
        }
    }

    /// Lets a call begin now, or not.
    pub(crate) fn admit(&mut self, now: Timestamp) -> Admit {
        if self.paused {
            return Admit::WaitUntil(None);
        }
        if let Some(until) = self.closed_until.filter(|until| now < *until) {
            return Admit::WaitUntil(Some(until));
        }
        let single = self.throttles > 0;
        if single && self.single_out {
            return Admit::WaitUntil(None);
        }
        let mut pass = Pass { single, ..Pass::UNASKED };
        if let Some((at, wait)) = self.probe {
            if now < at {
                return Admit::WaitUntil(Some(at));
            }
            let wait = (wait * 2).min(PROBE_WAIT_MAX);
            self.probe = Some((later(now, wait), wait));
            pass.is_probe = true;
        } else if let Some(circuit) = &mut self.circuit {
            let Some(admitted) = circuit.admit(now) else {
                // Half open with all probes out: their answers are a change.
                return Admit::WaitUntil(circuit.open_until().filter(|until| now < *until));
            };
            (pass.admitted, pass.is_probe) = (admitted, admitted != Admitted::Normal);
        }
        self.single_out |= single;
        Admit::Go(pass)
    }

    /// A call ended so; `pause` counts where it was throttled.
    pub(crate) fn report(&mut self, pass: Pass, class: Option<Class>, pause: Pause, now: Timestamp) {
        match class {
            Some(Class::Bug) => return self.withdrawn(pass),
            Some(Class::Transient | Class::Ambiguous) => {
                if let Some(circuit) = &mut self.circuit {
                    circuit.failed(pass.admitted, now);
                }
            }
            answer => {
                if let Some(circuit) = &mut self.circuit {
                    circuit.answered(pass.admitted);
                }
                match answer {
                    Some(Class::Throttled) => self.throttled(pause, now),
                    Some(Class::AuthExpired | Class::AuthBroken) => self.auth_fault(now),
                    _ => (self.auth_faults, self.probe) = (0, None),
                }
            }
        }
        self.single_out &= !pass.single;
        if class != Some(Class::Throttled) && self.closed_until.is_none_or(|until| until <= now) {
            self.throttles = 0;
        }
    }

    /// A call ended in a way that says nothing of the connection, or was not made.
    pub(crate) fn withdrawn(&mut self, pass: Pass) {
        self.single_out &= !pass.single;
        if let Some(circuit) = &mut self.circuit {
            circuit.withdrawn(pass.admitted);
        }
    }

    /// Calls that were out together are told the same thing: only the first of them makes the row longer.
    fn throttled(&mut self, pause: Pause, now: Timestamp) {
        if self.closed_until.is_none_or(|until| until <= now) {
            self.throttles = self.throttles.saturating_add(1);
        }
        let doubled = 1 << (self.throttles.max(1) - 1).min(16);
        let wait = match pause {
            Pause::Told(wait) => wait,
            Pause::Guessed(wait) => wait.max(wait.saturating_mul(doubled).min(THROTTLE_PAUSE_MAX)),
        };
        self.close_until(later(now, wait));
    }

    fn auth_fault(&mut self, now: Timestamp) {
        self.auth_faults = self.auth_faults.saturating_add(1);
        if self.auth_faults < AUTH_FAULTS_MAX {
            self.close_until(later(now, AUTH_PAUSE));
        } else if self.probe.is_none() {
            self.probe = Some((later(now, PROBE_WAIT), PROBE_WAIT));
        }
    }

    fn close_until(&mut self, until: Timestamp) {
        self.closed_until = self.closed_until.max(Some(until));
    }

    /// Whether a refused credential that is about to be reported speaks of one event only: the connection has worked for
    /// others in between, and does not stop.
    pub(crate) fn works_for_others(&self) -> bool {
        self.probe.is_none() && self.auth_faults + 1 < AUTH_FAULTS_MAX
    }

    /// A person pauses it.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// A person says that it works: everything that closes it is forgotten.
    pub(crate) fn resume(&mut self) {
        (self.paused, self.closed_until, self.throttles) = (false, None, 0);
        (self.auth_faults, self.probe) = (0, None);
        if let Some(circuit) = &mut self.circuit {
            circuit.answered(Admitted::Normal);
        }
    }

    /// Takes over a state that another worker has come to: one that is kept.
    pub(crate) fn follow(&mut self, kept: ConnectionState, now: Timestamp) {
        self.resume();
        match kept {
            ConnectionState::Paused => self.pause(),
            ConnectionState::NeedsAuth => {
                self.auth_faults = AUTH_FAULTS_MAX;
                // The other worker probes too; whichever succeeds opens both.
                self.probe = Some((later(now, PROBE_WAIT), PROBE_WAIT));
            }
            ConnectionState::Ok | ConnectionState::Throttled | ConnectionState::CircuitOpen => {}
        }
    }

    /// The state as it is shown.
    pub(crate) fn shown(&self, now: Timestamp) -> ConnectionState {
        if self.paused {
            ConnectionState::Paused
        } else if self.probe.is_some() {
            ConnectionState::NeedsAuth
        } else if self.closed_until.is_some_and(|until| now < until) {
            ConnectionState::Throttled
        } else if self.circuit.as_ref().is_some_and(|circuit| circuit.open_until().is_some()) {
            ConnectionState::CircuitOpen
        } else {
            ConnectionState::Ok
        }
    }

    /// When a state that is shown ends, or ended, by itself: the next call is let through then.
    pub(crate) fn until(&self, shown: ConnectionState) -> Option<Timestamp> {
        match shown {
            ConnectionState::Throttled => self.closed_until,
            ConnectionState::NeedsAuth => self.probe.map(|(at, _)| at),
            ConnectionState::CircuitOpen => self.circuit.as_ref().and_then(Circuit::open_until),
            ConnectionState::Ok | ConnectionState::Paused => None,
        }
    }
}

/// A moment out of range is the farthest there is.
fn later(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number of seconds")
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const NONE: Pause = Pause::Guessed(Duration::ZERO);

    fn ok() -> Standing {
        Standing::new(ConnectionState::Ok, Some(CircuitPolicy::default()), at(0))
    }

    fn admit(standing: &mut Standing, second: i64) -> Option<Pass> {
        match standing.admit(at(second)) {
            Admit::Go(pass) => Some(pass),
            Admit::WaitUntil(_) => None,
        }
    }

    fn throttled(standing: &mut Standing, pass: Pass, wait: u64, second: i64) {
        standing.report(pass, Some(Class::Throttled), Pause::Guessed(seconds(wait)), at(second));
    }

    #[test]
    fn after_a_throttle_one_call_shows_whether_the_others_may_follow() {
        let mut standing = ok();
        let pass = admit(&mut standing, 0).expect("it is ok");
        throttled(&mut standing, pass, 3, 0);
        assert_eq!(
            (standing.shown(at(2)), standing.until(ConnectionState::Throttled)),
            (ConnectionState::Throttled, Some(at(3)))
        );
        assert!(admit(&mut standing, 2).is_none());
        let first = admit(&mut standing, 3).expect("the pause is over");
        assert!(!first.is_probe, "the connection is ok again: a failure counts");
        assert!(admit(&mut standing, 3).is_none(), "one at a time");
        standing.report(first, None, NONE, at(4));
        assert!((0..10).all(|_| admit(&mut standing, 4).is_some()));
    }

    #[test]
    fn a_single_call_that_is_given_up_lets_another_one_through() {
        let mut standing = ok();
        throttled(&mut standing, Pass::UNASKED, 1, 0);
        let first = admit(&mut standing, 1).expect("the pause is over");
        standing.withdrawn(first);
        assert!(admit(&mut standing, 1).is_some());
    }

    #[test]
    fn throttles_in_a_row_double_the_pause_and_those_of_one_moment_do_not() {
        let mut standing = ok();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            for _ in 0..5 {
                throttled(&mut standing, Pass::UNASKED, 1, now);
            }
            let until = standing.until(ConnectionState::Throttled).expect("it is throttled").as_second();
            pauses.push(until - now);
            now = until;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        standing.report(Pass::UNASKED, None, NONE, at(now));
        throttled(&mut standing, Pass::UNASKED, 1, now);
        assert_eq!(standing.until(ConnectionState::Throttled), Some(at(now + 1)));
    }

    #[test]
    fn a_pause_that_the_other_side_names_is_kept_however_often_it_names_it() {
        let mut standing = ok();
        for second in 0..8 {
            let told = Pause::Told(seconds(1));
            standing.report(Pass::UNASKED, Some(Class::Throttled), told, at(second));
            assert_eq!(standing.until(ConnectionState::Throttled), Some(at(second + 1)));
        }
    }

    #[test]
    fn an_answer_to_an_earlier_call_does_not_end_the_pause() {
        let mut standing = ok();
        throttled(&mut standing, Pass::UNASKED, 9, 0);
        standing.report(Pass::UNASKED, None, NONE, at(1));
        assert!(admit(&mut standing, 8).is_none());
    }

    #[test]
    fn a_refused_credential_does_not_shorten_a_pause() {
        let mut standing = ok();
        throttled(&mut standing, Pass::UNASKED, 60, 0);
        standing.report(Pass::UNASKED, Some(Class::AuthBroken), NONE, at(0));
        assert_eq!(standing.until(ConnectionState::Throttled), Some(at(60)));
    }

    #[test]
    fn five_refusals_need_a_person_and_probes_come_ever_more_rarely_until_one_is_taken() {
        let mut standing = ok();
        (0..5).for_each(|_| standing.report(Pass::UNASKED, Some(Class::AuthBroken), NONE, at(0)));
        assert_eq!(standing.shown(at(0)), ConnectionState::NeedsAuth);
        assert!(admit(&mut standing, 9).is_none());
        let mut now = 10;
        for wait in [20, 40, 80, 160, 300, 300] {
            let pass = admit(&mut standing, now).expect("a probe");
            assert!(pass.is_probe);
            standing.report(pass, Some(Class::AuthBroken), NONE, at(now));
            assert!(admit(&mut standing, now + wait - 1).is_none());
            now += wait;
        }
        let pass = admit(&mut standing, now).expect("a probe");
        standing.report(pass, None, NONE, at(now));
        assert_eq!(standing.shown(at(now)), ConnectionState::Ok);
    }

    #[test]
    fn calls_that_leave_it_open_whether_they_happened_open_the_circuit_too() {
        let mut standing = ok();
        (0..=10).for_each(|second| standing.report(Pass::UNASKED, Some(Class::Ambiguous), NONE, at(second)));
        assert_eq!(standing.shown(at(10)), ConnectionState::CircuitOpen);
        assert!(admit(&mut standing, 11).expect("half open").is_probe);
    }

    #[test]
    fn what_a_person_paused_lets_nothing_through_and_what_a_person_resumed_everything() {
        let mut standing = ok();
        (0..5).for_each(|_| standing.report(Pass::UNASKED, Some(Class::AuthBroken), NONE, at(0)));
        throttled(&mut standing, Pass::UNASKED, 1000, 0);
        standing.pause();
        assert!(admit(&mut standing, 100_000).is_none());
        standing.resume();
        assert_eq!(standing.shown(at(0)), ConnectionState::Ok);
        assert!((0..10).all(|_| admit(&mut standing, 0).is_some_and(|pass| !pass.is_probe)));
    }

    proptest! {
        /// Whatever the answers were: once nothing is out and nobody has paused it, a call is let through in the end.
        #[test]
        fn it_never_stays_closed_for_good(steps in prop::collection::vec((0u8..9, 0i64..40), 0..200)) {
            let mut standing = ok();
            let (mut now, mut out) = (0, Vec::new());
            for (step, seconds_on) in steps {
                now += seconds_on;
                let class = match step {
                    0..=2 => { out.extend(admit(&mut standing, now)); continue }
                    3 => { out.pop().into_iter().for_each(|pass| standing.withdrawn(pass)); continue }
                    4 => Some(Class::Throttled),
                    5 => Some(Class::Transient),
                    6 => Some(Class::AuthBroken),
                    7 => Some(Class::Bug),
                    _ => None,
                };
                if let Some(pass) = out.pop() {
                    standing.report(pass, class, Pause::Guessed(seconds(1)), at(now));
                }
            }
            out.drain(..).for_each(|pass| standing.withdrawn(pass));
            prop_assert!(admit(&mut standing, now + 400).is_some());
        }
    }
}
