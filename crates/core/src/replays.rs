//! Replays: jobs that send a frozen set of dead letters again.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Act, Attempt, DeadLetter, DeadLetterId, FlowName, Outcome, Page, PageRequest, Partition, Selection,
    StoreError,
};

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
    /// A person stopped it; items that were neither settled nor held are open dead letters again.
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
    /// The replay was cancelled before it was settled.
    Skipped,
}

/// A replay to be made.
#[derive(Debug, Clone)]
pub struct NewReplay {
    /// Which dead letters; only open ones are taken.
    pub selection: Selection,
    /// Items a second; none means as fast as the lanes take them.
    pub rate: Option<f64>,
    /// A person tries one dead letter and waits for the result: its owner tries it once and at once, whatever the gate of its
    /// connection and the schedule of its flow say.
    pub test: bool,
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
    /// Whether it is a test of one dead letter.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
    /// What the test came to, once it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried: Option<Tried>,
}

/// What a test came to. An event that the other side has already counts as delivered, whatever its attempt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// How it ended.
    pub outcome: Outcome,
    /// The try.
    pub attempt: Attempt,
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
///
/// An item belongs to a place: the flow that failed, and the partition of its event there. The owner of the place sends it.
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

    /// Every replay that is not in a final state. Asked when a hub starts, before anything is sent, and where several workers
    /// share the store every second.
    async fn unfinished(&self) -> Result<Vec<Replay>, StoreError>;

    /// The places at which a replay has items that are pending and not held, each once, in any order, in whatever state the
    /// replay is. None of a replay that is not there.
    async fn places(&self, id: &str) -> Result<Vec<(FlowName, Partition)>, StoreError>;

    /// Items of one place that are pending and not held, in order, with a number of at least `from`, in whatever state the
    /// replay is: at most `limit`, and fewer where they are large; empty only when there is none, or no such replay.
    async fn items(
        &self,
        id: &str,
        flow: &FlowName,
        partition: &Partition,
        from: u64,
        limit: usize,
    ) -> Result<Vec<ReplayItem>, StoreError>;

    /// How many of `want` items of a replay that is there may be sent now, so that all workers together keep its rate; 0: ask
    /// again shortly. What is allowed counts as sent. Unused time is not saved up beyond a tenth of a second, or one item.
    /// The time is the store's. Without a rate, and in a store that only one process has (which keeps the rate by itself),
    /// always `want`.
    async fn allow(&self, id: &str, want: u64) -> Result<u64, StoreError>;

    /// Pauses or resumes a replay, or cancels it: pending items that are not held become open dead letters again and
    /// count as skipped, whether somebody has them in memory or not. Workers send none of them from then on; one whose call was
    /// out and is delivered after all counts as delivered. With the audit entry, in one transaction. A final state is
    /// [`StoreError::Conflict`], and so is any other wish than the three; the state that it is in changes nothing.
    async fn change(&self, id: &str, state: ReplayState, act: &Act) -> Result<Replay, StoreError>;

    /// Keeps what a test came to, for the person who waits for it, in whatever state it is: the last word counts. Of a replay
    /// that is not there nothing is kept.
    async fn tried(&self, id: &str, tried: &Tried) -> Result<(), StoreError>;

    /// Changes the rate. A final state is [`StoreError::Conflict`].
    async fn set_rate(&self, id: &str, rate: Option<f64>, act: &Act) -> Result<Replay, StoreError>;
}
