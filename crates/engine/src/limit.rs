//! How long a port is waited for. One that does not answer has failed, so that it is said and tried again.

use std::time::Duration;

use crossdock_core::StoreError;

/// How long a store may take for one question or one act; longer than it waits for its disk.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Waits for a store. Without an answer it is not known whether a change was made.
pub(crate) async fn within<T>(
    doing: &'static str,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within_time(ANSWER_MAX, doing, answer).await
}

/// The same with another limit.
pub(crate) async fn within_time<T>(
    limit: Duration,
    doing: &'static str,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let source = format!("no answer within {} s", limit.as_secs()).into();
        Err(StoreError::Unavailable { doing, source })
    })
}
