//! The bundle of store ports that the engine needs.

use std::sync::Arc;

use crossdock_core::{
    Connections, DeadLetters, EventLog, HeldEvents, Outbox, OutboxLog, Replays, Settlements,
};

/// The stores of a hub. One adapter may stand behind all of them.
#[derive(Clone)]
pub struct Stores {
    /// Where events become durable.
    pub outbox: Arc<dyn Outbox>,
    /// Where the relay reads them; none where the outbox is the broker's log.
    pub outbox_log: Option<Arc<dyn OutboxLog>>,
    /// Where deliveries are settled.
    pub settlements: Arc<dyn Settlements>,
    /// Held events.
    pub held: Arc<dyn HeldEvents>,
    /// Dead letters.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Replays.
    pub replays: Arc<dyn Replays>,
    /// States of connections.
    pub connections: Arc<dyn Connections>,
    /// The events that came in.
    pub event_log: Arc<dyn EventLog>,
    /// Whether other workers write to the same stores: then states of connections and unfinished replays are read again
    /// every second.
    pub shared: bool,
}
