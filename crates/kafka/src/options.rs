//! How to reach Kafka: the address, what topics are like, TLS, SASL, and options that are handed to librdkafka.

mod names;
mod parse;
mod security;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use parse::OptionError;
pub(crate) use security::{Mechanism, Sasl, Tls, TokenEndpoint, secure};

/// Everything that a [`crate::Kafka`] is opened with. `Debug` shows no secret.
///
/// Made by [`KafkaOptions::parse`] from an address and named options, or by [`KafkaOptions::new`] for a server without TLS.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, with commas between several.
    pub(crate) servers: String,
    /// Put before the name of every topic, to share a cluster. Default empty.
    pub topic_prefix: String,
    /// Put before the name of every consumer group. Default `crossdock.`, since the name of a flow may well be the group of
    /// another application.
    pub group_prefix: String,
    /// Partitions of a topic that the hub makes, if nothing else is said of it. Default 8.
    pub partitions: u32,
    /// Copies of each partition of such a topic; the broker's default if none.
    pub replication: Option<u16>,
    /// How long events stay in such a topic; the broker's default if none.
    pub retention: Option<Duration>,
    /// The largest data of an event, in bytes. Default 1 MiB. What an event may weigh with its attributes is a little more:
    /// [`KafkaOptions::record_bytes_max`].
    pub event_bytes_max: usize,
    /// How long events wait for a broker that does not answer, until all that wait are given back. Default 30 s.
    pub publish_timeout: Duration,
    /// How long the group waits for a member that says nothing: so long the partitions of one that was killed stand still.
    /// Default 10 s, 45 s with [`KafkaOptions::instance`]; brokers allow 6 s to 30 min. A member says something every second, by a
    /// thread of its own, so ten words must be lost before it is given up.
    pub session_timeout: Duration,
    /// Names this worker in its groups for ever (static membership): a restart within the session time-out then moves no
    /// partition. Must differ between workers.
    pub instance: Option<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) sasl: Option<Sasl>,
    /// Options of librdkafka under its own names.
    pub(crate) passed: BTreeMap<String, String>,
}

/// Short, since members of a group that move its partitions for nothing cost little: only those that move stop for a moment.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Long enough for a worker to start anew.
const SESSION_TIMEOUT_OF_INSTANCE: Duration = Duration::from_secs(45);

impl KafkaOptions {
    /// Room for the attributes of an event beside its data.
    const ATTRIBUTES_BYTES: usize = 32 << 10;

    /// Options for servers (`host:port,host:port`) without TLS or a login.
    pub fn new(servers: &str) -> Self {
        Self {
            servers: servers.to_owned(),
            topic_prefix: String::new(),
            group_prefix: "crossdock.".to_owned(),
            partitions: 8,
            replication: None,
            retention: None,
            event_bytes_max: 1 << 20,
            publish_timeout: Duration::from_secs(30),
            session_timeout: SESSION_TIMEOUT,
            instance: None,
            tls: None,
            sasl: None,
            passed: BTreeMap::new(),
        }
    }

    /// Reads an address and options, and tells everything that is wrong with them at once.
    ///
    /// The address is `kafka://host:port,host:port`, with `user:password@` before the hosts for a login. The options:
    ///
    /// | name | value |
    /// |---|---|
    /// | `partitions`, `replication`, `retention` | of topics that the hub makes: `8`, `3`, `7d` |
    /// | `topic_prefix`, `group_prefix` | put before names |
    /// | `publish_timeout`, `session_timeout` | durations: `30s` |
    /// | `instance` | static membership |
    /// | `tls` | `true`: certificates that the system trusts |
    /// | `tls.ca`, `tls.certificate`, `tls.key`, `tls.key_password` | files, or PEM text |
    /// | `sasl.mechanism` | `plain`, `scram-sha-256`, `scram-sha-512`, `oauthbearer` |
    /// | `sasl.username`, `sasl.password` | for the first three |
    /// | `sasl.token_url`, `sasl.client_id`, `sasl.client_secret`, `sasl.scope` | for `oauthbearer`: client credentials |
    ///
    /// Other names are those of librdkafka, as far as they change no promise.
    pub fn parse<'o>(
        address: &str,
        options: impl IntoIterator<Item = (&'o str, &'o str)>,
    ) -> Result<Self, Vec<OptionError>> {
        parse::parse(address, options)
    }

    /// Whether the value of an option is a secret, which has no place in a file.
    pub fn is_secret(name: &str) -> bool {
        matches!(name, "sasl.password" | "sasl.client_secret" | "tls.key_password")
    }

    /// What an event may weigh with its attributes.
    pub fn record_bytes_max(&self) -> usize {
        self.event_bytes_max + Self::ATTRIBUTES_BYTES
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("servers", &self.servers)
            .field("topic_prefix", &self.topic_prefix)
            .field("group_prefix", &self.group_prefix)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("retention", &self.retention)
            .field("event_bytes_max", &self.event_bytes_max)
            .field("publish_timeout", &self.publish_timeout)
            .field("session_timeout", &self.session_timeout)
            .field("instance", &self.instance)
            .field("tls", &self.tls.is_some())
            .field("sasl", &self.sasl.as_ref().map(|sasl| sasl.mechanism))
            .field("passed", &self.passed)
            .finish()
    }
}
