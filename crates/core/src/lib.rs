//! The words of Crossdock as types, the ports behind which everything else stands, and the pure rules.
//!
//! What lives here:
//!
//! - the vocabulary: [`Event`], [`Topic`], [`Position`], [`FlowName`], [`ConnectionName`], [`Fault`], [`Attempt`];
//! - the pure rules: [`RetryPolicy::decide`], [`Completed`] (contiguous offsets), [`Circuit`], [`Fingerprint`];
//! - the ports: [`Broker`] and [`Subscription`], the stores ([`Settlements`], [`HeldEvents`], [`DeadLetters`],
//!   [`Replays`], [`Connections`], [`EventLog`]), [`Connector`] with [`Webhook`] and [`Action`], [`Clock`].
//!
//! What it must never know: tokio, SQL, HTTP clients, any broker, any connector. Futures are boxed once per
//! batch; nothing here starts a task or waits for time.
//!
//! A port's documentation states its whole contract: order, duplicates, durability, cancellation, errors.

mod chain;
mod event;
mod id;
mod names;
mod terminal;

mod attempt;
mod circuit;
mod completed;
mod failpoint;
mod fault;
mod fingerprint;
mod retry;
mod retry_after;

mod broker;
mod clock;
mod connector;
mod spec;

mod act;
mod checkpoints;
mod connections;
mod dead_letters;
mod event_log;
mod finding;
mod held;
mod leases;
mod outbox;
mod page;
mod replays;
mod settle;
mod store;

pub use act::Act;
pub use attempt::{Attempt, Outcome};
pub use broker::{
    Batch, Broker, BrokerError, Delivery, Group, GroupLag, Partition, PublishError, Published, Revocation,
    Settle, Signal, Subscription,
};
pub use chain::chain;
pub use checkpoints::Checkpoints;
pub use circuit::{Admitted, Circuit, CircuitPolicy};
pub use clock::{Clock, SystemClock, span};
pub use completed::Completed;
pub use connections::{ConnectionState, Connections, StoredConnection};
pub use connector::{
    Action, Body, Connection, Connector, ConnectorError, Envelope, Environment, Inbound, Inbox, Item,
    Malformed, Output, Refusal, Webhook, WrittenField,
};
pub use dead_letters::{
    DeadLetter, DeadLetterId, DeadLetters, FailureGroup, GroupId, LetterState, LetterSummary, Selection,
};
pub use event::{Event, EventError};
pub use event_log::{EventLog, EventSummary, LoggedEvent};
pub use failpoint::failpoint;
pub use fault::{Class, Fault, Wait};
pub use finding::{Finding, Severity};
pub use fingerprint::Fingerprint;
pub use held::{Adopted, HeldEvent, HeldEvents, HeldId, HeldKey, HeldReason, NewHeld, Owner};
pub use id::time_ordered_id;
pub use leases::{Epoch, Holdings, Lease, Leases, WorkerId};
pub use names::{ConnectionName, FlowName, NameError, Offset, Position, Topic, hash_key, partition_of};
pub use outbox::{
    Outbox, OutboxEvent, OutboxLog, OutboxPage, OutboxReader, OutboxStatus, PageMark, RefusedEvent,
};
pub use page::{Cursor, Page, PageRequest};
pub use replays::{
    ItemState, NewReplay, Replay, ReplayId, ReplayItem, ReplayState, ReplayTicket, Replays, Tried,
};
pub use retry::{Decision, Jitter, RetryPolicy, Schedule};
pub use retry_after::parse_retry_after;
pub use settle::{MappedRequest, Placed, Settled, Settlement, Settlements};
pub use spec::{ActionSpec, ConnectorSpec, Field, FieldKind, Setting, Settings};
pub use store::StoreError;
pub use terminal::is_obeyed;
