//! Connections to the file, and its schema.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{open::OpenError, options::Options};

/// Numbered, forward-only; `PRAGMA user_version` is the number of the last one.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/0001_first.sql"), include_str!("../migrations/0002_replays.sql")];

/// Page cache of the writer and of each reader, in KiB. The log is read once and forward, so more does not help it.
const WRITER_CACHE_KIB: i64 = 8 * 1024;
const READER_CACHE_KIB: i64 = 3 * 1024;
/// Concurrent readers: each is a thread, on machines of a few cores.
const READERS: u32 = 3;

fn options(file: &Path, cache_kib: i64) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::from_str("sqlite::memory:").expect("a valid URL");
    let options = options
        .filename(file)
        .in_memory(false)
        .shared_cache(false)
        .journal_mode(SqliteJournalMode::Wal)
        // Every commit reaches the disk: an accepted event survives the loss of the machine.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        // The background's checkpoints hold locks for moments only.
        .busy_timeout(Duration::from_secs(5))
        .pragma("mmap_size", "0")
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(256)
        // Rows hold packs of up to 64 KiB or one large event: the reader's thread must not run far ahead.
        .row_buffer_size(8);
    // A test looks at the plan of every statement that was logged.
    if cfg!(test) { options } else { options.disable_statement_logging() }
}

/// The connection of the writer. Creates the file if `create`.
pub(crate) async fn writer(
    file: &Path,
    create: bool,
    store: &Options,
) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options(file, WRITER_CACHE_KIB)
        .create_if_missing(create)
        // The background checkpoints, so that no commit has to wait for one.
        .pragma("wal_autocheckpoint", "0")
        // What the log is cut to when it begins anew: below the size at which the writer empties it.
        .pragma("journal_size_limit", "33554432")
        .connect()
        .await?;
    if let Some(bytes) = store.file_bytes_max {
        limit(&mut connection, bytes).await?;
    }
    Ok(connection)
}

async fn limit(connection: &mut SqliteConnection, bytes: u64) -> Result<(), sqlx::Error> {
    let page: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut *connection).await?;
    let pages = bytes / u64::try_from(page).unwrap_or(4096);
    sqlx::query(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(connection).await?;
    Ok(())
}

/// Writes what is there already: to learn whether the disk takes it.
pub(crate) async fn touch(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let version = format!("PRAGMA user_version = {}", MIGRATIONS.len());
    sqlx::query(AssertSqlSafe(version)).execute(connection).await?;
    Ok(())
}

/// The connection that checkpoints.
pub(crate) async fn checkpointer(file: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(file, 256).pragma("wal_autocheckpoint", "0").connect().await
}

/// The connections that read.
pub(crate) async fn readers(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let connect = options(file, READER_CACHE_KIB).pragma("wal_autocheckpoint", "0").pragma("query_only", "1");
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(connect)
        .await
}

/// Brings the schema up to date, in one transaction.
pub(crate) async fn migrate(connection: &mut SqliteConnection, file: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::database(file, "migrating it", source);
    let version: i64 =
        sqlx::query("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(failed)?.get(0);
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        let (file, known) = (file.to_owned(), MIGRATIONS.len() as i64);
        return Err(OpenError::Newer { file, version, known });
    }
    if done == MIGRATIONS.len() {
        return Ok(());
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    for migration in &MIGRATIONS[done..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(failed)?;
    }
    touch(&mut transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
