//! What the hub tells of itself becomes lines. Pure: moments come in, lines go out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crossdock_core::{Attempt, Outcome};
use crossdock_engine::Moment;

use super::{
    evidence::Numbers,
    line::{Line, Mark},
};

/// How many deliveries get a line of their own in the beginning.
const FIRST_TOLD: usize = 4;

/// What an event is called: its id to what a person reads.
pub type Names<'n> = &'n dyn Fn(&str) -> String;

/// What was heard so far.
#[derive(Debug, Default)]
pub struct Story {
    /// Deliveries by connection.
    pub delivered: BTreeMap<String, usize>,
    /// Duplicates by event.
    pub duplicates: BTreeMap<String, usize>,
    /// The ids of dead letters, by event.
    pub dead: BTreeMap<String, String>,
    /// The numbers of throttled tries and of their deliveries, by flow and event.
    throttled: BTreeMap<(String, String), Numbers>,
    /// Events whose replay was delivered.
    replayed: BTreeSet<String>,
    /// The delivery each of whose tries is told: one that failed first, as long as it is not through.
    followed: Option<(String, String)>,
}

/// A try, as a moment tells it.
struct Try<'m> {
    flow: &'m str,
    connection: &'m str,
    event: &'m str,
    attempt: &'m Attempt,
    next: &'m str,
    wait: Option<Duration>,
    letter: Option<&'m str>,
}

impl Story {
    /// Takes a moment, and says what is worth a line.
    pub fn hear(&mut self, moment: &Moment, at: Duration, names: Names<'_>) -> Vec<Line> {
        match moment {
            Moment::Accepted { event, duplicate, .. } => {
                if *duplicate {
                    *self.duplicates.entry(event.clone()).or_default() += 1;
                }
                Vec::new()
            }
            Moment::Connection { connection, state, detail } => {
                let why = detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
                vec![Line::new(at, Mark::Note, format!("connection {connection} is {}{why}", state.as_str()))]
            }
            Moment::Attempted {
                flow,
                connection,
                event,
                outcome,
                attempt,
                next,
                wait_ms,
                dead_letter,
                ..
            } => {
                let attempted = Try {
                    flow: flow.as_str(),
                    connection: connection.as_str(),
                    event,
                    attempt,
                    next,
                    wait: wait_ms.map(Duration::from_millis),
                    letter: dead_letter.as_deref(),
                };
                let line = match outcome {
                    Outcome::Delivered => self.delivered(&attempted, at, names),
                    Outcome::Failed => self.failed(&attempted, at, names),
                };
                line.into_iter().collect()
            }
        }
    }

    /// The tries that were throttled, each with what became of it.
    pub fn throttled(&self) -> Vec<Numbers> {
        self.throttled.values().copied().collect()
    }

    /// How many copies of these events were swallowed.
    pub fn swallowed<'a>(&self, events: impl Iterator<Item = &'a str>) -> usize {
        let events: BTreeSet<_> = events.collect();
        events.iter().filter_map(|event| self.duplicates.get(*event)).sum()
    }

    fn delivered(&mut self, done: &Try<'_>, at: Duration, names: Names<'_>) -> Option<Line> {
        let count = self.delivered.entry(done.connection.to_owned()).or_default();
        *count += 1;
        let first = *count <= FIRST_TOLD;
        let delivery = (done.flow.to_owned(), done.event.to_owned());
        if let Some((_, after)) = self.throttled.get_mut(&delivery) {
            *after = Some(done.attempt.n);
        }
        let (event, connection, n) = (names(done.event), done.connection, done.attempt.n);
        let text = if done.attempt.replay.is_some() {
            self.replayed.insert(done.event.to_owned());
            format!("replayed: {event} arrived at {connection}")
        } else if self.followed.as_ref() == Some(&delivery) {
            self.followed = None;
            format!("{event} arrived at {connection} on try {n}")
        } else if first {
            format!("{event} arrived at {connection} in {} ms", done.attempt.duration_ms)
        } else {
            return None;
        };
        Some(Line::new(at, Mark::Good, text))
    }

    fn failed(&mut self, failed: &Try<'_>, at: Duration, names: Names<'_>) -> Option<Line> {
        let (event, delivery) = (names(failed.event), (failed.flow.to_owned(), failed.event.to_owned()));
        let answer = answer(failed);
        let wait = failed.wait.unwrap_or_default().as_secs_f64();
        let text = match failed.next {
            "throttle" => {
                let fresh = self.throttled.is_empty();
                self.throttled.entry(delivery).or_insert((failed.attempt.n, None));
                fresh.then(|| {
                    format!("{answer} for {event}\nthe hub waits {wait:.0} s before it calls again")
                })?
            }
            "dead_letter" => {
                let letter = failed.letter.unwrap_or_default().to_owned();
                self.dead.insert(failed.event.to_owned(), letter.clone());
                self.followed = self.followed.take().filter(|followed| *followed != delivery);
                match failed.attempt.replay {
                    Some(_) => {
                        format!("replayed, but {answer} for {event}\nit is still dead letter {letter}")
                    }
                    None => format!("{answer} for {event}\nnot tried again: dead letter {letter}"),
                }
            }
            "retry" => {
                let followed = self.followed.get_or_insert_with(|| delivery.clone());
                let n = failed.attempt.n;
                (*followed == delivery)
                    .then(|| format!("{} for {event}, try {n}; again in {wait:.1} s", brief(failed)))?
            }
            _ => format!("{answer} for {event}: it waits with its connection"),
        };
        Some(Line::new(at, Mark::Bad, text))
    }

    /// Whether a replay of this event was delivered.
    pub fn was_replayed(&self, event: &str) -> bool {
        self.replayed.contains(event)
    }
}

/// What was answered: `crm said 503`, or why nothing was.
fn brief(failed: &Try<'_>) -> String {
    match failed.attempt.status {
        Some(status) => format!("{} said {status}", failed.connection),
        None => format!("{}: {}", failed.connection, failed.attempt.message),
    }
}

/// The same with the other side's own code.
fn answer(failed: &Try<'_>) -> String {
    let code = failed.attempt.code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
    brief(failed) + &code
}

#[cfg(test)]
mod tests {
    use crossdock_core::{Class, ConnectionName, FlowName, Topic};
    use jiff::Timestamp;

    use super::*;

    struct Told {
        story: Story,
        lines: Vec<String>,
    }

    impl Told {
        fn new() -> Self {
            Self { story: Story::default(), lines: Vec::new() }
        }

        fn hear(&mut self, moment: &Moment) {
            let lines = self.story.hear(moment, Duration::ZERO, &|id| format!("order {id}"));
            self.lines.extend(lines.into_iter().map(|line| line.text));
        }
    }

    fn attempted(event: &str, n: u32, status: u16, next: &'static str) -> Moment {
        let failed = status >= 300;
        let letter = (next == "dead_letter").then(|| "d1".to_owned());
        Moment::Attempted {
            flow: FlowName::new("f").expect("a name"),
            connection: ConnectionName::new("crm").expect("a name"),
            event: event.to_owned(),
            key: None,
            outcome: if failed { Outcome::Failed } else { Outcome::Delivered },
            attempt: Box::new(Attempt {
                n,
                at: Timestamp::UNIX_EPOCH,
                duration_ms: 3,
                request: None,
                status: Some(status),
                class: failed.then_some(Class::Transient),
                code: failed.then(|| "DOWN".to_owned()),
                message: String::new(),
                excerpt: None,
                times: 1,
                replay: None,
            }),
            next,
            wait_ms: Some(2000),
            dead_letter: letter,
        }
    }

    #[test]
    fn one_delivery_of_an_outage_is_followed_to_its_end() {
        let mut told = Told::new();
        told.story.delivered.insert("crm".to_owned(), 100);
        for (event, n, status) in [("a", 1, 503), ("b", 1, 503), ("a", 2, 503), ("b", 2, 200), ("a", 3, 200)]
        {
            told.hear(&attempted(event, n, status, if status == 200 { "done" } else { "retry" }));
        }
        let expected = [
            "crm said 503 for order a, try 1; again in 2.0 s",
            "crm said 503 for order a, try 2; again in 2.0 s",
            "order a arrived at crm on try 3",
        ];
        assert_eq!(told.lines, expected);
    }

    #[test]
    fn only_the_first_deliveries_get_a_line() {
        let mut told = Told::new();
        for n in 0..10 {
            told.hear(&attempted(&n.to_string(), 1, 200, "done"));
        }
        assert_eq!(told.lines.len(), FIRST_TOLD);
        assert_eq!(told.lines[0], "order 0 arrived at crm in 3 ms");
        assert_eq!(told.story.delivered["crm"], 10);
    }

    #[test]
    fn numbers_of_throttled_tries_are_kept_until_they_arrive() {
        let mut told = Told::new();
        told.hear(&attempted("a", 1, 429, "throttle"));
        told.hear(&attempted("b", 1, 429, "throttle"));
        told.hear(&attempted("a", 1, 200, "done"));
        assert_eq!(told.story.throttled(), [(1, Some(1)), (1, None)]);
        assert_eq!(told.lines[0], "crm said 429 DOWN for order a\nthe hub waits 2 s before it calls again");
    }

    #[test]
    fn a_dead_letter_is_told_with_its_id() {
        let mut told = Told::new();
        told.hear(&attempted("a", 1, 422, "dead_letter"));
        assert_eq!(told.story.dead["a"], "d1");
        assert_eq!(told.lines, ["crm said 422 DOWN for order a\nnot tried again: dead letter d1"]);
    }

    #[test]
    fn duplicates_are_counted_by_event() {
        let mut told = Told::new();
        for (event, duplicate) in [("a", false), ("a", true), ("a", true), ("b", true)] {
            told.hear(&Moment::Accepted {
                topic: Topic::new("t").expect("a name"),
                event: event.to_owned(),
                kind: "k".to_owned(),
                key: None,
                duplicate,
            });
        }
        assert_eq!(told.story.swallowed(["a", "a"].into_iter()), 2);
        assert!(told.lines.is_empty());
    }
}
