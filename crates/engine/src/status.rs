//! What the engine tells about itself, with the field names of the API.

use crossdock_core::{
    Attempt, ConnectionName, ConnectionState, FlowName, GroupLag, OutboxStatus, Outcome, Topic,
};
use jiff::Timestamp;
use serde::Serialize;

/// The hub at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `running`, `degraded` (something needs a person or waits for the disk) or `stopping`.
    pub state: &'static str,
    /// The version of the program.
    pub version: &'static str,
    /// When it started.
    pub started_at: Timestamp,
    /// Events accepted since the start.
    pub accepted: u64,
    /// Duplicates dropped at the entrance since the start.
    pub duplicates: u64,
    /// Deliveries that reached the other side since the start.
    pub delivered: u64,
    /// Attempts that failed since the start.
    pub failed_attempts: u64,
    /// Deliveries that are not finished: in the broker or in the lanes.
    pub pending: u64,
    /// Held events.
    pub held: u64,
    /// Open dead letters.
    pub dead: u64,
    /// How far the outbox is on its way to the broker; none where the outbox is the broker's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayStatus>,
    /// What is wrong, each with the command or the change that mends it.
    pub problems: Vec<String>,
}

/// What the relay of a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayRole {
    /// It reads the outbox.
    Reading,
    /// It would, if nobody else did.
    StandingBy,
    /// Relaying is not among the roles of the worker.
    None,
}

impl RelayRole {
    /// The name in API and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::StandingBy => "standing_by",
            Self::None => "none",
        }
    }
}

/// The relay at a glance: what this worker has to do with it, and how far it is, whoever runs it.
#[derive(Debug, Clone, Serialize)]
pub struct RelayStatus {
    /// What this worker does.
    pub role: RelayRole,
    /// Events that this worker has moved since the start.
    pub relayed: u64,
    /// How far the outbox is.
    #[serde(flatten)]
    pub outbox: OutboxStatus,
}

/// A flow at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct FlowStatus {
    /// Its name.
    pub name: FlowName,
    /// What it reads.
    pub from: Vec<Topic>,
    /// The connection that it calls.
    pub connection: ConnectionName,
    /// The action.
    pub action: String,
    /// The state of its connection.
    pub state: ConnectionState,
    /// Deliveries that reached the other side since the start.
    pub delivered: u64,
    /// Events that the filter left out since the start.
    pub filtered: u64,
    /// Attempts that failed since the start.
    pub failed_attempts: u64,
    /// Deliveries that are not finished: in the broker or in the lanes.
    pub pending: u64,
    /// Held events.
    pub held: u64,
    /// Open dead letters.
    pub dead: u64,
    /// The earliest next attempt of a held event.
    pub next_retry_at: Option<Timestamp>,
    /// How far it has come in each partition.
    pub lag: Vec<GroupLag>,
}

/// A connection at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionStatus {
    /// Its name.
    pub name: ConnectionName,
    /// The name of its connector.
    pub connector: String,
    /// Where it stands.
    pub state: ConnectionState,
    /// Why, for people.
    pub detail: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// When it is tried again, if it waits.
    pub until: Option<Timestamp>,
    /// Calls that are out at this moment.
    pub in_flight: usize,
    /// When the last event came in through it.
    pub last_event_at: Option<Timestamp>,
}

/// Something that a person who watches the hub may want to see.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "moment", rename_all = "snake_case")]
pub enum Moment {
    /// An event was accepted, or dropped as a duplicate.
    Accepted {
        /// The topic that it went to.
        topic: Topic,
        /// The event's id.
        event: String,
        /// The event's type.
        #[serde(rename = "type")]
        kind: String,
        /// The event's key.
        key: Option<String>,
        /// Whether it was there already.
        duplicate: bool,
    },
    /// A delivery was tried.
    Attempted {
        /// The flow.
        flow: FlowName,
        /// The connection.
        connection: ConnectionName,
        /// The event's id.
        event: String,
        /// The key in the flow.
        key: Option<String>,
        /// How it ended.
        outcome: Outcome,
        /// The try.
        attempt: Box<Attempt>,
        /// What follows: `done`, `retry`, `throttle`, `hold` or `dead_letter`.
        next: &'static str,
        /// When it is tried again, in milliseconds from now.
        wait_ms: Option<u64>,
        /// The dead letter that it became.
        dead_letter: Option<String>,
    },
    /// A connection changed its state.
    Connection {
        /// The connection.
        connection: ConnectionName,
        /// The new state.
        state: ConnectionState,
        /// Why.
        detail: Option<String>,
    },
}
