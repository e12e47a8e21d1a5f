//! `flows:` from where, which events, what is made of them, to where.

use crossdock_core::{ConnectionName, FlowName, Topic};
use crossdock_engine::{FlowPlan, Order};

use super::{
    connections::Known,
    problem::{Problem, code},
    reader::{Fields, Reader, choices},
    yaml::{Entry, Node, Span},
};

impl Reader<'_> {
    /// Every flow, in the order of the file.
    pub fn flows(&mut self, node: &Node, connections: &[Known<'_>], used: &mut Vec<String>) -> Vec<FlowPlan> {
        let entries = self.entries(node, "`flows`").unwrap_or_default();
        entries.iter().filter_map(|entry| self.flow(entry, connections, used)).collect()
    }

    fn flow(&mut self, entry: &Entry, connections: &[Known<'_>], used: &mut Vec<String>) -> Option<FlowPlan> {
        let allowed = ["from", "key", "filter", "map", "to", "order", "retry"];
        let name = self.name(&entry.name, &entry.at, FlowName::new);
        let fields = self.fields(&entry.node, "the flow", &entry.at, &allowed)?;
        let topics = self.from(&fields, connections, used);
        let key = self.optional(&fields, "key", |reader, node| reader.program(node, "`key`"));
        let filter = self.optional(&fields, "filter", |reader, node| reader.program(node, "`filter`"));
        let map = self.optional(&fields, "map", Self::map);
        let target = self.to(&fields, connections, used);
        let order = self.optional(&fields, "order", Self::order);
        let retry = self.retry(fields.entry("retry"));
        let target = target?;
        Some(FlowPlan {
            name: name?,
            topics: topics?,
            key: key?,
            filter: filter?,
            map: map?,
            connection: target.connection,
            action: target.action,
            fields: target.fields,
            order: order?.unwrap_or(Order::Key),
            retry: retry?,
        })
    }

    /// A field that need not be there: `Some(None)` if it is not, `None` if something was reported.
    fn optional<T>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<Option<T>> {
        match fields.get(name) {
            Some(node) => read(self, node).map(Some),
            None => Some(None),
        }
    }

    fn order(&mut self, node: &Node) -> Option<Order> {
        self.choice(node, "`order`", &["key", "none"]).map(|word| match word {
            "none" => Order::None,
            _ => Order::Key,
        })
    }

    fn from(
        &mut self,
        fields: &Fields<'_>,
        connections: &[Known<'_>],
        used: &mut Vec<String>,
    ) -> Option<Vec<Topic>> {
        const HELP: &str = "`{ connection: NAME }` for what comes in through a connection, `{ topic: NAME }` or `{ topics: [NAME, ...] }`";
        let node = self.required(fields, "from", HELP)?;
        let from = self.fields(node, "`from`", &node.span, &["connection", "topic", "topics"])?;
        let written: Vec<_> =
            ["connection", "topic", "topics"].into_iter().filter_map(|name| from.entry(name)).collect();
        let [only] = written.as_slice() else {
            let message = "`from` needs exactly one of `connection`, `topic` and `topics`";
            self.report(Problem::new(code::CONFLICT, node.span.clone(), message).help(HELP));
            return None;
        };
        match only.name.as_str() {
            "connection" => self.source(&only.node, connections, used).map(|topic| vec![topic]),
            "topic" => self.topic(&only.node).map(|topic| vec![topic]),
            _ => self.topics(&only.node, "`topics`"),
        }
    }

    fn source(&mut self, node: &Node, connections: &[Known<'_>], used: &mut Vec<String>) -> Option<Topic> {
        let connection = self.known(node, connections)?;
        used.push(connection.name.to_owned());
        if let Some(spec) = connection.spec.filter(|spec| !spec.source) {
            let message = format!("no events come in through the connector `{}`", spec.name);
            self.report(Problem::new(code::CONFLICT, node.span.clone(), message).help(
                "read from a connection whose connector has a source, or from a topic that is published to over the API",
            ));
            return None;
        }
        ConnectionName::new(connection.name).ok().map(|name| Topic::of_source(&name))
    }

    /// The connection that a node names.
    pub fn known<'k, 'c>(&mut self, node: &Node, connections: &'k [Known<'c>]) -> Option<&'k Known<'c>> {
        let written = self.text(node, "`connection`")?;
        let found = connections.iter().find(|connection| connection.name == written);
        if found.is_none() {
            let names: Vec<_> = connections.iter().map(|connection| connection.name).collect();
            let help = match names.is_empty() {
                true => "describe it under `connections:` first".to_owned(),
                false => choices(written, &names),
            };
            let message = format!("there is no connection `{written}`");
            self.report(Problem::new(code::UNKNOWN_NAME, node.span.clone(), message).help(help));
        }
        found
    }

    /// A list of topics, each once and at least one.
    pub fn topics(&mut self, node: &Node, what: &str) -> Option<Vec<Topic>> {
        let items = self.list(node, what)?;
        if items.is_empty() {
            self.report(Problem::new(code::WRONG_VALUE, node.span.clone(), format!("{what} is empty")));
            return None;
        }
        let mut topics = Vec::with_capacity(items.len());
        let mut whole = true;
        for item in items {
            match self.topic(item) {
                Some(topic) if topics.contains(&topic) => {
                    let message = format!("the topic `{topic}` is written twice");
                    self.report(Problem::new(code::DUPLICATE, item.span.clone(), message));
                }
                Some(topic) => topics.push(topic),
                None => whole = false,
            }
        }
        whole.then_some(topics)
    }

    fn topic(&mut self, node: &Node) -> Option<Topic> {
        let written = self.text(node, "a topic")?;
        self.open_topic(written, &node.span)
    }

    /// A topic whose name people give.
    pub fn open_topic(&mut self, written: &str, at: &Span) -> Option<Topic> {
        if written.starts_with(Topic::SOURCE_PREFIX) {
            let message = format!("a topic's name cannot begin with `{}`", Topic::SOURCE_PREFIX);
            self.report(Problem::new(code::WRONG_NAME, at.clone(), message).help(
                "these names belong to connections: write `from: { connection: NAME }` to read what comes in there",
            ));
            return None;
        }
        self.name(written, at, Topic::new)
    }
}
