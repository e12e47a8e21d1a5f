//! SQLite's errors in the words of the ports.

use crossdock_core::{PublishError, StoreError};

/// The file's name in messages about damage.
pub(crate) const FILE: &str = "crossdock.db";

/// Why a store that was closed does nothing.
pub(crate) const CLOSED: &str = "the embedded store is closed";
/// Why a store whose writer died does nothing.
pub(crate) const WRITER_ENDED: &str = "the writer of the embedded store has ended: restart the process";

/// What an SQLite error says about the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The content of the file cannot be read.
    Damaged,
    /// Disk full, read-only, an I/O error, no connection: any other write would fail as well.
    Environment,
    /// This statement alone.
    Statement,
}

/// Sorts an error by its primary result code (<https://www.sqlite.org/rescode.html>).
pub(crate) fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
            match code & 0xff {
                11 | 26 => Kind::Damaged, // CORRUPT, NOTADB
                // BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN, PROTOCOL
                5..=8 | 10 | 13..=15 => Kind::Environment,
                _ => Kind::Statement,
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Kind::Damaged,
        _ => Kind::Environment,
    }
}

/// The disk is full. A commit that fails with it has not happened: its last frame never came to the file.
pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    const FULL: i32 = 13;
    let code =
        |error: &dyn sqlx::error::DatabaseError| error.code().and_then(|code| code.parse::<i32>().ok());
    error.as_database_error().and_then(code).is_some_and(|code| code & 0xff == FULL)
}

/// The error for a store port.
pub(crate) fn store_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    match kind(&error) {
        Kind::Damaged => damaged(&text(&error)),
        Kind::Environment | Kind::Statement => StoreError::Unavailable { doing, source: Box::new(error) },
    }
}

/// What is stored cannot be read.
pub(crate) fn damaged(why: &str) -> StoreError {
    StoreError::Damaged(format!("{FILE}: {why}"))
}

/// The error for an event that could not be written.
pub(crate) fn publish_error(error: &sqlx::Error) -> PublishError {
    PublishError::Unavailable(text(error))
}

/// What went wrong, for people.
pub(crate) fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

/// A store error that several requests get.
pub(crate) fn share(doing: &'static str, error: &sqlx::Error) -> StoreError {
    match kind(error) {
        Kind::Damaged => damaged(&text(error)),
        _ => StoreError::Unavailable { doing, source: text(error).into() },
    }
}

/// The same for a commit that may have happened.
pub(crate) fn unknown(doing: &'static str, error: &sqlx::Error) -> StoreError {
    let source = format!("{}; it is not known whether it was done", text(error)).into();
    StoreError::Unavailable { doing, source }
}

/// The answer of a store that was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable { doing: "reaching the embedded store", source: CLOSED.into() }
}

/// The answer of a store whose writer died.
pub(crate) fn writer_ended() -> StoreError {
    StoreError::Unavailable { doing: "reaching the embedded store", source: WRITER_ENDED.into() }
}
