//! Settling: the one way in which deliveries change the store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Attempt, DeadLetter, HeldId, NewHeld, Owner, ReplayTicket, StoreError};

/// The request that an event was mapped to, as it is kept with a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedRequest {
    /// The action.
    pub action: String,
    /// The rendered fields of the action, for example its `path`. No secret is ever among them.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// The body.
    #[serde(skip)]
    pub body: Bytes,
}

/// One change, decided after an attempt.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// Hold these deliveries, in this order: the head of a key and all that is queued behind it, or one more event for
    /// a key that is held already. A delivery that is held already (same flow, position and id of the event) is left as it is:
    /// a topic that was made anew gives positions a second time, to other events. An item of a replay is held only by a
    /// row that carries its ticket.
    Hold(Vec<NewHeld>),
    /// A held head failed again: keep it, with one more attempt, until `due`.
    Again {
        /// Which.
        held: HeldId,
        /// All tries so far.
        attempts: Vec<Attempt>,
        /// Counted attempts so far.
        tried: u32,
        /// When the first attempt began.
        first_tried_at: Option<Timestamp>,
        /// When the next one is due.
        due: Timestamp,
    },
    /// A held or replayed delivery has reached the other side.
    Delivered {
        /// The held row to remove.
        held: Option<HeldId>,
        /// The item of a replay to mark as delivered; its dead letter becomes `replayed`. An item that was skipped meanwhile,
        /// since the replay was cancelled, counts as delivered all the same; its letter becomes `replayed` if it is still
        /// open.
        replay: Option<ReplayTicket>,
    },
    /// It will not be tried again by itself. Unique by (flow, position, id of the event). Where a letter is there already, its
    /// id stays and attempts that it does not have are added; if a replay failed, it is open again and says what it died of now. The
    /// store counts replays by itself.
    DeadLetter {
        /// The letter.
        letter: Arc<DeadLetter>,
        /// The held row to remove.
        held: Option<HeldId>,
        /// The item of a replay that failed.
        replay: Option<ReplayTicket>,
    },
}

/// A held event's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its id.
    pub id: HeldId,
    /// False if the delivery was held already: by an earlier life of the worker, or by a write whose answer was lost.
    pub new: bool,
}

/// What became of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Where the events are held, in the order given.
    Held(Vec<Placed>),
    /// Done.
    Done,
}

/// Writes what was decided.
///
/// **Durability**: when the call returns, all of it is durable and visible to every store port. **Atomicity**: each
/// settlement by itself is all or nothing. **Ownership**: with an owner whose partition somebody else has adopted since, the
/// whole call is refused with [`StoreError::Fenced`] and nothing of it is done. **What is gone**: a held row that is not there
/// any more is passed over, and an item of a replay is settled once; later word about it changes nothing, but that a skipped
/// one was delivered after all. **Content**: no text is refused, whatever
/// characters it has, since a settlement that can never be written would stop its partition. **Order**: settlements of one
/// call, and of calls that follow each other, take effect in order. **Errors**: on any other error any number of the
/// settlements may have happened; settling them again changes nothing more. **Cancellation**: the same.
#[async_trait]
pub trait Settlements: Send + Sync {
    /// Settles a batch and answers for each one, in order. Without an owner nothing is checked: for what belongs to no
    /// partition that anybody owns.
    async fn settle(&self, owner: Option<&Owner>, batch: Vec<Settlement>)
    -> Result<Vec<Settled>, StoreError>;
}
