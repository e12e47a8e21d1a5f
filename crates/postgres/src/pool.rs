//! Connections: a bounded pool for each purpose, so that a slow question of one kind never waits for another kind's turn.
//!
//! A call to the database runs in a task of its own and is waited for: whoever asked may be dropped at any moment (a closed
//! HTTP request, a `select!`), the connection is not. Each call has a time limit here and a longer one in the server, and
//! the connection of a call that ran out of time is closed without a word.

use std::time::Duration;

use crossdock_core::StoreError;
use futures::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, PgPool,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    PostgresOptions,
    errors::{self, Failure},
};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading the outbox, moving its cursor, making and dropping its partitions.
    Relay,
    /// Settling deliveries, held events, leases.
    Delivery,
    /// What people ask for: lists, replays, checks.
    Admin,
    /// Appending events that came in.
    Intake,
}

/// The pools.
pub(crate) struct Pools {
    relay: PgPool,
    delivery: PgPool,
    admin: PgPool,
    intake: PgPool,
    limit: Duration,
}

/// How long to wait for a free connection, or for a new one.
const ACQUIRE_MAX: Duration = Duration::from_secs(4);
/// How long a question may take that only asks whether the connection lives.
const PING_MAX: Duration = Duration::from_secs(2);
/// A connection that was used a moment ago is not asked whether it lives.
const FRESH: Duration = Duration::from_secs(5);
/// Connections are made anew after this time: addresses change, and the server's memory for each grows.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);
/// Beside the reader's own: for the cursor, for partitions, and for the status.
const RELAY_CONNECTIONS: u32 = 4;
/// Statements of the stores take rows from an index, a page at a time and in its order. A planner that knows a table from before
/// a bad day, when it was empty, would rather read all that matches and sort it: a hundred times as much for each page.
/// Sequential scans stay: to forbid one that cannot be avoided, of a table of three rows, hides what everything else costs.
const BY_INDEX: [(&str, &str); 1] = [("enable_bitmapscan", "off")];
/// One writer, and one that asks how far the relay is.
const INTAKE_CONNECTIONS: u32 = 2;

impl Pools {
    /// Connects when the first connection is asked for.
    pub(crate) fn new(options: &PostgresOptions) -> Self {
        let limit = options.call_timeout;
        let pool = |connections: u32, purpose: &str, settings: &[(&str, &str)]| {
            let name = format!("{}/{purpose}", options.application_name);
            let connect = options.connect.clone().application_name(&name).options(settings.iter().copied());
            pool(connections, limited(connect, limit))
        };
        Self {
            relay: pool(RELAY_CONNECTIONS, "relay", &[]),
            delivery: pool(options.pool, "delivery", &BY_INDEX),
            admin: pool(options.admin_pool, "admin", &BY_INDEX),
            intake: pool(INTAKE_CONNECTIONS, "intake", &[]),
            limit,
        }
    }

    /// How many connections the hub may open from here.
    pub(crate) fn connections(options: &PostgresOptions) -> u32 {
        RELAY_CONNECTIONS + INTAKE_CONNECTIONS + options.pool + options.admin_pool
    }

    pub(crate) fn of(&self, purpose: Purpose) -> &PgPool {
        match purpose {
            Purpose::Relay => &self.relay,
            Purpose::Delivery => &self.delivery,
            Purpose::Admin => &self.admin,
            Purpose::Intake => &self.intake,
        }
    }

    /// Closes all connections once they are given back.
    pub(crate) async fn close(&self) {
        let pools = [&self.relay, &self.delivery, &self.admin, &self.intake];
        let closing = futures::future::join_all(pools.map(PgPool::close));
        // One that hangs is left to the end of the process.
        let _ = tokio::time::timeout(Duration::from_secs(5), closing).await;
    }

    /// Asks the database something on one connection, for at most the usual time.
    pub(crate) async fn call<T, F>(
        &self,
        purpose: Purpose,
        doing: &'static str,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + 'static,
    {
        self.call_within(self.limit, purpose, doing, work).await
    }

    /// Like `call`, with another limit.
    pub(crate) async fn call_within<T, F>(
        &self,
        limit: Duration,
        purpose: Purpose,
        doing: &'static str,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + 'static,
    {
        let pool = self.of(purpose).clone();
        let called = tokio::spawn(async move {
            let connection = pool.acquire().await?;
            on(connection, limit, work).await
        });
        match called.await {
            Ok(result) => result.map_err(|failure| failure.into_store_error(doing)),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Unavailable { doing, source: "the process is ending".into() }),
        }
    }
}

/// Does something on a connection, which is closed if it may answer late.
pub(crate) async fn on<T, F>(
    mut connection: PoolConnection<sqlx::Postgres>,
    limit: Duration,
    work: F,
) -> Result<T, Failure>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>,
{
    let result = tokio::time::timeout(limit, work(&mut connection)).await;
    let result = result.unwrap_or_else(|_| Err(errors::timed_out(limit).into()));
    match &result {
        Err(Failure::Sql(error)) if !errors::keeps_connection(error) => discard(connection),
        _ => give_back(connection),
    }
    result
}

/// Gives a connection back. The pool asks the server once whether it is in order, and waits for that without an end: if no answer
/// comes, the connection would be neither used nor missed.
fn give_back(mut connection: PoolConnection<sqlx::Postgres>) {
    let returned = connection.return_to_pool();
    tokio::spawn(async move {
        if tokio::time::timeout(PING_MAX, returned).await.is_err() {
            tracing::debug!("a connection to the database led nowhere and was closed");
        }
    });
}

/// Closes a connection at once, without asking the server.
pub(crate) fn discard(connection: PoolConnection<sqlx::Postgres>) {
    drop(connection.detach());
}

/// Second line of defence, in the server: a statement whose client went away ends by itself.
fn limited(connect: PgConnectOptions, limit: Duration) -> PgConnectOptions {
    let milliseconds = |time: Duration| time.as_millis().to_string();
    let statement = milliseconds(limit + Duration::from_secs(5));
    connect.options([
        ("statement_timeout", statement.as_str()),
        ("idle_in_transaction_session_timeout", "60000"),
        ("tcp_keepalives_idle", "15"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("jit", "off"),
    ])
}

fn pool(connections: u32, connect: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_MAX)
        // Whoever waits for long is told by an error, and the log by whoever gets it.
        .acquire_slow_threshold(ACQUIRE_MAX)
        .idle_timeout(Duration::from_secs(5 * 60))
        .max_lifetime(LIFETIME_MAX)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for < FRESH {
                    return Ok(true);
                }
                Ok(matches!(tokio::time::timeout(PING_MAX, connection.ping()).await, Ok(Ok(()))))
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                // After a failover the address may lead to a standby for a while: its rows are old and its numbers may differ.
                let standby: bool =
                    sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection).await?;
                if standby { Err(sqlx::Error::Configuration(STANDBY.into())) } else { Ok(()) }
            })
        })
        .connect_lazy_with(connect)
}

/// Why a replica is refused.
pub(crate) const STANDBY: &str = "the server is a replica: it only reads; name the primary server";
