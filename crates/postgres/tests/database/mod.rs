//! A database of one test, in the shared Postgres that `make up` starts.

use std::sync::atomic::{AtomicU64, Ordering};

use crossdock_postgres::{Postgres, PostgresOptions};
use crossdock_testkit::services;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Dropped with its value.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// An empty one.
    pub async fn create() -> Self {
        Self::create_on(&services::postgres()).await
    }

    /// An empty one on another server.
    pub async fn create_on(server: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let moment = jiff::Timestamp::now().as_microsecond();
        let name = format!("crossdock_test_{}_{moment}_{number}", std::process::id());
        run(server, &format!("CREATE DATABASE {name}")).await;
        Self { server: server.to_owned(), name }
    }

    /// Its address.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("the address names a database");
        format!("{server}/{}", self.name)
    }

    /// Its name as SQL takes it.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.name)
    }

    /// Options for it.
    pub fn options(&self) -> PostgresOptions {
        PostgresOptions::parse(&self.url(), []).expect("the address can be read")
    }

    /// Opened, with tables.
    pub async fn open(&self, options: PostgresOptions) -> Postgres {
        let postgres = Postgres::open(options).await.expect("the database opens");
        postgres.migrate().await.expect("the database is migrated");
        postgres
    }

    /// Ends the connections to it whose application's name is like this.
    pub async fn terminate(&self, like: &str) {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE $1";
        sqlx::query(end)
            .bind(like)
            .execute(&mut self.connect().await)
            .await
            .expect("a superuser may end them");
    }

    /// A connection of its own, as an application has one.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("the database lets us in")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let drop = async {
                // A private server may be gone already.
                let Ok(mut connection) = PgConnection::connect(&server).await else { return };
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let _ = sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await;
            };
            if let Ok(runtime) = runtime {
                runtime.block_on(async {
                    tokio::time::timeout(std::time::Duration::from_secs(20), drop).await.ok()
                });
            }
        });
        let _ = dropped.join();
    }
}

async fn run(server: &str, sql: &str) {
    let mut connection = PgConnection::connect(server).await.unwrap_or_else(|error| {
        panic!("{server} does not answer ({error}). Type this, then run it again: make up")
    });
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("it can be done");
    let _ = connection.close().await;
}
