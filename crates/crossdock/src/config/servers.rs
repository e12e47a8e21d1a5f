//! `store:` and `broker:` where the hub keeps what it must not lose, and what carries its events.

use std::path::Path;

use crossdock_kafka::KafkaOptions;
use crossdock_postgres::PostgresOptions;
use crossdock_rabbitmq::RabbitOptions;

use super::{
    problem::{Problem, code},
    reader::{Fields, Reader, nearest},
    server::Server,
    yaml::{Entry, Span},
};

/// Where held events, dead letters and all else is kept that the hub must not lose.
pub enum Store {
    /// In the `data` folder.
    Embedded,
    /// In a Postgres database, which several workers may share.
    Postgres(Box<PostgresOptions>),
}

/// What carries the events.
pub enum Carrier {
    /// A log in the `data` folder.
    Embedded,
    /// Kafka, or what speaks its protocol.
    Kafka(Box<KafkaOptions>),
    /// RabbitMQ.
    RabbitMq(Box<RabbitOptions>),
}

/// The store and the broker of a configuration, with their places.
pub struct Servers {
    /// The store.
    pub store: Store,
    /// The broker.
    pub broker: Carrier,
    /// Both for people, without any secret.
    pub shown: Shown,
}

/// A store and a broker for people, without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `embedded`, or an address.
    pub store: String,
    /// The same.
    pub broker: String,
}

const EMBEDDED: &str = "embedded";
const STORES: [&str; 3] = ["embedded", "postgres", "postgresql"];
const BROKERS: [&str; 4] = ["embedded", "kafka", "amqp", "amqps"];
const STORE_HELP: &str = "`embedded`, or `postgres://USER@HOST/DATABASE`";
const BROKER_HELP: &str =
    "`embedded`, `kafka://HOST:PORT,HOST:PORT`, `amqp://USER@HOST/VHOST` or `amqps://…`";

impl Reader<'_> {
    /// The store and the broker, which must fit together. Missing only if something was reported.
    pub fn servers(&mut self, fields: &Fields<'_>, folder: &Path) -> Option<Servers> {
        let store = fields
            .entry("store")
            .map_or(Some((Store::Embedded, EMBEDDED.to_owned())), |entry| self.store(entry, folder));
        let broker = fields
            .entry("broker")
            .map_or(Some((Carrier::Embedded, EMBEDDED.to_owned())), |entry| self.broker(entry, folder));
        let ((store, shown_store), (broker, shown_broker)) = (store?, broker?);
        let shown = Shown { store: shown_store, broker: shown_broker };
        let servers = Servers { store, broker, shown };
        self.check_pair(&servers, fields);
        Some(servers)
    }

    fn store(&mut self, entry: &Entry, folder: &Path) -> Option<(Store, String)> {
        let server = self.server(entry, "`store`")?;
        let store = match server.scheme() {
            "embedded" if server.url == "embedded" => {
                self.without_options(&server).then_some(Store::Embedded)
            }
            "postgres" | "postgresql" if server.url.contains("://") => {
                let options = self.adapted::<PostgresOptions>(&server, folder)?;
                Some(Store::Postgres(Box::new(options)))
            }
            scheme => self.unknown_server("store", scheme, &STORES, STORE_HELP, &server.at),
        };
        store.map(|store| (store, server.shown()))
    }

    fn broker(&mut self, entry: &Entry, folder: &Path) -> Option<(Carrier, String)> {
        let server = self.server(entry, "`broker`")?;
        let broker = match server.scheme() {
            "embedded" if server.url == "embedded" => {
                self.without_options(&server).then_some(Carrier::Embedded)
            }
            "kafka" if server.url.contains("://") => {
                let options = self.adapted::<KafkaOptions>(&server, folder)?;
                Some(Carrier::Kafka(Box::new(options)))
            }
            "amqp" | "amqps" if server.url.contains("://") => {
                let options = self.adapted::<RabbitOptions>(&server, folder)?;
                Some(Carrier::RabbitMq(Box::new(options)))
            }
            scheme => self.unknown_server("broker", scheme, &BROKERS, BROKER_HELP, &server.at),
        };
        broker.map(|broker| (broker, server.shown()))
    }

    fn without_options(&mut self, server: &Server) -> bool {
        for option in &server.options {
            let message = format!("`embedded` has no option `{}`", option.name);
            let problem = Problem::new(code::UNKNOWN_FIELD, option.name_at.clone(), message);
            self.report(
                problem.help("its settings are fields of the file itself, such as `data` and `retention`"),
            );
        }
        server.options.is_empty()
    }

    fn unknown_server<T>(
        &mut self,
        what: &str,
        scheme: &str,
        known: &[&str],
        help: &str,
        at: &Span,
    ) -> Option<T> {
        // Never quoted: what is no address we know may still hold a password.
        let message = format!("`{what}` cannot be this");
        let help = match nearest(scheme, known) {
            Some(near) => format!("did you mean `{near}`? write {help}"),
            None => format!("write {help}"),
        };
        self.report(Problem::new(code::WRONG_VALUE, at.clone(), message).help(help));
        None
    }

    fn check_pair(&mut self, servers: &Servers, fields: &Fields<'_>) {
        let Some(entry) = fields.entry("broker") else { return };
        if matches!(servers.store, Store::Embedded) && !matches!(servers.broker, Carrier::Embedded) {
            let message = "this broker needs `store: postgres://…` beside it";
            self.report(Problem::new(code::CONFLICT, entry.node.span.clone(), message).help(
                "several workers share their state in Postgres: add `store: postgres://USER@HOST/DATABASE`, or remove \
                 `broker`",
            ));
        }
    }

    /// What has no effect with this store and broker.
    pub fn warn_of_unused_fields(&mut self, servers: &Servers, fields: &Fields<'_>) {
        if matches!(servers.broker, Carrier::Embedded) {
            return self.warn_of_shape(fields, &["replication"]);
        }
        if matches!(servers.store, Store::Embedded) {
            return;
        }
        let mut unused: Vec<_> =
            fields.entry("data").map(|entry| ("data", entry.at.clone())).into_iter().collect();
        if let Some(limit) = fields.inner("limits", "data") {
            unused.push(("limits.data", limit.at.clone()));
        }
        for (name, at) in unused {
            let message = format!("`{name}` has no effect: nothing is kept in a folder");
            let problem = Problem::new(code::UNUSED, at, message);
            self.report(problem.help("remove it, or leave `store` and `broker` out").warning());
        }
    }
}
