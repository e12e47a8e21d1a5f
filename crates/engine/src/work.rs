//! One delivery on its way through a flow, while it is in memory.

use std::sync::Arc;

use crossdock_core::{
    Attempt, Delivery, Event, Fault, HeldEvent, HeldId, NewHeld, Position, ReplayItem, ReplayTicket, Tried,
    hash_key,
};
use jiff::Timestamp;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{flow::Flow, lanes::KeyHash, plan::Order};

/// Tries that are remembered one by one: the first ones and the latest. Those in between are counted in the `times` of the
/// oldest of the latest ones.
const ATTEMPTS_MAX: usize = 50;
const ATTEMPTS_FIRST: usize = 10;

/// Where a delivery came from: what must be told when it is finished.
pub(crate) enum Origin {
    /// The broker; its offset is completed.
    Broker(Delivery),
    /// The store; its row is removed.
    Held(HeldId),
    /// A replay; its item is marked.
    Replay,
}

/// An item of a replay that is sent again.
pub(crate) struct Resend {
    pub(crate) item: ReplayItem,
    /// Whether the replay is over. Then the item is open again, or settled, and is not sent any more.
    pub(crate) over: CancellationToken,
    /// Who waits for the result, if it is a test.
    pub(crate) test: Option<oneshot::Sender<Tried>>,
}

/// One delivery: an event, its flow's key for it, and what was tried so far.
pub(crate) struct Work {
    pub(crate) origin: Origin,
    pub(crate) event: Arc<Event>,
    pub(crate) position: Position,
    pub(crate) key: Option<String>,
    /// Counted attempts.
    pub(crate) tried: u32,
    pub(crate) first_tried_at: Option<Timestamp>,
    pub(crate) attempts: Vec<Attempt>,
    /// Since when it is in memory.
    pub(crate) since: Instant,
    /// Tries in a row that the connection's credential was refused for this event.
    pub(crate) auth_tries: u32,
    pub(crate) replay: Option<ReplayTicket>,
    /// Whether the replay that sends it is over; none for what comes from the broker or was held.
    over: Option<CancellationToken>,
    /// How often the dead letter was replayed before.
    pub(crate) replays: u32,
    /// Key or filter could not be evaluated: the step and why. The only attempt fails with it.
    pub(crate) refused: Option<(&'static str, Fault)>,
    /// A test: one try, whatever the schedule says, and somebody waits for its result.
    pub(crate) test: Option<oneshot::Sender<Tried>>,
}

impl Work {
    /// A delivery fresh from the broker.
    pub(crate) fn from_broker(
        delivery: Delivery,
        key: Option<String>,
        refused: Option<(&'static str, Fault)>,
    ) -> Self {
        let (event, position) = (delivery.event.clone(), delivery.position.clone());
        Self { key, refused, ..Self::new(Origin::Broker(delivery), event, position) }
    }

    /// A held event that comes due.
    pub(crate) fn from_held(held: HeldEvent) -> Self {
        let HeldEvent { id, held } = held;
        Self {
            key: held.key,
            tried: held.tried,
            first_tried_at: held.first_tried_at,
            attempts: held.attempts,
            replay: held.replay,
            ..Self::new(Origin::Held(id), held.event, held.position)
        }
    }

    /// A dead letter that is sent again. It starts anew: attempts and age count from this replay on.
    pub(crate) fn from_replay(Resend { item, over, test }: Resend) -> Self {
        let ReplayItem { ticket, letter } = item;
        Self {
            key: letter.key,
            attempts: letter.attempts,
            replay: Some(ticket),
            over: Some(over),
            replays: letter.replays,
            test,
            ..Self::new(Origin::Replay, letter.event, letter.position)
        }
    }

    fn new(origin: Origin, event: Arc<Event>, position: Position) -> Self {
        Self {
            origin,
            event,
            position,
            key: None,
            tried: 0,
            first_tried_at: None,
            attempts: Vec::new(),
            since: Instant::now(),
            auth_tries: 0,
            replay: None,
            over: None,
            replays: 0,
            refused: None,
            test: None,
        }
    }

    /// The lane: the key's, or one of its own where no order is kept.
    pub(crate) fn lane(&self, order: Order) -> KeyHash {
        match (&self.key, order) {
            (Some(key), Order::Key) => hash_key(key),
            _ => self.position.offset,
        }
    }

    /// Whether it is not to be sent any more: its replay was cancelled while it was in memory.
    pub(crate) fn is_called_off(&self) -> bool {
        self.over.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// What memory it takes, for budgets.
    pub(crate) fn weight(&self) -> usize {
        self.event.weight() + 256
    }

    /// The row that keeps it in the store.
    pub(crate) fn to_held(&self, flow: &Flow, due: Option<Timestamp>) -> NewHeld {
        NewHeld {
            flow: flow.plan.name.clone(),
            position: self.position.clone(),
            key: self.key.clone(),
            key_hash: self.lane(flow.plan.order),
            event: self.event.clone(),
            attempts: self.attempts.clone(),
            tried: self.tried,
            first_tried_at: self.first_tried_at,
            due,
            replay: self.replay.clone(),
        }
    }

    /// Remembers a try. Tries that do not count and end like the one before are folded into it.
    pub(crate) fn record(&mut self, attempt: Attempt, counted: bool) {
        if !counted
            && let Some(last) = self.attempts.last_mut()
            && (last.n, last.class, last.status, &last.code)
                == (attempt.n, attempt.class, attempt.status, &attempt.code)
        {
            last.times += 1;
            (last.at, last.duration_ms) = (attempt.at, attempt.duration_ms);
            return;
        }
        self.attempts.push(attempt);
        if self.attempts.len() > ATTEMPTS_MAX {
            let left_out = self.attempts.remove(ATTEMPTS_FIRST);
            let gap = &mut self.attempts[ATTEMPTS_FIRST];
            gap.times = gap.times.saturating_add(left_out.times);
        }
    }

    /// The held row, if it stands in the store.
    pub(crate) fn held_id(&self) -> Option<HeldId> {
        match self.origin {
            Origin::Held(id) => Some(id),
            Origin::Broker(_) | Origin::Replay => None,
        }
    }
}
