//! A database of its own for a test or a row of the benchmark, in the Postgres that all of them share.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;
use url::Url;

/// Nothing here runs for so long: a database that is older was left behind by a process that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(3 * 60 * 60);
/// How long making or dropping one may take on a busy machine: both wait for a checkpoint.
const LIMIT: Duration = Duration::from_secs(60);

/// Dropped with its value, whoever is still connected to it, also where a test fails.
#[derive(Debug)]
pub struct Database {
    server: Url,
    name: String,
    url: String,
}

impl Database {
    /// A new and empty one on the server that this URL leads to. Its name begins with `kind`, which is lower case; others of
    /// that kind that were left behind go.
    pub async fn create(server: &str, kind: &str) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = Url::parse(server).context("the address of Postgres")?;
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = format!("{kind}_{}_{process}_{number}", seconds_now());
        let mut url = server.clone();
        url.set_path(&name);
        let make = async {
            let mut connection = PgConnection::connect(server.as_str()).await?;
            drop_left_behind(&mut connection, kind).await?;
            run(&mut connection, format!("CREATE DATABASE {name}")).await
        };
        timeout(LIMIT, make)
            .await
            .context("Postgres does not answer")?
            .context("failed to make a database")?;
        Ok(Self { server, name, url: url.into() })
    }

    /// Its name, which topics and queues of the same test may begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread of its own: nothing can be waited for in that of the test.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { timeout(LIMIT, drop_on(&server, &name)).await })??;
            anyhow::Ok(())
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("the database {} was left behind: {error:#}", self.name),
            Err(_) => eprintln!("the database {} was left behind", self.name),
        }
    }
}

async fn drop_on(server: &Url, name: &str) -> Result<(), sqlx::Error> {
    match PgConnection::connect(server.as_str()).await {
        Ok(mut connection) => run(&mut connection, drop_statement(name)).await,
        // A server of the test's own is gone, and what it had with it.
        Err(sqlx::Error::Io(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn drop_left_behind(connection: &mut PgConnection, kind: &str) -> Result<(), sqlx::Error> {
    let of_kind = sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)");
    let names: Vec<String> = of_kind.bind(format!("{kind}_")).fetch_all(&mut *connection).await?;
    for name in names.iter().filter(|name| is_left_behind(name)) {
        // Of two tests that are at it one is faster.
        let _ = run(connection, drop_statement(name)).await;
    }
    Ok(())
}

/// By the moment in its name.
fn is_left_behind(name: &str) -> bool {
    let made: Option<u64> = name.rsplit('_').nth(2).and_then(|seconds| seconds.parse().ok());
    made.is_some_and(|made| made + LEFT_BEHIND.as_secs() < seconds_now())
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}
