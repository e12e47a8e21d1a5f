//! What somebody should change before a hub runs on this database: `crossdock check --online`.

use std::time::Duration;

use crossdock_core::Finding;
use sqlx::{PgConnection, Row};

use crate::{
    Postgres, PostgresOptions,
    check::{self, Facts, Obstacle},
    errors::{self, within},
    migrate::{self, MigrateError, NEWEST},
    outbox,
    pool::Pools,
};

/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Due times and what people read of times are off by as much.
const SKEW_MAX: Duration = Duration::from_secs(5);
/// What the findings are about.
const STORE: &str = "store";

impl Postgres {
    /// Looks at the server and the database without changing anything: whether it lets the hub in, is a primary server of a version
    /// that is known, has room, time and rights, and which schema it has. Each error says what to do.
    pub async fn findings(options: &PostgresOptions) -> Vec<Finding> {
        let (facts, mut connection) = match check::connected(options).await {
            Ok(connected) => connected,
            Err(Obstacle { why, remedy, .. }) => {
                return vec![Finding::error(STORE, format!("{}: {why}", options.place()), remedy)];
            }
        };
        if let Err(Obstacle { why, remedy, .. }) = facts.usable() {
            return vec![Finding::error(STORE, format!("{}: {why}", options.place()), remedy)];
        }
        let version =
            format!("{}: Postgres {}.{}", options.place(), facts.version / 10_000, facts.version % 10_000);
        let mut findings = vec![Finding::ok(STORE, version)];
        findings.extend(skew(&facts));
        findings.extend(room(&facts, options));
        match within(LOOK_MAX, schema(&mut connection, &facts, options)).await {
            Ok(found) => findings.extend(found),
            Err(error) => {
                let detail = format!("the tables cannot be looked at: {}", errors::text(&error));
                findings.push(Finding::error(STORE, detail, "see the message of the server"));
            }
        }
        findings
    }
}

fn skew(facts: &Facts) -> Option<Finding> {
    (facts.skew.unsigned_abs() > SKEW_MAX).then(|| {
        let direction = if facts.skew.is_positive() { "ahead of" } else { "behind" };
        let detail = format!("its clock is {:.0?} {direction} the one here", facts.skew.unsigned_abs());
        Finding::warning("clock", detail, "let both machines follow one time server (NTP)")
    })
}

fn room(facts: &Facts, options: &PostgresOptions) -> Option<Finding> {
    let wanted = Pools::connections(options);
    let given = facts.connections_max.unsigned_abs();
    let detail =
        format!("one worker opens up to {wanted} connections, and the server has room for {given} in all");
    let remedy = "raise `max_connections` of the server, or set `pool` and `admin_pool` of `store` lower";
    match () {
        () if wanted >= given => Some(Finding::error("connections", detail, remedy)),
        () if wanted * 2 > given => Some(Finding::warning("connections", detail, remedy)),
        () => None,
    }
}

/// The schema, and what is in it.
async fn schema(
    connection: &mut PgConnection,
    facts: &Facts,
    options: &PostgresOptions,
) -> Result<Vec<Finding>, sqlx::Error> {
    let refused = |obstacle: Obstacle| Finding::error("rights", obstacle.why, obstacle.remedy);
    if facts.has_schema && !facts.may_use_schema {
        return Ok(vec![foreign(connection, facts).await?]);
    }
    // Before anything is read that may be closed.
    if facts.has_schema
        && let Some(found) = owner(connection, facts).await?
    {
        return Ok(vec![found]);
    }
    let migrations: bool = sqlx::query_scalar("SELECT to_regclass('crossdock.migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    let ran = if migrations { migrate::ran(connection).await? } else { Vec::new() };
    if let Err(error) = migrate::check_ran(&ran) {
        let remedy = match error {
            MigrateError::Newer { .. } => "run the version of Crossdock that migrated it, or a newer one",
            _ => "run a released version of Crossdock",
        };
        return Ok(vec![Finding::error("schema", error.to_string(), remedy)]);
    }
    let found = i32::try_from(ran.len()).unwrap_or(NEWEST);
    if found < NEWEST {
        let detail = match found {
            0 => "the tables are not there; `crossdock migrate` makes them, and so does `crossdock run`"
                .to_owned(),
            _ => format!(
                "the schema is {found} and becomes {NEWEST} with `crossdock migrate` or `crossdock run`"
            ),
        };
        let may = facts.may_migrate(options).err().map(refused);
        return Ok([Finding::missing("schema", detail)].into_iter().chain(may).collect());
    }
    let mut findings = vec![Finding::ok("schema", format!("the schema is {found}"))];
    findings.extend(cache(connection).await?);
    findings.extend(outbox::set_back(connection).await?.map(|why| {
        Finding::error(
            "outbox",
            why,
            "find the last event that the broker and the outbox agree on, then `crossdock outbox rewind`",
        )
    }));
    Ok(findings)
}

/// The schema is another user's, and closed to this one.
async fn foreign(connection: &mut PgConnection, facts: &Facts) -> Result<Finding, sqlx::Error> {
    const OWNER: &str =
        "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'crossdock'";
    let owner: String = sqlx::query_scalar(OWNER).fetch_one(connection).await?;
    let (user, owner) = (check::quoted(&facts.user), check::quoted(&owner));
    let detail = format!("the user {user} may not use the schema crossdock, which belongs to {owner}");
    Ok(Finding::error("rights", detail, format!("type as a superuser: GRANT {owner} TO {user};")))
}

/// Partitions are made and dropped by the owner of the table.
async fn owner(connection: &mut PgConnection, facts: &Facts) -> Result<Option<Finding>, sqlx::Error> {
    const FOREIGN: &str = "
        SELECT string_agg(quote_ident(relname), ', ' ORDER BY relname), min(pg_get_userbyid(relowner)::text)
        FROM pg_class WHERE relnamespace = 'crossdock'::regnamespace AND relkind IN ('r', 'p')
            AND NOT pg_has_role(relowner, 'USAGE')";
    let row = sqlx::query(FOREIGN).fetch_one(connection).await?;
    let (Some(tables), Some(owner)) =
        (row.try_get::<Option<String>, _>(0)?, row.try_get::<Option<String>, _>(1)?)
    else {
        return Ok(None);
    };
    let (user, owner) = (check::quoted(&facts.user), check::quoted(&owner));
    let detail = format!("the user {user} does not own these tables of the schema crossdock: {tables}");
    Ok(Some(Finding::error("rights", detail, format!("type as a superuser: GRANT {owner} TO {user};"))))
}

/// Numbers that a session takes ahead come into use late, and turn the order.
async fn cache(connection: &mut PgConnection) -> Result<Option<Finding>, sqlx::Error> {
    const CACHE: &str =
        "SELECT seqcache FROM pg_sequence WHERE seqrelid = 'crossdock.outbox_seq_seq'::regclass";
    let cache: i64 = sqlx::query_scalar(CACHE).fetch_one(connection).await?;
    Ok((cache != 1).then(|| {
        let detail = format!(
            "each session takes {cache} numbers of the outbox at a time, which turns the order of events"
        );
        Finding::error(
            "outbox",
            detail,
            "type as its owner: ALTER SEQUENCE crossdock.outbox_seq_seq CACHE 1;",
        )
    }))
}
