//! `retry:` when a failed delivery is tried again.

use std::time::Duration;

use crossdock_core::{Jitter, RetryPolicy, Schedule};

use super::{
    problem::{Problem, code},
    reader::{Fields, Reader},
    yaml::{Entry, Node, Value},
};

const SCHEDULE_HELP: &str = "a list of waits such as `[200ms, 1s, 5s]`, `immediate`, `{ fixed: 5s }`, or \
     `{ exponential: { initial: 1s, factor: 2, max: 10m } }`";

impl Reader<'_> {
    /// The retry policy of a flow; the default one where nothing is written.
    pub fn retry(&mut self, entry: Option<&Entry>) -> Option<RetryPolicy> {
        let mut policy = RetryPolicy::default();
        let Some(entry) = entry else { return Some(policy) };
        let allowed = ["schedule", "jitter", "max_attempts", "max_age", "retry_after_max"];
        let fields = self.fields(&entry.node, "`retry`", &entry.at, &allowed)?;
        let errors = self.problems.items.len();
        if let Some(schedule) = fields.get("schedule").and_then(|node| self.schedule(node)) {
            // A list ends by itself; the default age would cut a long one short.
            policy.max_age = policy.max_age.filter(|_| !matches!(schedule, Schedule::List(_)));
            policy.schedule = schedule;
        }
        if let Some(jitter) = fields.get("jitter").and_then(|node| self.jitter(node)) {
            policy.jitter = jitter;
        }
        if let Some(node) = fields.get("max_attempts") {
            let attempts = self.integer(node, "`max_attempts`", 1, u64::from(u32::MAX));
            policy.max_attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok());
        }
        if let Some(node) = fields.get("max_age") {
            policy.max_age = self.duration(node, "`max_age`");
        }
        if let Some(node) = fields.get("retry_after_max") {
            policy.retry_after_max = self.duration(node, "`retry_after_max`").unwrap_or_default();
        }
        if self.problems.items.len() > errors {
            return None;
        }
        self.warn_of_waits_that_never_come(&fields, &policy);
        Some(policy)
    }

    fn schedule(&mut self, node: &Node) -> Option<Schedule> {
        match &node.value {
            Value::List(items) => self.waits(node, items).map(Schedule::List),
            Value::Scalar { text, .. } if text == "immediate" => Some(Schedule::Immediate),
            Value::Map(entries) => match entries.as_slice() {
                [entry] if entry.name == "fixed" => {
                    self.duration(&entry.node, "`fixed`").map(Schedule::Fixed)
                }
                [entry] if entry.name == "exponential" => self.exponential(entry),
                _ => self.no_schedule(node),
            },
            Value::Scalar { .. } => self.no_schedule(node),
        }
    }

    fn no_schedule<T>(&mut self, node: &Node) -> Option<T> {
        self.report(
            Problem::new(code::WRONG_VALUE, node.span.clone(), "this is not a schedule").help(SCHEDULE_HELP),
        );
        None
    }

    fn waits(&mut self, node: &Node, items: &[Node]) -> Option<Vec<Duration>> {
        if items.is_empty() {
            return self.no_schedule(node);
        }
        let waits: Vec<_> = items.iter().map(|item| self.duration(item, "a wait")).collect();
        waits.into_iter().collect()
    }

    fn exponential(&mut self, entry: &Entry) -> Option<Schedule> {
        let fields = self.fields(&entry.node, "`exponential`", &entry.at, &["initial", "factor", "max"])?;
        let mut wait = |name: &str, default: Duration| match fields.get(name) {
            Some(node) => self.duration(node, &format!("`{name}`")),
            None => Some(default),
        };
        let initial = wait("initial", Duration::from_secs(1));
        let max = wait("max", Duration::from_secs(600));
        let factor = match fields.get("factor") {
            Some(node) => self.decimal(node, "`factor`", 1.0, 1000.0),
            None => Some(2.0),
        };
        let (initial, max, factor) = (initial?, max?, factor?);
        if initial.is_zero() || initial > max {
            let message = "`initial` must be more than nothing and at most `max`";
            self.report(
                Problem::new(code::CONFLICT, entry.node.span.clone(), message)
                    .help("the defaults are `initial: 1s`, `factor: 2` and `max: 10m`"),
            );
            return None;
        }
        Some(Schedule::Exponential { initial, factor, max })
    }

    fn jitter(&mut self, node: &Node) -> Option<Jitter> {
        if matches!(&node.value, Value::Scalar { text, .. } if text == "full") {
            return Some(Jitter::Full);
        }
        self.decimal(node, "`jitter`", 0.0, 1.0).map(Jitter::Ratio)
    }

    fn decimal(&mut self, node: &Node, what: &str, from: f64, to: f64) -> Option<f64> {
        let help = match what {
            "`jitter`" => format!("a number from {from} to {to}, or `full`"),
            _ => format!("a number from {from} to {to}"),
        };
        self.parsed(node, what, &help, |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            digits.then(|| text.parse().ok())?.filter(|number| (from..=to).contains(number))
        })
    }

    fn warn_of_waits_that_never_come(&mut self, fields: &Fields<'_>, policy: &RetryPolicy) {
        let (Schedule::List(waits), Some(node)) = (&policy.schedule, fields.get("schedule")) else { return };
        let attempts =
            policy.max_attempts.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let total = waits.iter().try_fold(Duration::ZERO, |sum, wait| sum.checked_add(*wait));
        let late = policy.max_age.is_some_and(|max| total.is_none_or(|total| total > max));
        let message = match attempts <= waits.len() {
            true => "the last waits never come: `max_attempts` ends before them",
            false if late => "the last waits never come: `max_age` ends before them",
            false => return,
        };
        self.report(
            Problem::new(code::UNUSED, node.span.clone(), message)
                .help("shorten the schedule or raise the limit")
                .warning(),
        );
    }
}
