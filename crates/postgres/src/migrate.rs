//! The tables: numbered migrations, forward only.
//!
//! Each runs in a transaction of its own under one advisory lock, so that workers that start together wait for each other. What
//! ran is remembered with its checksum: a file that was changed afterwards is found, and so is a database that a newer hub
//! has migrated. Migrations are safe on a live database: no statement rewrites a table or waits for a lock for long.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, Row, raw_sql};

use crate::{
    Postgres,
    check::{self, Obstacle},
    errors,
};

/// A step from one schema to the next one.
pub(crate) struct Migration {
    pub(crate) number: i32,
    name: &'static str,
    sql: &'static str,
}

/// All of them, by number, from 1 without a gap.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "outbox", sql: include_str!("../../../migrations/0001_outbox.sql") },
    Migration { number: 2, name: "stores", sql: include_str!("../../../migrations/0002_stores.sql") },
];

/// The number of the newest one.
pub(crate) const NEWEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].number;

/// How long all of it may take, the wait for another worker that migrates included.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Names the lock among the advisory locks of a database: "crossdoc" in ASCII.
const LOCK: i64 = 0x6372_6f73_7364_6f63;

const PREPARE: &str = "
    CREATE TABLE crossdock.migrations (
        number integer PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        migrated_at timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE crossdock.migrations IS 'Which migrations of Crossdock have run'";

/// The tables could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database is away.
    #[error("the database is not available while migrating: {0}")]
    Away(String),
    /// The server, or the rights of the user, do not allow it.
    #[error("the database cannot be migrated: {why}; {remedy}")]
    Refused {
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A newer hub has migrated it.
    #[error(
        "the database has the schema {found}, and this version of Crossdock knows schemas up to {known}: run the \
         version that migrated it, or a newer one"
    )]
    Newer {
        /// The schema of the database.
        found: i32,
        /// The newest that is known here.
        known: i32,
    },
    /// A migration is not the one that ran.
    #[error(
        "the migration {number} ({name}) is not the one that ran in this database: run a released version of Crossdock"
    )]
    Changed {
        /// Its number.
        number: i32,
        /// Its name.
        name: String,
    },
    /// A migration failed; it left nothing behind.
    #[error("the migration {number} ({name}) failed: {why}")]
    Failed {
        /// Its number.
        number: i32,
        /// Its name.
        name: &'static str,
        /// What the server said.
        why: String,
    },
}

impl MigrateError {
    /// Whether waiting does not help.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Away(_))
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The schema as it is now.
    pub schema: i32,
    /// The migrations that ran now, by number and name.
    pub ran: Vec<(i32, &'static str)>,
}

impl Postgres {
    /// Makes the tables, or brings them to the newest schema. May be called by several workers at once.
    pub async fn migrate(&self) -> Result<Migrated, MigrateError> {
        let options = self.options();
        let facts = check::connect(options).await.map_err(refused)?;
        facts.usable().and(facts.may_migrate(options)).map_err(refused)?;
        let name = format!("{}/migrate", options.application_name);
        // The wait for another worker that migrates has no other limit.
        let connect =
            options.connect.clone().application_name(&name).options([("statement_timeout", "10min")]);
        let work = async {
            let mut connection = PgConnection::connect_with(&connect).await.map_err(away)?;
            let done = migrate(&mut connection).await;
            // Ends the lock with it, if something failed in between.
            let _ = connection.close().await;
            done
        };
        tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| Err(away(errors::timed_out(LIMIT))))
    }
}

async fn migrate(connection: &mut PgConnection) -> Result<Migrated, MigrateError> {
    // Held until the connection ends. Only its holder makes the schema, or tables in it.
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut *connection).await.map_err(away)?;
    // From here on no statement waits for whoever uses the tables.
    raw_sql("SET lock_timeout = '10s'").execute(&mut *connection).await.map_err(away)?;
    prepare(connection).await.map_err(away)?;
    let ran = ran(connection).await.map_err(away)?;
    check_ran(&ran)?;
    let mut done = Vec::new();
    for migration in MIGRATIONS.iter().skip(ran.len()) {
        run(connection, migration).await.map_err(|error| MigrateError::Failed {
            number: migration.number,
            name: migration.name,
            why: errors::text(&error),
        })?;
        tracing::info!(number = migration.number, name = migration.name, "the database was migrated");
        done.push((migration.number, migration.name));
    }
    Ok(Migrated { schema: NEWEST, ran: done })
}

/// Asks what is there: `IF NOT EXISTS` wants the right to make a schema also where there is one, and is told of in the log.
async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let there =
        "SELECT to_regnamespace('crossdock') IS NOT NULL, to_regclass('crossdock.migrations') IS NOT NULL";
    let there = sqlx::query(there).fetch_one(&mut *connection).await?;
    if !there.try_get::<bool, _>(0)? {
        raw_sql("CREATE SCHEMA crossdock").execute(&mut *connection).await?;
    }
    if !there.try_get::<bool, _>(1)? {
        raw_sql(PREPARE).execute(connection).await?;
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, migration: &Migration) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    raw_sql(migration.sql).execute(&mut *transaction).await?;
    sqlx::query("INSERT INTO crossdock.migrations (number, name, checksum) VALUES ($1, $2, $3)")
        .bind(migration.number)
        .bind(migration.name)
        .bind(migration.checksum())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// A migration that ran.
pub(crate) struct Ran {
    number: i32,
    name: String,
    checksum: String,
}

/// Those that ran, by number.
pub(crate) async fn ran(connection: &mut PgConnection) -> Result<Vec<Ran>, sqlx::Error> {
    let rows = sqlx::query("SELECT number, name, checksum FROM crossdock.migrations ORDER BY number")
        .fetch_all(connection)
        .await?;
    let ran = |row: sqlx::postgres::PgRow| {
        Ok(Ran { number: row.try_get(0)?, name: row.try_get(1)?, checksum: row.try_get(2)? })
    };
    rows.into_iter().map(ran).collect()
}

/// Whether what ran is the beginning of what is known.
pub(crate) fn check_ran(ran: &[Ran]) -> Result<(), MigrateError> {
    if let Some(newer) = ran.last().filter(|last| last.number > NEWEST) {
        return Err(MigrateError::Newer { found: newer.number, known: NEWEST });
    }
    for (ran, known) in ran.iter().zip(MIGRATIONS) {
        if ran.number != known.number || ran.checksum != known.checksum() {
            return Err(MigrateError::Changed { number: ran.number, name: ran.name.clone() });
        }
    }
    Ok(())
}

impl Migration {
    fn checksum(&self) -> String {
        use std::fmt::Write as _;

        Sha256::digest(self.sql.as_bytes()).iter().fold(String::new(), |mut text, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

fn away(error: sqlx::Error) -> MigrateError {
    MigrateError::Away(errors::text(&error))
}

fn refused(obstacle: Obstacle) -> MigrateError {
    match obstacle {
        Obstacle { passes: true, why, .. } => MigrateError::Away(why),
        Obstacle { why, remedy, .. } => MigrateError::Refused { why, remedy },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_a_gap() {
        let numbers: Vec<_> = MIGRATIONS.iter().map(|migration| migration.number).collect();
        assert_eq!(numbers, (1..=NEWEST).collect::<Vec<_>>());
    }
}
