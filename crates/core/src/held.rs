//! Held events: deliveries that left the broker and wait in the store.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Attempt, Epoch, Event, FlowName, Partition, Position, ReplayTicket, StoreError};

/// The id of a held event, from 1. Ascends in the order in which events were held: within a key, the order of delivery.
/// Never used a second time, also when the event is gone: a reader that has come to an id asks for what is above it.
pub type HeldId = i64;

/// Why an event is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldReason {
    /// It is the head of its key and waits for its next attempt.
    Retry,
    /// It waits behind the head of its key.
    Behind,
}

/// A delivery to be held.
#[derive(Debug, Clone)]
pub struct NewHeld {
    /// The flow.
    pub flow: FlowName,
    /// Where the event stands in the broker. With the flow and the id of the event it is unique among held events.
    pub position: Position,
    /// The key whose order is kept. Comes back as it was, whatever characters it has.
    pub key: Option<String>,
    /// The hash of the key ([`crate::hash_key`]); of the event's position where the flow keeps no order.
    pub key_hash: u64,
    /// The event.
    pub event: Arc<Event>,
    /// The tries so far.
    pub attempts: Vec<Attempt>,
    /// Counted attempts so far.
    pub tried: u32,
    /// When the first attempt began; what `max_age` counts from.
    pub first_tried_at: Option<Timestamp>,
    /// When the next attempt is due; none for an event behind its head.
    pub due: Option<Timestamp>,
    /// The replay that the delivery belongs to, if any.
    pub replay: Option<ReplayTicket>,
}

/// A held event.
#[derive(Debug, Clone)]
pub struct HeldEvent {
    /// Its id.
    pub id: HeldId,
    /// What was held.
    pub held: NewHeld,
}

/// A key with held events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldKey {
    /// The hash of the key.
    pub hash: u64,
    /// How many events of the key are held.
    pub count: u64,
}

/// The owner of a partition in a flow: whoever adopted it last. What it settles carries this, so that one who has lost the
/// partition without knowing it changes nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The flow.
    pub flow: FlowName,
    /// The partition.
    pub partition: Partition,
    /// Tells it from the owners before.
    pub epoch: Epoch,
}

/// A partition that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Who owns it from now on.
    pub owner: Owner,
    /// Its held keys, in any order.
    pub keys: Vec<HeldKey>,
}

/// Reads held events. They are written by [`crate::Settlements`] alone.
///
/// Only the owner of a partition reads its held events for delivery, so no two workers fire one event.
#[async_trait]
pub trait HeldEvents: Send + Sync {
    /// Takes over a partition in a flow, whether it is known or not. Whoever adopted it before is fenced from now on, in this
    /// process and in others, and nothing that it settles comes between: the keys that are answered are all there are. An
    /// error leaves open whether the former owner is fenced. The lowest event of each key gets a due time (now) if it had
    /// none, which heals a head lost between two steps of a worker that died. **Cancellation**: whether it has happened is open,
    /// and it does not happen after a later call has been answered: whoever has stopped waiting, since the partition went to
    /// somebody else, takes nothing from that one.
    async fn adopt(&self, flow: &FlowName, partition: &Partition) -> Result<Adopted, StoreError>;

    /// Events with a due time until and at `until` by ascending (`due`, `id`), beyond the pair `after`: at most `limit`, and
    /// fewer where they are large; empty only when there is none. Events behind a head have no due time and are not among
    /// them.
    async fn due(
        &self,
        flow: &FlowName,
        partition: &Partition,
        until: Timestamp,
        after: Option<(Timestamp, HeldId)>,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError>;

    /// Events of one key with an id above `after`, in order, with or without a due time: at most `limit`, and fewer where they
    /// are large; empty only when there is none.
    async fn behind(
        &self,
        flow: &FlowName,
        partition: &Partition,
        key_hash: u64,
        after: HeldId,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError>;

    /// How many events the flow holds, and the earliest due time.
    async fn count(&self, flow: &FlowName) -> Result<(u64, Option<Timestamp>), StoreError>;

    /// The held deliveries of an event, over all flows, in any order.
    async fn of_event(&self, position: &Position) -> Result<Vec<HeldEvent>, StoreError>;
}
