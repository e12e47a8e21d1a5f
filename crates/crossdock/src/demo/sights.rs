//! What the demo promises to show.

use std::time::Duration;

/// One promise. In the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// The first event, soon after the start.
    First,
    /// Events are delivered.
    Normal,
    /// An outage is survived: retried on schedule, in order.
    Outage,
    /// A second copy of a webhook is swallowed.
    Duplicate,
    /// A pause that is asked for is kept and costs no attempt.
    Throttle,
    /// What can never succeed is a dead letter.
    DeadLetter,
    /// The commands that show and replay it are there.
    Commands,
}

impl Sight {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::First,
        Self::Normal,
        Self::Outage,
        Self::Duplicate,
        Self::Throttle,
        Self::DeadLetter,
        Self::Commands,
    ];

    /// The promise, as a person reads it.
    pub fn promise(self) -> &'static str {
        match self {
            Self::First => "the first event within 3 s",
            Self::Normal => "events delivered to CRM and warehouse",
            Self::Outage => "a CRM outage: events retried on schedule, all arrived, in order",
            Self::Duplicate => "a duplicate webhook swallowed",
            Self::Throttle => "a 429: its Retry-After honoured, no attempt counted",
            Self::DeadLetter => "an order that can never succeed, dead-lettered",
            Self::Commands => "the commands that show it and replay it",
        }
    }
}

/// How soon the first event must be there.
pub const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Sights {
    seen: Vec<Sight>,
}

impl Sights {
    /// Seen, now or before.
    pub fn see(&mut self, sight: Sight) {
        if !self.has(sight) {
            self.seen.push(sight);
        }
    }

    /// Whether it was seen.
    pub fn has(&self, sight: Sight) -> bool {
        self.seen.contains(&sight)
    }

    /// What was not seen.
    pub fn missing(&self) -> Vec<Sight> {
        Sight::ALL.into_iter().filter(|sight| !self.has(*sight)).collect()
    }
}
