//! Transactions that are done again where Postgres says that they got in another one's way.

use std::time::Duration;

use crossdock_core::StoreError;
use futures::future::BoxFuture;
use sqlx::{Connection, PgConnection};

use crate::{Failure, Postgres, errors, pool::Purpose};

/// How often a transaction is tried; of two that are in each other's way one always gets through.
const TRIES: u32 = 8;

/// A transaction waits for its client for moments only. One whose client was frozen in the middle keeps what it has locked no
/// longer than this: the next owner of its partition waits for it.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// The same for what people ask for that may touch a million rows.
const BEGIN_LONG: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s';
    SET LOCAL statement_timeout = '130s'; SET LOCAL enable_bitmapscan = on";
const LONG: Duration = Duration::from_secs(120);

/// How long a transaction may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// As long as any call.
    Usual,
    /// Two minutes: what people ask for may touch a million rows.
    Long,
}

impl Postgres {
    /// Changes something in a transaction: all of it or nothing. `change` may be called several times, each time with nothing
    /// of the former one done.
    pub(super) async fn transact<T, F>(
        &self,
        (purpose, length): (Purpose, Length),
        doing: &'static str,
        change: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + Sync + 'static,
    {
        let (limit, begin) = match length {
            Length::Usual => (self.options().call_timeout, BEGIN),
            Length::Long => (LONG.max(self.options().call_timeout), BEGIN_LONG),
        };
        let pools = &self.inner.pools;
        pools
            .call_within(limit, purpose, doing, move |connection| {
                Box::pin(until_through(connection, begin, change))
            })
            .await
    }

    /// The same for a change of the usual length for deliveries.
    pub(super) async fn write<T, F>(&self, doing: &'static str, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + Sync + 'static,
    {
        self.transact((Purpose::Delivery, Length::Usual), doing, change).await
    }
}

async fn until_through<T, F>(
    connection: &mut PgConnection,
    begin: &'static str,
    change: F,
) -> Result<T, Failure>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>,
{
    for tried in 1.. {
        match once(connection, begin, &change).await {
            Err(Failure::Sql(error)) if tried < TRIES && was_in_the_way(&error) => {
                tokio::time::sleep(Duration::from_millis(u64::from(3 * tried))).await;
            }
            result => return result,
        }
    }
    unreachable!("the last try returns")
}

async fn once<T, F>(connection: &mut PgConnection, begin: &'static str, change: &F) -> Result<T, Failure>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>,
{
    let mut transaction = connection.begin_with(begin).await?;
    match change(&mut transaction).await {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(failure) => {
            // Of a connection that is lost nothing can be undone, and nothing needs to be.
            let _ = transaction.rollback().await;
            Err(failure)
        }
    }
}

/// Serialization failure, deadlock; a row that another transaction has written after we had found none, or the other way
/// round.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn was_in_the_way(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::RowNotFound)
        || matches!(errors::code(error).as_deref(), Some("40001" | "40P01" | "23505"))
}
