//! Opening, and why it can be refused.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::errors;

/// The store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works with the folder.
    #[error(
        "the data folder {} is in use by the process {pid}: stop that one, or give this one another `data` folder",
        directory.display()
    )]
    InUse {
        /// The folder.
        directory: PathBuf,
        /// The process that holds it.
        pid: String,
    },
    /// The folder or a file in it cannot be used.
    #[error("cannot use {} (`data` must name a folder that this process may create and write)", path.display())]
    Unusable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is damaged.
    #[error(
        "{} is damaged: {why}. Nothing was written to it; put a copy of the folder aside and restore a backup",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file was written by a newer version.
    #[error(
        "{} was written by a newer version (schema {version}, this one knows {known}): run the newer version",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The schema of the file.
        version: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// SQLite refused.
    #[error("{} cannot be used: {doing} failed", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// What we were doing.
        doing: &'static str,
        /// SQLite's error.
        source: sqlx::Error,
    },
}

impl OpenError {
    pub(crate) fn unusable(path: &Path, source: io::Error) -> Self {
        Self::Unusable { path: path.to_owned(), source }
    }

    pub(crate) fn database(file: &Path, doing: &'static str, source: sqlx::Error) -> Self {
        let file = file.to_owned();
        match errors::kind(&source) {
            errors::Kind::Damaged => Self::Damaged { file, why: errors::text(&source) },
            _ => Self::Database { file, doing, source },
        }
    }
}
