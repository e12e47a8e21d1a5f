//! How to reach Postgres: the address, TLS, connections, and what the outbox keeps.

mod parse;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crossdock_core::{Clock, SystemClock, Topic};
pub use parse::OptionError;
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use crate::outbox::Reading;

/// Everything that a [`crate::Postgres`] is opened with. `Debug` shows no secret.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(crate) connect: PgConnectOptions,
    /// The files that options name, each with its option.
    pub(crate) files: Vec<(&'static str, PathBuf)>,
    /// How the hub names itself to the server, before `/` and what a connection is for. Default `crossdock`.
    pub application_name: String,
    /// The most connections for deliveries. Default 8.
    pub pool: u32,
    /// The most connections for what people ask. Default 4.
    pub admin_pool: u32,
    /// How long one call may take. Default 10 s; the server gives up 5 s later.
    pub call_timeout: Duration,
    /// The topics that events may come in for; none if any will do.
    pub topics: Option<Vec<Topic>>,
    /// The largest event that comes in, data and attributes, in bytes. Default 1 MiB.
    pub event_bytes_max: usize,
    /// Events that may wait to be committed. Default 20,000.
    pub queue_events_max: usize,
    /// Events that may wait for the relay before no more come in. Default 10,000,000.
    pub waiting_events_max: u64,
    /// How long a duplicate that comes in is recognised, at least. Default 7 days.
    pub dedupe_window: Duration,
    /// How long events stay in the outbox once they are in the broker. Default 7 days.
    pub retention: Duration,
    /// How long replayed and discarded dead letters are kept; open ones are never dropped. Default 30 days.
    pub dead_letter_retention: Duration,
    /// The time of what people see and of due times; leases and rates have the database's. Default the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The CloudEvents source of rows that name none. Default `/outbox/` and the name of the database.
    pub source: String,
    /// How long the reader of the outbox stays in office without a word. Default 10 s.
    pub lease: Duration,
    /// Rows of one partition of the outbox, at least. Default 1,000,000.
    pub partition_rows: u64,
    /// How this worker is named as the reader of the outbox. Default the application's name and the number of the process.
    pub worker: String,
    /// How missing numbers are treated. For tests of the tests.
    #[doc(hidden)]
    pub reading: Reading,
}

impl PostgresOptions {
    /// Reads an address and options, and tells everything that is wrong with them at once.
    ///
    /// The address is `postgres://user:password@host:port/database`, with `sslmode` and other options behind `?` as libpq
    /// names them. The options:
    ///
    /// | name | value |
    /// |---|---|
    /// | `pool`, `admin_pool` | the most connections: `8` |
    /// | `call_timeout` | a duration: `10s` |
    /// | `application_name` | how the hub names itself |
    /// | `sslmode` | `disable`, `prefer`, `require`, `verify-ca`, `verify-full`; only the last two look at the server's certificate |
    /// | `tls.ca`, `tls.certificate`, `tls.key` | files, or PEM text; with `tls.ca` alone the mode is `verify-full` |
    /// | `source` | the CloudEvents source of rows that name none |
    pub fn parse<'o>(
        address: &str,
        options: impl IntoIterator<Item = (&'o str, &'o str)>,
    ) -> Result<Self, Vec<OptionError>> {
        parse::parse(address, options)
    }

    /// Whether the value of an option is a secret, which has no place in a file.
    pub fn is_secret(_name: &str) -> bool {
        false
    }

    /// The server and the database, for people: `host:port/database`.
    pub fn place(&self) -> String {
        format!("{}:{}/{}", self.connect.get_host(), self.connect.get_port(), self.database())
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        self.connect.get_database().unwrap_or_else(|| self.connect.get_username())
    }

    fn new(connect: PgConnectOptions) -> Self {
        let mut options = Self {
            // Statements are told of in the words of whoever asks.
            connect: connect.disable_statement_logging(),
            files: Vec::new(),
            application_name: "crossdock".to_owned(),
            pool: 8,
            admin_pool: 4,
            call_timeout: Duration::from_secs(10),
            topics: None,
            event_bytes_max: 1 << 20,
            queue_events_max: 20_000,
            waiting_events_max: 10_000_000,
            dedupe_window: Duration::from_secs(7 * 24 * 60 * 60),
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            dead_letter_retention: Duration::from_secs(30 * 24 * 60 * 60),
            clock: Arc::new(SystemClock),
            source: String::new(),
            lease: Duration::from_secs(10),
            partition_rows: 1_000_000,
            worker: format!("crossdock-{}", std::process::id()),
            reading: Reading::default(),
        };
        options.source = format!("/outbox/{}", options.database());
        options
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("place", &self.place())
            .field("user", &self.connect.get_username())
            .field("application_name", &self.application_name)
            .field("pool", &self.pool)
            .field("admin_pool", &self.admin_pool)
            .field("call_timeout", &self.call_timeout)
            .field("source", &self.source)
            .field("retention", &self.retention)
            .field("dedupe_window", &self.dedupe_window)
            .finish_non_exhaustive()
    }
}
