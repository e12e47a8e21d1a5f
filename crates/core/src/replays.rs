//! Replays: jobs that send a frozen set of dead letters again.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Act, DeadLetter, DeadLetterId, Page, PageRequest, Selection, StoreError};

/// The id of a replay: `r` and 26 characters, ascending in time.
pub type ReplayId = String;

/// Where a replay stands. `running` and `paused` are not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// Sends its items.
    Running,
    /// Sends nothing until it is resumed.
    Paused,
    /// A person stopped it; items that were not sent are open dead letters again.
    Cancelled,
    /// Every item was delivered. Reached by the settlement of the last item, also while paused.
    Succeeded,
    /// Every item was tried, and at least one failed again. Reached like `Succeeded`.
    Failed,
}

impl ReplayState {
    /// The name in API and store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Running, Self::Paused, Self::Cancelled, Self::Succeeded, Self::Failed];
        all.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Succeeded | Self::Failed)
    }
}

/// Where one item of a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Not settled yet.
    Pending,
    /// Delivered.
    Delivered,
    /// Dead again.
    Failed,
    /// The replay was cancelled before it was sent.
    Skipped,
}

/// A replay to be made.
#[derive(Debug, Clone)]
pub struct NewReplay {
    /// Which dead letters; only open ones are taken.
    pub selection: Selection,
    /// Items a second; none means as fast as the lanes take them.
    pub rate: Option<f64>,
    /// Who and why.
    pub act: Act,
}

/// A replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Where it stands.
    pub state: ReplayState,
    /// Which dead letters were asked for.
    pub selection: Selection,
    /// Items a second.
    pub rate: Option<f64>,
    /// Who asked for it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Items in the frozen set.
    pub total: u64,
    /// Items that were delivered.
    pub delivered: u64,
    /// Items that are dead again.
    pub failed: u64,
    /// Items that were not sent because the replay was cancelled.
    pub skipped: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it came to its final state.
    pub finished_at: Option<Timestamp>,
}

/// What a delivery carries while it belongs to a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayTicket {
    /// The replay.
    pub replay: ReplayId,
    /// The item's number in it, from 0, in the order of the events.
    pub item: u64,
    /// The dead letter that is sent again.
    pub letter: DeadLetterId,
}

/// An item of a replay, ready to be sent.
#[derive(Debug, Clone)]
pub struct ReplayItem {
    /// Its place in the replay.
    pub ticket: ReplayTicket,
    /// What is sent again.
    pub letter: DeadLetter,
}

/// Keeps replays. Items are settled by [`crate::Settlements`].
#[async_trait]
pub trait Replays: Send + Sync {
    /// Freezes the open dead letters of the selection, in the order of their events in each partition, and makes the
    /// replay: one transaction with the audit entry. A dead letter belongs to one replay at a time. An empty set is
    /// [`StoreError::Conflict`].
    async fn create(&self, replay: NewReplay) -> Result<Replay, StoreError>;

    /// One replay.
    async fn get(&self, id: &str) -> Result<Option<Replay>, StoreError>;

    /// Replays, the newest first.
    async fn list(&self, page: PageRequest) -> Result<Page<Replay>, StoreError>;

    /// Every replay that is not in a final state. Asked once when a hub starts, before anything is sent: what an earlier
    /// life had in its lanes of a replay that was cancelled meanwhile is given back by then, as [`Replays::change`] says.
    async fn unfinished(&self) -> Result<Vec<Replay>, StoreError>;

    /// Items that are pending and not held, in order, with a number of at least `from`, in whatever state the replay is: at
    /// most `limit`, and fewer where they are large; empty only when there is none, or no such replay.
    async fn items(&self, id: &str, from: u64, limit: usize) -> Result<Vec<ReplayItem>, StoreError>;

    /// Pauses or resumes a replay, or cancels it: pending items that are not held become open dead letters again and
    /// count as skipped; `sent` names those (below this number) that are in the lanes and will be settled. With the
    /// audit entry, in one transaction. A final state is [`StoreError::Conflict`], and so is any other wish than the
    /// three; the state that it is in changes nothing.
    async fn change(&self, id: &str, state: ReplayState, sent: u64, act: &Act) -> Result<Replay, StoreError>;

    /// Changes the rate. A final state is [`StoreError::Conflict`].
    async fn set_rate(&self, id: &str, rate: Option<f64>, act: &Act) -> Result<Replay, StoreError>;
}
