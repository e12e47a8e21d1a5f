//! `topics:` the topics that programs publish to, and what is said of each.

use std::time::Duration;

use crossdock_core::Topic;
use crossdock_engine::{FlowPlan, Plan};

use super::{
    problem::{Problem, code},
    reader::{Fields, Reader},
    servers::{Carrier, Servers},
    yaml::{Entry, Node, Span, Value},
};

/// Most partitions of a topic.
const PARTITIONS_MAX: u64 = 1024;
/// Most copies of a partition.
const REPLICATION_MAX: u64 = 127;

/// What has no effect on the embedded broker, why, and what to do.
const NOT_EMBEDDED: [(&str, &str, &str); 2] = [
    ("replication", "the embedded broker keeps one copy", "remove it, or name a `broker`"),
    (
        "retention",
        "the embedded broker keeps the events of all topics equally long",
        "write `retention` once, for the whole file",
    ),
];

/// A topic that the hub makes where it is missing, with what the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub topic: Topic,
    /// Its partitions; the adapter's own default if nothing is said.
    pub partitions: Option<u32>,
    /// Its copies; the broker's own default if nothing is said.
    pub replication: Option<u16>,
    /// How long events stay in it; the adapter's own default if nothing is said.
    pub retention: Option<Duration>,
    /// The first flow that keeps order by a key of its own, so that the topic must have one partition.
    pub single_for: Option<crossdock_core::FlowName>,
}

/// What may be said of topics, of one or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Partitions of a new topic.
    pub partitions: Option<u32>,
    /// Copies of each partition.
    pub replication: Option<u16>,
    /// How long events stay.
    pub retention: Option<Duration>,
}

/// A topic under `topics:`.
pub struct Declared {
    /// Its name.
    pub topic: Topic,
    /// Where it stands.
    pub at: Span,
    /// What is said of it.
    pub shape: Shape,
    /// Where its partitions stand.
    partitions_at: Option<Span>,
}

impl Reader<'_> {
    /// The topics under `topics:`, as a list of names or a map of names and shapes.
    pub fn declared(&mut self, fields: &Fields<'_>, servers: Option<&Servers>) -> Vec<Declared> {
        let Some(node) = fields.get("topics") else { return Vec::new() };
        match &node.value {
            Value::Map(entries) => entries.iter().filter_map(|entry| self.shaped(entry, servers)).collect(),
            _ => self.listed(node),
        }
    }

    fn listed(&mut self, node: &Node) -> Vec<Declared> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => &[],
        };
        let topics = self.topics(node, "`topics`").unwrap_or_default();
        let place = |topic: &Topic| {
            let named =
                |item: &&Node| matches!(&item.value, Value::Scalar { text, .. } if text == topic.as_str());
            items.iter().find(named).map_or(node.span.clone(), |item| item.span.clone())
        };
        let declared = |topic: Topic| {
            let at = place(&topic);
            Declared { topic, at, shape: Shape::default(), partitions_at: None }
        };
        topics.into_iter().map(declared).collect()
    }

    fn shaped(&mut self, entry: &Entry, servers: Option<&Servers>) -> Option<Declared> {
        let topic = self.open_topic(&entry.name, &entry.at)?;
        let what = format!("the topic `{}`", entry.name);
        let allowed = ["partitions", "replication", "retention"];
        let fields = self.fields(&entry.node, &what, &entry.at, &allowed)?;
        let shape = self.shape(&fields);
        if servers.is_some_and(|servers| matches!(servers.broker, Carrier::Embedded)) {
            self.warn_of_shape(&fields, &["replication", "retention"]);
        }
        let partitions_at = fields.get("partitions").map(|node| node.span.clone());
        Some(Declared { topic, at: entry.at.clone(), shape, partitions_at })
    }

    /// `partitions`, `replication` and `retention`, of a topic or of the whole file.
    pub fn shape(&mut self, fields: &Fields<'_>) -> Shape {
        let partitions =
            fields.get("partitions").and_then(|node| self.integer(node, "`partitions`", 1, PARTITIONS_MAX));
        let replication = fields
            .get("replication")
            .and_then(|node| self.integer(node, "`replication`", 1, REPLICATION_MAX));
        Shape {
            partitions: partitions.and_then(|number| u32::try_from(number).ok()),
            replication: replication.and_then(|number| u16::try_from(number).ok()),
            retention: fields.get("retention").and_then(|node| self.duration(node, "`retention`")),
        }
    }

    /// What the embedded broker does not do, out of these.
    pub fn warn_of_shape(&mut self, fields: &Fields<'_>, names: &[&str]) {
        for (name, why, help) in NOT_EMBEDDED {
            let Some(entry) = fields.entry(name).filter(|_| names.contains(&name)) else { continue };
            let message = format!("`{name}` has no effect here: {why}");
            self.report(Problem::new(code::UNUSED, entry.at.clone(), message).help(help).warning());
        }
    }

    /// The topics of a plan with what is said of them. A topic that a flow reads by a key of its own has one partition.
    pub fn topic_plans(&mut self, plan: &Plan, declared: &[Declared], all: Shape) -> Vec<TopicPlan> {
        let sources = plan
            .connections
            .iter()
            .filter(|connection| connection.connection.webhook().is_some())
            .map(|connection| Topic::of_source(&connection.name));
        let read = plan.flows.iter().flat_map(|flow| flow.topics.iter().cloned());
        let mut topics: Vec<_> = plan.topics.iter().cloned().chain(sources).chain(read).collect();
        topics.sort_unstable();
        topics.dedup();
        topics.into_iter().map(|topic| self.topic_plan(plan, declared, all, topic)).collect()
    }

    fn topic_plan(&mut self, plan: &Plan, declared: &[Declared], all: Shape, topic: Topic) -> TopicPlan {
        let mut flows = plan.flows.iter().filter(|flow| flow.topics.contains(&topic));
        let single = flows.find(|flow| flow.orders_across_keys());
        let said = declared.iter().find(|declared| declared.topic == topic);
        let shape = said.map(|declared| declared.shape).unwrap_or_default();
        if let (Some(flow), Some(said)) = (single, said)
            && shape.partitions.is_some_and(|partitions| partitions > 1)
        {
            self.report_split_order(flow, said);
        }
        TopicPlan {
            topic,
            partitions: if single.is_some() { Some(1) } else { shape.partitions.or(all.partitions) },
            replication: shape.replication.or(all.replication),
            retention: shape.retention.or(all.retention),
            single_for: single.map(|flow| flow.name.clone()),
        }
    }

    fn report_split_order(&mut self, flow: &FlowPlan, said: &Declared) {
        let message = format!(
            "the flow `{}` keeps order by a `key` of its own, so the topic `{}` needs one partition",
            flow.name, said.topic
        );
        let at = said.partitions_at.clone().unwrap_or_else(|| said.at.clone());
        self.report(
            Problem::new(code::CONFLICT, at, message)
                .help("write `partitions: 1`, or give the flow `order: none`, or leave its `key` out"),
        );
    }
}
