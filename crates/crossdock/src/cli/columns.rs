//! The columns of every list.

use super::table::{Column, Show, column};

/// `flow list`
pub const FLOWS: &[Column] = &[
    column("FLOW", "/name", Show::Name),
    column("CONNECTION", "/connection", Show::Name).if_it_fits(),
    column("STATE", "/state", Show::Name),
    column("DELIVERED", "/delivered", Show::Count),
    column("PENDING", "/pending", Show::Count).if_it_fits(),
    column("FILTERED", "/filtered", Show::Count).if_it_fits(),
    column("HELD", "/held", Show::Count),
    column("DEAD", "/dead", Show::Count),
];

/// `connection list`
pub const CONNECTIONS: &[Column] = &[
    column("CONNECTION", "/name", Show::Name),
    column("CONNECTOR", "/connector", Show::Name).if_it_fits(),
    column("STATE", "/state", Show::Name),
    column("SINCE", "/since", Show::Moment),
    column("AGAIN", "/until", Show::Moment),
    column("WHY", "/detail", Show::Text),
];

/// `event list`, and events with the same id
pub const EVENTS: &[Column] = &[
    column("ACCEPTED", "/accepted_at", Show::Moment),
    column("EVENT", "/id", Show::Name),
    column("TYPE", "/type", Show::Name),
    column("KEY", "/key", Show::Name).if_it_fits(),
    column("TOPIC", "/topic", Show::Name).if_it_fits(),
];

/// What became of an event
pub const DELIVERIES: &[Column] = &[
    column("FLOW", "/flow", Show::Name),
    column("STATE", "/state", Show::Name),
    column("NEXT", "/due_at", Show::Moment),
    column("WHY", "/why", Show::Text),
    column("DEAD LETTER", "/dead_letter", Show::Name),
];

/// `failures groups`
pub const GROUPS: &[Column] = &[
    column("GROUP", "/id", Show::Name),
    column("COUNT", "/count", Show::Count),
    column("CLASS", "/class", Show::Name),
    column("STATUS", "/status", Show::Name).if_it_fits(),
    column("CODE", "/code", Show::Name).if_it_fits(),
    column("FLOW", "/flow", Show::Name),
    column("CONNECTION", "/connection", Show::Name).if_it_fits(),
    column("LAST", "/last_at", Show::Moment),
];

/// `failures list`, and the samples of a group
pub const LETTERS: &[Column] = &[
    column("DEAD LETTER", "/id", Show::Name),
    column("FLOW", "/flow", Show::Name),
    column("CLASS", "/class", Show::Name),
    column("STATUS", "/status", Show::Name).if_it_fits(),
    column("EVENT", "/event", Show::Name).if_it_fits(),
    column("FAILED", "/failed_at", Show::Moment),
];

/// The tries of a dead letter
pub const ATTEMPTS: &[Column] = &[
    column("N", "/n", Show::Count),
    column("AT", "/at", Show::Moment),
    column("MS", "/duration_ms", Show::Count).if_it_fits(),
    column("STATUS", "/status", Show::Name),
    column("CLASS", "/class", Show::Name),
    column("CODE", "/code", Show::Name).if_it_fits(),
    column("MESSAGE", "/message", Show::Text),
];

/// `replay list`
pub const REPLAYS: &[Column] = &[
    column("REPLAY", "/id", Show::Name),
    column("STATE", "/state", Show::Name),
    column("TOTAL", "/total", Show::Count),
    column("DELIVERED", "/delivered", Show::Count),
    column("FAILED", "/failed", Show::Count),
    column("MADE", "/created_at", Show::Moment).if_it_fits(),
];

/// The columns of a list within a thing, if it is one that we know.
pub fn of(field: &str) -> Option<&'static [Column]> {
    match field {
        "attempts" => Some(ATTEMPTS),
        "others" => Some(EVENTS),
        "samples" => Some(LETTERS),
        _ => None,
    }
}
