//! What a worker does.

/// The parts of the work that a worker does; several workers of one hub share it. By default all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Takes events in, from webhooks and for topics.
    pub ingest: bool,
    /// Moves events from the outbox to the broker, where those are two.
    pub relay: bool,
    /// Carries events through flows: has partitions, held events and the items of replays.
    pub deliver: bool,
    /// Answers people and programs. The engine does the same with it or without.
    pub api: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self { ingest: true, relay: true, deliver: true, api: true }
    }
}
