//! The state of connections, as it is kept over restarts.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Act, ConnectionName, StoreError};

/// Where a connection stands. Anything but `ok` stops the clock: no attempt is counted, nothing is dead-lettered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Events flow.
    Ok,
    /// The other side asked for a pause; it ends by itself.
    Throttled,
    /// Too many failures in a row; real events probe it from time to time.
    CircuitOpen,
    /// The credential is refused; a person must mend it. Real events probe it from time to time.
    NeedsAuth,
    /// A person paused it.
    Paused,
}

impl ConnectionState {
    /// The name in API and store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::CircuitOpen => "circuit_open",
            Self::NeedsAuth => "needs_auth",
            Self::Paused => "paused",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Ok, Self::Throttled, Self::CircuitOpen, Self::NeedsAuth, Self::Paused];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

/// What is kept of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConnection {
    /// Its name.
    pub name: ConnectionName,
    /// The state that outlives a restart: `ok`, `needs_auth` or `paused`.
    pub state: ConnectionState,
    /// Why, for people.
    pub detail: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// Keeps the states that outlive a restart.
#[async_trait]
pub trait Connections: Send + Sync {
    /// Every connection that was ever written, in any order, as it was written last.
    async fn load(&self) -> Result<Vec<StoredConnection>, StoreError>;

    /// Writes one, and answers with what stands from then on.
    ///
    /// With an act, a person wants it so: it is written whatever is there, and the audit entry goes into the same transaction.
    /// Without one it is what a worker has found out, which neither ends a pause nor begins one: where the store has `paused` and
    /// the new state is another one, or the other way round, what is there stays, also if the two writes come at the same time.
    async fn save(
        &self,
        connection: &StoredConnection,
        act: Option<&Act>,
    ) -> Result<StoredConnection, StoreError>;
}
