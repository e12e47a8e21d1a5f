//! SQLite's errors in the words of the ports.

use crossdock_core::{PublishError, StoreError};

/// The file's name in messages about damage.
pub(crate) const FILE: &str = "crossdock.db";

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

/// The answer of a store that was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable { doing: "reaching the embedded store", source: "it is closed".into() }
}
