//! `connections:` what is connected, with which credentials.

use std::sync::Arc;

use crossdock_core::{CircuitPolicy, ConnectionName, Connector, ConnectorError, ConnectorSpec, Environment};
use crossdock_engine::ConnectionPlan;

use super::{
    problem::{Problem, code},
    reader::{Fields, Reader, choices},
    yaml::{Entry, Node, Span, Value},
};

/// Calls at a time where nothing is said.
const CONCURRENCY: u64 = 128;

/// A connection of the file, also one that is wrong: flows that name it need not complain again.
pub struct Known<'c> {
    /// Its name as it is written.
    pub name: &'c str,
    /// Where the name stands.
    pub at: Span,
    /// What its connector can do, if the connector is known.
    pub spec: Option<&'c ConnectorSpec>,
    /// The connection, if nothing is wrong with it.
    pub plan: Option<Arc<ConnectionPlan>>,
}

impl Reader<'_> {
    /// Every connection, in the order of the file.
    pub fn connections<'c>(
        &mut self,
        node: &'c Node,
        connectors: &'c [Arc<dyn Connector>],
        environment: Environment,
    ) -> Vec<Known<'c>> {
        let entries = self.entries(node, "`connections`").unwrap_or_default();
        entries.iter().map(|entry| self.connection(entry, connectors, environment)).collect()
    }

    fn connection<'c>(
        &mut self,
        entry: &'c Entry,
        connectors: &'c [Arc<dyn Connector>],
        environment: Environment,
    ) -> Known<'c> {
        let mut known = Known { name: &entry.name, at: entry.at.clone(), spec: None, plan: None };
        let name = self.name(&entry.name, &entry.at, ConnectionName::new);
        let allowed = ["connector", "config", "concurrency", "circuit"];
        let Some(fields) = self.fields(&entry.node, "the connection", &entry.at, &allowed) else {
            return known;
        };
        let concurrency = self.concurrency(&fields);
        let circuit = self.circuit(&fields);
        let Some(connector) = self.connector(&fields, connectors) else { return known };
        known.spec = Some(connector.spec());
        let (config, owner) = match fields.entry("config") {
            Some(config) => (Some(&config.node), &config.at),
            None => (None, &entry.at),
        };
        let settings = self.settings(config, owner, &connector.spec().config);
        let (Some(name), Some(settings), Some(circuit)) = (name, settings, circuit) else { return known };
        match connector.connect(&name, &settings, environment) {
            Ok(connection) => {
                let connector = connector.spec().name.clone();
                known.plan =
                    Some(Arc::new(ConnectionPlan { name, connector, connection, concurrency, circuit }));
            }
            Err(error) => self.not_connected(config, owner, error),
        }
        known
    }

    fn connector<'c>(
        &mut self,
        fields: &Fields<'_>,
        connectors: &'c [Arc<dyn Connector>],
    ) -> Option<&'c dyn Connector> {
        let names: Vec<_> = connectors.iter().map(|connector| connector.spec().name.as_str()).collect();
        let node = self.required(fields, "connector", &format!("one of: {}", names.join(", ")))?;
        let written = self.text(node, "`connector`")?;
        let found = connectors.iter().find(|connector| connector.spec().name == written);
        if found.is_none() {
            let message = format!("there is no connector `{written}`");
            self.report(
                Problem::new(code::UNKNOWN_NAME, node.span.clone(), message).help(choices(written, &names)),
            );
        }
        found.map(AsRef::as_ref)
    }

    fn concurrency(&mut self, fields: &Fields<'_>) -> usize {
        let written = fields
            .get("concurrency")
            .and_then(|node| self.integer(node, "`concurrency`", 1, 100_000))
            .unwrap_or(CONCURRENCY);
        usize::try_from(written).unwrap_or(usize::MAX)
    }

    /// When the circuit opens: `Some(None)` if it is off, `None` if something was reported.
    fn circuit(&mut self, fields: &Fields<'_>) -> Option<Option<CircuitPolicy>> {
        let Some(entry) = fields.entry("circuit") else { return Some(Some(CircuitPolicy::default())) };
        if let Value::Scalar { text, .. } = &entry.node.value {
            if text == "off" {
                return Some(None);
            }
            return self.wrong_type(
                &entry.node,
                "`circuit` must be `off` or a map of failures, over, pause, pause_max",
            );
        }
        let allowed = ["failures", "over", "pause", "pause_max"];
        let fields = self.fields(&entry.node, "`circuit`", &entry.at, &allowed)?;
        let mut policy = CircuitPolicy::default();
        if let Some(node) = fields.get("failures") {
            policy.failures =
                u32::try_from(self.integer(node, "`failures`", 1, u64::from(u32::MAX))?).ok()?;
        }
        for (name, value) in
            [("over", &mut policy.over), ("pause", &mut policy.pause), ("pause_max", &mut policy.pause_max)]
        {
            if let Some(node) = fields.get(name) {
                *value = self.duration(node, &format!("`{name}`"))?;
            }
        }
        if policy.pause.is_zero() || policy.pause > policy.pause_max {
            let at = fields
                .get("pause")
                .or(fields.get("pause_max"))
                .map_or(entry.at.clone(), |node| node.span.clone());
            self.report(
                Problem::new(code::CONFLICT, at, "`pause` must be more than nothing and at most `pause_max`")
                    .help("the defaults are `pause: 1s` and `pause_max: 60s`"),
            );
            return None;
        }
        Some(Some(policy))
    }

    fn not_connected(&mut self, config: Option<&Node>, owner: &Span, error: ConnectorError) {
        let field = match (config.map(|node| &node.value), &error.field) {
            (Some(Value::Map(entries)), Some(field)) => entries.iter().find(|entry| entry.name == *field),
            _ => None,
        };
        let at = field.map_or(owner.clone(), |entry| entry.node.span.clone());
        self.report(Problem::new(code::WRONG_VALUE, at, error.message));
    }

    /// A name, if its characters are those of names.
    pub fn name<T, E: std::fmt::Display>(
        &mut self,
        written: &str,
        at: &Span,
        make: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        make(written)
            .map_err(|error| self.report(Problem::new(code::WRONG_NAME, at.clone(), error.to_string())))
            .ok()
    }
}
