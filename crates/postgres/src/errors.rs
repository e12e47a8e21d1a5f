//! Errors of Postgres in the words of the ports.

use std::time::Duration;

use crossdock_core::StoreError;

/// Why something that was asked of the database did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Postgres refused, or cannot be reached.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The port's own refusal: nothing is wrong with the database.
    #[error(transparent)]
    Refused(#[from] StoreError),
}

impl Failure {
    /// The error of a port.
    pub fn into_store_error(self, doing: &'static str) -> StoreError {
        match self {
            Self::Sql(error) => store_error(doing, error),
            Self::Refused(error) => error,
        }
    }
}

/// Gives a future of the database so much time, then drops it with an error of the kind that a lost connection gives. The
/// connection that it used must be closed: it may answer late.
pub async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| Err(timed_out(limit)))
}

pub(crate) fn timed_out(limit: Duration) -> sqlx::Error {
    let why = format!("no answer from the database within {limit:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

/// The error of a store port.
pub(crate) fn store_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            StoreError::Damaged(format!("{doing}: {}", text(&error)))
        }
        _ if leaves_open(&error) => {
            let source = format!("{}; it is not known whether it was done", text(&error)).into();
            StoreError::Unavailable { doing, source }
        }
        _ => StoreError::Unavailable { doing, source: text(&error).into() },
    }
}

/// Whether the connection can be used again after this error: the server has answered, and will answer the next question.
pub(crate) fn keeps_connection(error: &sqlx::Error) -> bool {
    match error {
        // Class 57: operator intervention, by which the server ends the connection (57P01 to 57P05), and 25P03, where it
        // was idle in a transaction for too long: https://www.postgresql.org/docs/current/errcodes-appendix.html
        sqlx::Error::Database(error) => {
            !error.code().is_some_and(|code| code.starts_with("57P") || code == "25P03")
        }
        sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => true,
        _ => false,
    }
}

/// Whether what was asked may have been done all the same: the connection was lost after it was asked.
pub(crate) fn leaves_open(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed)
        || code(error).is_some_and(|code| code.starts_with("57P") || code == "08007")
}

/// The SQLSTATE, if the server gave one.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// What went wrong, for people, with what to do where the code tells.
/// Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(crate) fn text(error: &sqlx::Error) -> String {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::PoolTimedOut => "no connection became free or could be made in time".to_owned(),
            sqlx::Error::PoolClosed => "the store is closed".to_owned(),
            other => crossdock_core::chain(other),
        };
    };
    let message = database.message();
    match database.code().as_deref() {
        Some("42501") => format!("{message}; `crossdock check --online` names the GRANT that is missing"),
        Some("3F000" | "42P01" | "42883" | "42703") => format!("{message}; run `crossdock migrate`"),
        Some("53100") => format!("{message}; the disk of the database is full"),
        Some("53300") => {
            format!("{message}; raise `max_connections` of the server, or give the hub fewer connections")
        }
        _ => message.to_owned(),
    }
}
