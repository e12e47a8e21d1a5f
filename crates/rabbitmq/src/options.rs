//! How to reach RabbitMQ: the address, TLS, the login, and how the hub uses it.

mod parse;

use std::{fmt, time::Duration};

use secrecy::SecretString;

pub use parse::OptionError;

/// Everything that a [`crate::RabbitMq`] is opened with. `Debug` shows no secret.
///
/// Made by [`RabbitOptions::parse`] from an address and named options.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `(host, port)`; tried in turn.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) vhost: String,
    pub(crate) login: Login,
    pub(crate) tls: Option<Tls>,
    /// Shards of a topic of which nothing else is said. Default 8.
    pub partitions: u32,
    /// Put before the name of every exchange and queue. Default `crossdock.`.
    pub prefix: String,
    /// How many deliveries of a shard may be out or waiting here at a time: what bounds memory, and how far finished work may
    /// run ahead of work that hangs. Default 1,000. Lower it only while no worker runs: what a worker that died had taken
    /// beyond the new number could be handed out in another order.
    pub prefetch: u16,
    /// A connection that is silent for this long is dead. Default 10 s.
    pub heartbeat: Duration,
    /// How long the broker may take to confirm an event, and how long events wait for a broker that takes none.
    /// Default 10 s.
    pub publish_timeout: Duration,
    /// How long it may take to connect. Default 10 s.
    pub connect_timeout: Duration,
    /// How long a worker that is lost keeps its shards. Default 10 s.
    pub lease_ttl: Duration,
    /// The largest data of an event, in bytes. Default 1 MiB; RabbitMQ 4 takes 16 MiB unless it is told otherwise.
    pub event_bytes_max: usize,
    /// Where the management API is, for what AMQP does not tell: policies and alarms.
    pub(crate) management: Option<Management>,
}

/// How to log in.
#[derive(Clone)]
pub(crate) enum Login {
    Plain {
        username: String,
        password: SecretString,
    },
    /// By the certificate of the client.
    External,
}

/// Certificates: files, or texts in PEM.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) ca: Option<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<SecretString>,
}

/// The management API.
#[derive(Clone)]
pub(crate) struct Management {
    /// Without a user or a password.
    pub(crate) url: url::Url,
    pub(crate) login: Option<(String, SecretString)>,
}

impl RabbitOptions {
    /// Reads an address and options, and tells everything that is wrong with them at once.
    ///
    /// The address is `amqp://user:password@host:port/vhost`, with commas between several hosts of a cluster; `amqps://` is TLS.
    /// The options:
    ///
    /// | name | value |
    /// |---|---|
    /// | `partitions` | shards of a topic of which nothing else is said: `8` |
    /// | `prefix` | put before names of exchanges and queues: `crossdock.` |
    /// | `prefetch` | deliveries of a shard that may be out: `1000` |
    /// | `heartbeat`, `connect_timeout`, `publish_timeout`, `lease_ttl` | durations: `10s` |
    /// | `username`, `password` | the login, if the address has none |
    /// | `auth` | `plain`, or `external`: by the certificate of the client |
    /// | `tls` | `true`: TLS also where the address says `amqp` |
    /// | `tls.ca`, `tls.certificate`, `tls.key` | files, or PEM text |
    /// | `management`, `management.password` | URL of the management API, its password |
    pub fn parse<'o>(
        address: &str,
        options: impl IntoIterator<Item = (&'o str, &'o str)>,
    ) -> Result<Self, Vec<OptionError>> {
        parse::parse(address, options)
    }

    /// Whether the value of an option is a secret, which has no place in a file.
    pub fn is_secret(name: &str) -> bool {
        matches!(name, "password" | "management.password")
    }

    /// The servers, for people: without a login.
    pub fn servers(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        hosts.join(",")
    }
}

impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match &self.login {
            Login::Plain { username, .. } => username.as_str(),
            Login::External => "by certificate",
        };
        f.debug_struct("RabbitOptions")
            .field("servers", &self.servers())
            .field("vhost", &self.vhost)
            .field("login", &login)
            .field("tls", &self.tls.is_some())
            .field("partitions", &self.partitions)
            .field("prefix", &self.prefix)
            .field("prefetch", &self.prefetch)
            .field("heartbeat", &self.heartbeat)
            .field("publish_timeout", &self.publish_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("lease_ttl", &self.lease_ttl)
            .field("event_bytes_max", &self.event_bytes_max)
            .field("management", &self.management.as_ref().map(|management| management.url.as_str()))
            .finish()
    }
}
