//! What people do, and what they are answered.

use std::{future::Future, panic::resume_unwind};

use crossdock_core::{Attempt, Outcome, ReplayState, StoreError};
use serde::Serialize;

/// Why an act of a person was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such connection, replay, dead letter…: 404.
    #[error("no {what} `{id}`")]
    NotFound {
        /// The noun.
        what: &'static str,
        /// The name or id that was given.
        id: String,
    },
}

/// What a test of one dead letter came to.
#[derive(Debug, Clone, Serialize)]
pub struct TestResult {
    /// The dead letter that was sent.
    pub dead_letter: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The try.
    pub attempt: Attempt,
}

/// A change to a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReplayChange {
    /// Pause, resume or cancel it.
    State(ReplayState),
    /// Change its rate; none is as fast as the lanes take them.
    Rate(Option<f64>),
}

/// Runs an act to its end, also when the client that asked for it goes away in the middle: what the store was told and what
/// is in memory would differ otherwise.
pub(crate) async fn to_the_end<T: Send + 'static>(act: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(act).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is being shut down, and we with it.
            Err(_) => std::future::pending().await,
        },
    }
}
