//! Decide: what follows a try. Changes the delivery's own record, nothing else.

use std::time::Duration;

use crossdock_core::{Attempt, Class, Decision, Fault, Outcome, span};
use jiff::Timestamp;

use crate::{
    attempt::Attempted,
    flow::{Flow, count},
    status::Moment,
    work::Work,
};

/// Refusals of the credential for one event, while the connection works for others, after which the event is given up.
const AUTH_TRIES_MAX: u32 = 5;

/// A try with what follows from it. What it means for the store is in [`crate::settle`].
pub(crate) struct Decided {
    pub(crate) attempted: Attempted,
    pub(crate) decision: Decision,
    /// Which counted attempt this is, from 1; a try that does not count repeats the number.
    n: u32,
    /// The fault, for the dead letter; none on success.
    pub(crate) fault: Option<Fault>,
}

/// Decides, and records the try in the delivery.
pub(crate) fn decide(flow: &Flow, mut attempted: Attempted, chance: f64) -> Decided {
    let now = flow.clock.now();
    let Err(fault) = attempted.result.clone() else {
        let n = attempted.work.tried + 1;
        return Decided { attempted, decision: Decision::Done, n, fault: None };
    };
    // A probe that fails says that the connection is not back yet, and nothing of the event.
    let probed = attempted.permit.is_probe() && fault.class == Class::Transient;
    let counted =
        !probed && !matches!(fault.class, Class::Throttled | Class::AuthExpired | Class::AuthBroken);
    stop_the_clock(flow, &mut attempted);
    let work = &mut attempted.work;
    let first = *work.first_tried_at.get_or_insert(attempted.at);
    let n = work.tried + 1;
    work.tried += u32::from(counted);
    work.auth_tries = if is_auth(&fault) { work.auth_tries + 1 } else { 0 };
    let age = span(first, now);
    let mut decision = flow.plan.retry.decide(work.tried, age, &fault, now, chance);
    if probed {
        decision = Decision::Hold;
    }
    if decision == Decision::Hold && work.auth_tries >= AUTH_TRIES_MAX && flow.gate.works_for_others() {
        decision =
            Decision::DeadLetter("its credential is refused while the connection works for other events");
    }
    if let Some(why) = is_tried_once(work)
        && decision != Decision::Done
    {
        decision = Decision::DeadLetter(why);
    }
    let record = failed_attempt(&attempted, n, &fault);
    attempted.work.record(record, counted);
    Decided { attempted, decision, n, fault: Some(fault) }
}

/// The time that the connection was closed since the try before makes the event no older: as if it had been tried for the
/// first time so much later.
fn stop_the_clock(flow: &Flow, attempted: &mut Attempted) {
    let work = &mut attempted.work;
    if let (Some(first), Some(last)) = (work.first_tried_at, work.attempts.last()) {
        let closed = flow.gate.closed_between(last.at, attempted.at);
        work.first_tried_at = Some(due_at(first, closed));
    }
}

/// Why nothing is to follow a try that failed, whatever the schedule says.
fn is_tried_once(work: &Work) -> Option<&'static str> {
    if work.test.is_some() {
        Some("the test failed")
    } else {
        work.is_called_off().then_some("its replay was cancelled")
    }
}

fn is_auth(fault: &Fault) -> bool {
    matches!(fault.class, Class::AuthExpired | Class::AuthBroken)
}

fn failed_attempt(attempted: &Attempted, n: u32, fault: &Fault) -> Attempt {
    let replay = attempted.work.replay.as_ref().map(|ticket| ticket.replay.clone());
    let duration = millis(attempted.duration);
    Attempt { replay, ..Attempt::failed(n, attempted.at, duration, attempted.request.clone(), fault) }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Decided {
    /// How the try ended. A fault that says that the other side has the event already is no failure.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.decision == Decision::Done { Outcome::Delivered } else { Outcome::Failed }
    }

    /// The record of this try.
    pub(crate) fn record(&self) -> Attempt {
        let Attempted { work, at, duration, request, status, .. } = &self.attempted;
        match &self.fault {
            Some(fault) => failed_attempt(&self.attempted, self.n, fault),
            None => Attempt {
                n: self.n,
                at: *at,
                duration_ms: millis(*duration),
                request: request.clone(),
                status: *status,
                class: None,
                code: None,
                message: String::new(),
                excerpt: None,
                times: 1,
                replay: work.replay.as_ref().map(|ticket| ticket.replay.clone()),
            },
        }
    }

    /// The name of what follows, as logs and moments have it.
    pub(crate) fn next(&self) -> (&'static str, Option<Duration>) {
        match self.decision {
            Decision::Done => ("done", None),
            Decision::Retry(wait) => ("retry", Some(wait)),
            Decision::Throttle(wait) => ("throttle", Some(wait)),
            Decision::Hold => ("hold", None),
            Decision::DeadLetter(_) => ("dead_letter", None),
        }
    }

    /// Counts the try, writes its one wide log line (a warning if it makes a dead letter) and tells those who watch.
    pub(crate) fn announce(&self, flow: &Flow, dead_letter: Option<&str>) {
        let Attempted { work, step, duration, .. } = &self.attempted;
        let (next, wait) = self.next();
        let outcome = self.outcome();
        match outcome {
            Outcome::Delivered => count(&flow.counters.delivered),
            Outcome::Failed => count(&flow.counters.failed_attempts),
        }
        let fault = self.fault.as_ref();
        macro_rules! line {
            ($level:ident) => {
                tracing::event!(
                    target: "crossdock::attempt",
                    tracing::Level::$level,
                    flow = flow.plan.name.as_str(),
                    connection = flow.plan.connection.as_str(),
                    event_id = work.event.id,
                    event_type = work.event.kind,
                    position = %work.position,
                    attempt = self.n,
                    step,
                    duration_ms = millis(*duration),
                    status = self.attempted.status.or(fault.and_then(|fault| fault.status)),
                    class = fault.map(|fault| fault.class.as_str()),
                    code = fault.and_then(|fault| fault.code.as_deref()),
                    // What an expression says of its failure may quote the payload: it stands in the dead letter alone.
                    error = fault.filter(|fault| fault.class != Class::Bug).map(|fault| fault.message.as_str()),
                    next,
                    wait_ms = wait.map(millis),
                    replay = work.replay.as_ref().map(|ticket| ticket.replay.as_str()),
                    dead_letter,
                    "delivery attempted"
                )
            };
        }
        // A level is fixed where an event is written: the one line has two places.
        match self.decision {
            Decision::DeadLetter(_) => line!(WARN),
            _ => line!(INFO),
        }
        flow.tell(|| Moment::Attempted {
            flow: flow.plan.name.clone(),
            connection: flow.plan.connection.clone(),
            event: work.event.id.clone(),
            key: work.key.clone(),
            outcome,
            attempt: Box::new(self.record()),
            next,
            wait_ms: wait.map(millis),
            dead_letter: dead_letter.map(str::to_owned),
        });
    }
}

/// When something is due that waits this long from `now`; a moment out of range is the farthest there is.
pub(crate) fn due_at(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
