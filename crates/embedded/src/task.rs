//! Changes that somebody waits for, each undone by itself.

use std::{any::Any, panic::AssertUnwindSafe};

use crossdock_core::StoreError;
use futures::{FutureExt, future::BoxFuture};
use sqlx::SqliteConnection;

use crate::errors::{self, Kind};

/// A change that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite refused.
    Sql(sqlx::Error),
    /// The port's own refusal: nothing is wrong with the file.
    Refused(StoreError),
}

impl Failure {
    /// The error of a port.
    pub(crate) fn into_store_error(self, doing: &'static str) -> StoreError {
        match self {
            Self::Sql(error) => errors::store_error(doing, error),
            Self::Refused(error) => error,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// A change that somebody waits for.
pub(crate) trait Task: Send {
    /// Makes the change inside the transaction.
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Result<(), Failure>>;
    /// Answers, after the commit or instead of it.
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
    /// What it does, for errors.
    fn doing(&self) -> &'static str;
}

/// Runs a task so that it alone is undone if it refuses, fails or panics. An error means that the transaction cannot go on.
pub(crate) async fn run_in_savepoint(
    connection: &mut SqliteConnection,
    task: &mut Box<dyn Task>,
) -> Result<Result<(), StoreError>, sqlx::Error> {
    savepoint(connection, "SAVEPOINT task").await?;
    let refused = match AssertUnwindSafe(task.run(connection)).catch_unwind().await {
        Ok(Ok(())) => {
            savepoint(connection, "RELEASE task").await?;
            return Ok(Ok(()));
        }
        Ok(Err(Failure::Refused(error))) => error,
        Ok(Err(Failure::Sql(error))) if errors::kind(&error) == Kind::Environment => return Err(error),
        Ok(Err(Failure::Sql(error))) => errors::share(task.doing(), &error),
        Err(panic) => {
            let (doing, why) = (task.doing(), text_of(panic.as_ref()));
            tracing::error!(
                doing,
                panic = why,
                "a change to the embedded store panicked and was undone: this is a bug"
            );
            StoreError::Unavailable { doing, source: format!("the change panicked: {why}").into() }
        }
    };
    savepoint(connection, "ROLLBACK TO task").await?;
    savepoint(connection, "RELEASE task").await?;
    Ok(Err(refused))
}

async fn savepoint(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}
