//! Dead letters: deliveries that will not be tried again by themselves.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Act, Attempt, Class, ConnectionName, Event, FlowName, MappedRequest, Page, PageRequest, Position,
    StoreError,
};

/// The id of a dead letter: `d` and 26 characters, ascending in time.
pub type DeadLetterId = String;

/// The id of a failure group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(String);

impl GroupId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for GroupId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a dead letter stands.
///
/// `open → replaying → replayed`, `open → discarded`; a replay that fails or is cancelled brings it back to `open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// Waits for a person.
    Open,
    /// Belongs to a replay that has not finished with it.
    Replaying,
    /// A replay delivered it.
    Replayed,
    /// A named person gave it up.
    Discarded,
}

impl LetterState {
    /// The name in API and store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Open, Self::Replaying, Self::Replayed, Self::Discarded]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// A dead letter, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// Where it stands.
    pub state: LetterState,
    /// The failure group.
    pub group: GroupId,
    /// The flow.
    pub flow: FlowName,
    /// Where in the flow it failed: `key`, `filter`, `map`, `call`.
    pub step: String,
    /// The connection of the flow.
    pub connection: ConnectionName,
    /// The action of the flow.
    pub action: String,
    /// Where the event stands in the broker.
    pub position: Position,
    /// The key whose order is kept in the flow.
    pub key: Option<String>,
    /// The event, with its payload and attributes.
    pub event: Arc<Event>,
    /// The request that it was mapped to, if mapping succeeded.
    pub request: Option<MappedRequest>,
    /// The id that every try of this delivery sends, replays included.
    pub idempotency_key: String,
    /// The class of the last fault.
    pub class: Class,
    /// The status of the last fault.
    pub status: Option<u16>,
    /// The code of the last fault.
    pub code: Option<String>,
    /// The message of the last fault.
    pub message: String,
    /// Why it is not tried again, for people.
    pub reason: String,
    /// What an operator should do.
    pub advice: Option<String>,
    /// Every try, oldest first.
    pub attempts: Vec<Attempt>,
    /// When it became a dead letter, the last time.
    pub failed_at: Timestamp,
    /// How often it was replayed: delivered or failed again, not skipped.
    pub replays: u32,
}

/// A dead letter as it stands in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LetterSummary {
    /// Its id.
    pub id: DeadLetterId,
    /// Where it stands.
    pub state: LetterState,
    /// The failure group.
    pub group: GroupId,
    /// The id of the event.
    pub event: String,
    /// The type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// The key.
    pub key: Option<String>,
    /// The flow.
    pub flow: FlowName,
    /// The connection.
    pub connection: ConnectionName,
    /// The class of the last fault.
    pub class: Class,
    /// The status of the last fault.
    pub status: Option<u16>,
    /// The code of the last fault.
    pub code: Option<String>,
    /// The message of the last fault.
    pub message: String,
    /// How many tries there were.
    pub attempts: u32,
    /// How often it was replayed.
    pub replays: u32,
    /// When it became a dead letter.
    pub failed_at: Timestamp,
}

/// Dead letters with one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureGroup {
    /// The fingerprint's id.
    pub id: GroupId,
    /// Dead letters of the group that the selection has.
    pub count: u64,
    /// `open` while any dead letter of the group is; otherwise `replaying`, then `replayed`, then `discarded`.
    pub state: LetterState,
    /// The flow.
    pub flow: FlowName,
    /// The connection.
    pub connection: ConnectionName,
    /// The step.
    pub step: String,
    /// The action.
    pub action: String,
    /// The class.
    pub class: Class,
    /// The status.
    pub status: Option<u16>,
    /// The vendor's code.
    pub code: Option<String>,
    /// The message of the latest one.
    pub message: String,
    /// What an operator should do.
    pub advice: Option<String>,
    /// When the first dead letter of the group failed, whatever became of it.
    pub first_at: Timestamp,
    /// When the last one failed.
    pub last_at: Timestamp,
}

/// Which dead letters. Every condition that is set must hold; none set means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// One of these groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupId>,
    /// One of these dead letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<DeadLetterId>,
    /// One of these events, by event id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// The flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowName>,
    /// The connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionName>,
    /// The class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The state; where nothing is said, `open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<LetterState>,
    /// Failed at or after this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Reads dead letters and takes what people decide about them. They are written by [`crate::Settlements`].
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Failure groups of which the selection has any, the largest first, then by id.
    async fn groups(
        &self,
        selection: &Selection,
        page: PageRequest,
    ) -> Result<Page<FailureGroup>, StoreError>;

    /// Dead letters by descending `failed_at`; of one moment, in an order that stays. What is in the selection all the
    /// while stands on one page once, whatever is written between two pages.
    async fn list(&self, selection: &Selection, page: PageRequest)
    -> Result<Page<LetterSummary>, StoreError>;

    /// How many a selection has.
    async fn count(&self, selection: &Selection) -> Result<u64, StoreError>;

    /// One dead letter, whole. `id` is its own id or, where only one delivery of the event died, the event's; where
    /// several did, [`StoreError::Conflict`] with their ids.
    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError>;

    /// The dead letters of an event, over all flows.
    async fn of_event(&self, position: &Position) -> Result<Vec<LetterSummary>, StoreError>;

    /// Gives up every open dead letter of the selection and writes the act to the audit table, in one transaction.
    /// Returns how many; none if the selection asks for another state.
    async fn discard(&self, selection: &Selection, act: &Act) -> Result<u64, StoreError>;
}
