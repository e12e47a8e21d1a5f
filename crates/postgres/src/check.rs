//! What a look at the server tells: whether it can be used, and what somebody should change.

use std::{io::ErrorKind, time::Duration};

use jiff::Timestamp;
use sqlx::{Connection, PgConnection, Row};

use crate::{
    PostgresOptions,
    errors::{self, within},
    pool::STANDBY,
};

/// Why the server cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// Whether it may pass by itself.
    pub(crate) passes: bool,
    pub(crate) why: String,
    pub(crate) remedy: String,
}

impl Obstacle {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { passes: false, why: why.into(), remedy: remedy.into() }
    }

    fn passing(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { passes: true, ..Self::new(why, remedy) }
    }
}

/// What the server says of itself.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) version: i32,
    pub(crate) standby: bool,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) connections_max: i32,
    /// The server's clock less ours.
    pub(crate) skew: jiff::SignedDuration,
    pub(crate) has_schema: bool,
    pub(crate) may_make_schema: bool,
    pub(crate) may_use_schema: bool,
    pub(crate) may_make_tables: bool,
}

/// How long to wait for a server that says nothing.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The oldest version: multiranges are from 14.
const VERSION_MIN: i32 = 14;

/// What to do where TLS does not come about.
const TLS: &str = "check `sslmode` and `tls.ca`: an authority in it must have signed the server's certificate, for the host \
                   that `store` names; and `tls.certificate`, if the server asks for one";

/// Connects once, without a pool, and asks the server about itself.
pub(crate) async fn connect(options: &PostgresOptions) -> Result<Facts, Obstacle> {
    let (facts, connection) = connected(options).await?;
    let _ = within(CONNECT_MAX, connection.close()).await;
    Ok(facts)
}

/// The same, with the connection for more questions.
pub(crate) async fn connected(options: &PostgresOptions) -> Result<(Facts, PgConnection), Obstacle> {
    readable(options).await?;
    let obstacle = |error: sqlx::Error| obstacle(options, &error);
    let connect = options.connect.clone().application_name(&format!("{}/check", options.application_name));
    let mut connection = within(CONNECT_MAX, PgConnection::connect_with(&connect)).await.map_err(obstacle)?;
    let facts = within(CONNECT_MAX, facts(&mut connection)).await.map_err(obstacle)?;
    Ok((facts, connection))
}

/// Whether the files that the options name can be read.
async fn readable(options: &PostgresOptions) -> Result<(), Obstacle> {
    for (option, file) in &options.files {
        if let Err(error) = tokio::fs::read(file).await {
            let why = format!("the file of `{option}`, {}, cannot be read: {error}", file.display());
            return Err(Obstacle::new(why, "name a file that the hub may read, or give its PEM text"));
        }
    }
    Ok(())
}

const FACTS: &str = "
    SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_user::text, current_database()::text,
        current_setting('max_connections')::int, (extract(epoch FROM clock_timestamp()) * 1e6)::int8,
        schema.oid IS NOT NULL, has_database_privilege(current_database(), 'CREATE'),
        coalesce(has_schema_privilege(schema.oid, 'USAGE'), false),
        coalesce(has_schema_privilege(schema.oid, 'CREATE'), false)
    FROM (SELECT to_regnamespace('crossdock')::oid AS oid) AS schema";

async fn facts(connection: &mut PgConnection) -> Result<Facts, sqlx::Error> {
    let before = Timestamp::now();
    let row = sqlx::query(FACTS).fetch_one(connection).await?;
    let between = before + (Timestamp::now().duration_since(before) / 2);
    let server =
        Timestamp::from_microsecond(row.try_get(5)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Facts {
        version: row.try_get(0)?,
        standby: row.try_get(1)?,
        user: row.try_get(2)?,
        database: row.try_get(3)?,
        connections_max: row.try_get(4)?,
        skew: server.duration_since(between),
        has_schema: row.try_get(6)?,
        may_make_schema: row.try_get(7)?,
        may_use_schema: row.try_get(8)?,
        may_make_tables: row.try_get(9)?,
    })
}

impl Facts {
    /// Whether a hub can run on this server.
    pub(crate) fn usable(&self) -> Result<(), Obstacle> {
        let major = self.version / 10_000;
        if major < VERSION_MIN {
            return Err(Obstacle::new(
                format!("the server has Postgres {major}, and {VERSION_MIN} is the oldest that is known"),
                format!("upgrade the server to Postgres {VERSION_MIN} or newer"),
            ));
        }
        if self.standby {
            return Err(Obstacle::new(STANDBY, "write the primary server's address into `store`"));
        }
        Ok(())
    }

    /// Whether the user may make what is missing.
    pub(crate) fn may_migrate(&self, options: &PostgresOptions) -> Result<(), Obstacle> {
        let (user, database) = (quoted(&self.user), quoted(&self.database));
        let refused = |what: &str, grant: String| {
            let place = options.place();
            Err(Obstacle::new(
                format!("the user {user} may not {what}"),
                format!("type in {place} as its owner: {grant}"),
            ))
        };
        if !self.has_schema && !self.may_make_schema {
            return refused(
                "make the schema crossdock",
                format!("GRANT CREATE ON DATABASE {database} TO {user};"),
            );
        }
        if self.has_schema && !(self.may_use_schema && self.may_make_tables) {
            return refused(
                "make tables in the schema crossdock",
                format!("GRANT USAGE, CREATE ON SCHEMA crossdock TO {user};"),
            );
        }
        Ok(())
    }
}

/// A name as SQL takes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Why the server let us not in, by the codes of
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn obstacle(options: &PostgresOptions, error: &sqlx::Error) -> Obstacle {
    let why = errors::text(error);
    let user = quoted(options.connect.get_username());
    let database = quoted(options.database());
    match errors::code(error).as_deref() {
        Some("28P01") => Obstacle::new(why, "check the password in `store`; it comes from the environment"),
        Some("28000") => {
            let remedy = format!(
                "make the user (CREATE ROLE {user} LOGIN PASSWORD '…';), or let it in by pg_hba.conf, then reload the server"
            );
            Obstacle::new(why, remedy)
        }
        Some("3D000") => Obstacle::new(why, format!("make it: CREATE DATABASE {database} OWNER {user};")),
        Some("42501") => Obstacle::new(why, format!("GRANT CONNECT ON DATABASE {database} TO {user};")),
        Some("53300") => {
            Obstacle::passing(why, "raise `max_connections` of the server, or run fewer workers")
        }
        // A pooler does not know the options with which a session begins.
        Some("08P01") => {
            Obstacle::new(why, "name the server itself: a pooler in between (PgBouncer) is not supported")
        }
        // 57P03: the server starts or stops.
        Some("57P03") => Obstacle::passing(why, "wait until the server has started"),
        Some(_) => Obstacle::new(why, "see the message of the server"),
        None => match error {
            sqlx::Error::Tls(_) => Obstacle::new(why, TLS),
            // What the other side showed or said in the handshake is not believed, or the other side does not believe us.
            sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => Obstacle::new(why, TLS),
            sqlx::Error::Configuration(_) => Obstacle::new(why, "check the options of `store`"),
            _ => Obstacle::passing(
                why,
                format!("start the server, or correct the address: {} does not answer", options.place()),
            ),
        },
    }
}
