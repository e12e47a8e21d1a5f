//! A database of one test with the tables in it, copied from a template in the shared Postgres that `make up` starts.
//!
//! A copy takes a tenth of what the migrations do. The template is named after the migrations, so that one which is changed
//! makes another template.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crossdock_postgres::{Postgres, PostgresOptions};
use crossdock_testkit::services;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const MIGRATIONS: [&str; 2] = [
    include_str!("../../../../migrations/0001_outbox.sql"),
    include_str!("../../../../migrations/0002_stores.sql"),
];

/// Held while the template is made.
const LOCK: i64 = 0x6364_7465_6d70_6c00;

/// Dropped with its value.
pub struct Database {
    /// Its name.
    pub name: String,
}

impl Database {
    /// A new one.
    pub async fn create() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let template = template().await;
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = format!("crossdock_store_{process}_{}_{number}", jiff::Timestamp::now().as_microsecond());
        let mut server = server().await;
        // Two copies at a time of one template are refused.
        lock(&mut server).await;
        run(&mut server, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        Self { name }
    }

    /// Options for it.
    pub fn options(&self) -> PostgresOptions {
        options(&self.name)
    }
}

impl Drop for Database {
    /// Best effort: what is left is dropped by a later run.
    fn drop(&mut self) {
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let drop = async { run(&mut server().await, &drop_statement(&name)).await };
            runtime.map(|runtime| {
                runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), drop).await })
            })
        });
        let _ = dropped.join();
    }
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

fn url(database: &str) -> String {
    let server = services::postgres();
    let (server, _) = server.rsplit_once('/').expect("the address names a database");
    format!("{server}/{database}")
}

fn options(database: &str) -> PostgresOptions {
    let mut options = PostgresOptions::parse(&url(database), []).expect("the address can be read");
    // Many tests run at a time.
    (options.pool, options.admin_pool) = (6, 3);
    options
}

async fn server() -> PgConnection {
    let server = services::postgres();
    PgConnection::connect(&server).await.unwrap_or_else(|error| {
        panic!("{server} does not answer ({error}). Type this, then run it again: make up")
    })
}

async fn lock(server: &mut PgConnection) {
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(server).await.expect("it locks");
}

async fn run(server: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(server).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The template's name; it is made if it is not there.
async fn template() -> String {
    let mut hasher = DefaultHasher::new();
    MIGRATIONS.hash(&mut hasher);
    let name = format!("crossdock_template_{:016x}", hasher.finish());
    let mut server = server().await;
    lock(&mut server).await;
    let there = sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
    if !there.bind(&name).fetch_one(&mut server).await.expect("it answers") {
        drop_stale(&mut server).await;
        let making = format!("{name}_making");
        run(&mut server, &drop_statement(&making)).await;
        run(&mut server, &format!("CREATE DATABASE {making}")).await;
        let postgres = Postgres::open(options(&making)).await.expect("it opens");
        postgres.migrate().await.expect("it is migrated");
        postgres.close().await;
        drop(postgres);
        close_all(&mut server, &making).await;
        run(&mut server, &format!("ALTER DATABASE {making} RENAME TO {name}")).await;
    }
    name
}

/// Ends the connections to a database, and waits until there is none.
async fn close_all(server: &mut PgConnection, database: &str) {
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
        while sqlx::query_scalar::<_, i64>(end)
            .bind(database)
            .fetch_one(&mut *server)
            .await
            .expect("it answers")
            > 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("the connections to the template end");
}

/// Databases and templates that tests have left behind more than an hour ago.
async fn drop_stale(server: &mut PgConnection) {
    let stale: Vec<String> = sqlx::query_scalar(
        "SELECT datname FROM pg_database
         WHERE (datname LIKE 'crossdock\\_store\\_%' OR datname LIKE 'crossdock\\_template\\_%')
             AND (pg_stat_file('base/' || oid || '/PG_VERSION')).modification < now() - interval '1 hour'",
    )
    .fetch_all(&mut *server)
    .await
    .expect("it answers");
    for name in stale {
        run(server, &drop_statement(&name)).await;
    }
}
