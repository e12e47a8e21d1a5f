//! From a file to what the hub runs.

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crossdock_core::{Connector, Environment, Topic};
use crossdock_engine::{FlowPlan, Plan};
use secrecy::SecretString;

use super::{
    connections::Known,
    limits::Limits,
    problem::{Problem, Problems, code},
    reader::{Fields, Reader, nearest},
    reference,
    servers::{Carrier, Servers, Shown, Store},
    topics::{Declared, Shape, TopicPlan},
    yaml::{self, Node},
};

/// The fields of the file.
const FIELDS: [&str; 15] = [
    "store",
    "broker",
    "data",
    "listen",
    "token",
    "allowed_hosts",
    "topics",
    "limits",
    "partitions",
    "replication",
    "retention",
    "dedupe_window",
    "dead_letter_retention",
    "connections",
    "flows",
];

/// A configuration that can be run.
pub struct Loaded {
    /// The file.
    pub file: PathBuf,
    /// Where state is kept. Default in the `data` folder.
    pub store: Store,
    /// What carries events. Default a log in the `data` folder.
    pub broker: Carrier,
    /// Both for people, without any secret.
    pub shown: Shown,
    /// The folder of the embedded store and broker. Default `data` beside the file.
    pub data: PathBuf,
    /// Where the API listens. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// What the API asks for (`Authorization: Bearer …`); always there unless `listen` is a loopback address.
    pub token: Option<SecretString>,
    /// Names under which the hub may be reached besides the address that it listens on.
    pub allowed_hosts: Vec<String>,
    /// The limits at the entrance.
    pub limits: Limits,
    /// Every topic that takes events, by name, with what is said of it.
    pub topics: Vec<TopicPlan>,
    /// What is said of all topics.
    pub shape: Shape,
    /// How long a duplicate is recognised; the broker's own default if it is not written.
    pub dedupe_window: Option<Duration>,
    /// How long replayed and discarded dead letters are kept; the store's own default if it is not written. Open ones stay.
    pub dead_letter_retention: Option<Duration>,
    /// What runs.
    pub plan: Plan,
    /// What probably is not meant like that.
    pub warnings: Problems,
}

impl Loaded {
    /// Whether it needs nothing but its own folder.
    pub fn is_embedded(&self) -> bool {
        matches!((&self.store, &self.broker), (Store::Embedded, Carrier::Embedded))
    }
}

/// Loads a configuration: reads it, checks it, puts references in and compiles it. Either it can be run, or everything
/// that is wrong with it comes back, in the order of the file.
pub fn load(
    path: &Path,
    environment: reference::Environment<'_>,
    connectors: &[Arc<dyn Connector>],
) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => load_text(path, &text, environment, connectors),
            Err(_) => Err(of_file(name, Problem::of_file("this is not UTF-8 text"))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let help =
                "`crossdock init` writes one to begin with; another file is named as `crossdock run -c FILE`";
            Err(of_file(name, Problem::of_file("there is no such file").help(help)))
        }
        Err(error) => Err(of_file(name, Problem::of_file(format!("cannot be read: {error}")))),
    }
}

fn of_file(name: String, problem: Problem) -> Problems {
    let mut problems = Problems::new(name, "");
    problems.items.push(problem);
    problems
}

/// Loads a configuration from its text; paths in it are relative to the folder of `path`.
pub fn load_text(
    path: &Path,
    text: &str,
    environment: reference::Environment<'_>,
    connectors: &[Arc<dyn Connector>],
) -> Result<Loaded, Problems> {
    let mut problems = Problems::new(path.display().to_string(), text);
    let (tree, found) = yaml::parse(text);
    if found.is_empty() && tree.as_ref().is_none_or(Node::is_null) {
        let help = "remove it, and `crossdock init` writes one to begin with";
        return Err(of_file(path.display().to_string(), Problem::of_file("the file is empty").help(help)));
    }
    problems.items = found;
    let mut reader = Reader::new(problems, environment);
    let loaded = tree.and_then(|tree| reader.document(path, &tree, connectors));
    let problems = reader.problems.sorted();
    match loaded {
        Some(loaded) if !problems.has_errors() => Ok(Loaded { warnings: problems, ..loaded }),
        _ => Err(problems.errors_only()),
    }
}

impl Reader<'_> {
    fn document(&mut self, path: &Path, tree: &Node, connectors: &[Arc<dyn Connector>]) -> Option<Loaded> {
        let fields = self.fields(tree, "the configuration", &(0..0), &FIELDS)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let data = self.data(&fields, folder);
        let token = fields.get("token").map(|node| self.secret(node, "`token`"));
        let listen = self.listen(&fields, token.is_some());
        let loopback = listen.is_none_or(|listen| listen.ip().is_loopback());
        let allowed_hosts = fields.get("allowed_hosts").and_then(|node| self.hosts(node)).unwrap_or_default();
        let limits = self.limits(&fields);
        let servers = self.servers(&fields, folder);
        let shape = self.shape(&fields);
        let dedupe_window =
            fields.get("dedupe_window").and_then(|node| self.duration(node, "`dedupe_window`"));
        let dead_letter_retention = fields
            .get("dead_letter_retention")
            .and_then(|node| self.duration(node, "`dead_letter_retention`"));
        let declared = self.declared(&fields, servers.as_ref());
        let plan = self.plan(&fields, &declared, connectors, Environment { loopback });
        let topics = self.topic_plans(&plan, &declared, shape);
        if let Some(servers) = &servers {
            self.warn_of_unused_fields(servers, &fields);
        }
        let Servers { store, broker, shown } = servers?;
        Some(Loaded {
            file: path.to_owned(),
            store,
            broker,
            shown,
            data: data?,
            listen: listen?,
            token: token.flatten(),
            allowed_hosts,
            limits,
            topics,
            shape,
            dedupe_window,
            dead_letter_retention,
            plan,
            warnings: Problems::new("", ""),
        })
    }

    fn data(&mut self, fields: &Fields<'_>, folder: &Path) -> Option<PathBuf> {
        match fields.get("data") {
            Some(node) => self.resolved(node, "`data`").map(|resolved| folder.join(resolved.text)),
            None => Some(folder.join("data")),
        }
    }

    fn listen(&mut self, fields: &Fields<'_>, has_token: bool) -> Option<SocketAddr> {
        const HELP: &str = "an address and a port, for example `127.0.0.1:8080`";
        let Some(node) = fields.get("listen") else { return Some(SocketAddr::from(([127, 0, 0, 1], 8080))) };
        let listen = self.parsed(node, "`listen`", HELP, |text| match text.strip_prefix("localhost:") {
            Some(port) => port.parse().ok().map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
            None => text.parse().ok(),
        })?;
        if !listen.ip().is_loopback() && !has_token {
            let message = "the API would be open to everyone who can reach this address";
            self.report(Problem::new(code::CONFLICT, node.span.clone(), message).help(
                "add `token: \"${env.CROSSDOCK_TOKEN}\"`, or listen on a loopback address such as `127.0.0.1:8080`",
            ));
        }
        Some(listen)
    }

    fn hosts(&mut self, node: &Node) -> Option<Vec<String>> {
        let hosts = self.texts(node, "`allowed_hosts`")?;
        for (host, item) in hosts.iter().zip(self.list(node, "`allowed_hosts`")?) {
            let fits = !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
            if !fits {
                let problem = Problem::new(code::WRONG_VALUE, item.span.clone(), "this is not a host name");
                self.report(problem.help("for example `hub.example.com`: no scheme, no path"));
            }
        }
        Some(hosts)
    }

    fn plan(
        &mut self,
        fields: &Fields<'_>,
        declared: &[Declared],
        connectors: &[Arc<dyn Connector>],
        environment: Environment,
    ) -> Plan {
        let connections = match fields.get("connections") {
            Some(node) => self.connections(node, connectors, environment),
            None => Vec::new(),
        };
        let mut used = Vec::new();
        let flows = match fields.get("flows") {
            Some(node) => self.flows(node, &connections, &mut used),
            None => Vec::new(),
        };
        self.warn_of_unused(&connections, &used);
        self.warn_of_unread(declared, &flows);
        let topics = open_topics(declared, &flows);
        let connections = connections.into_iter().filter_map(|connection| connection.plan).collect();
        Plan { flows: flows.into_iter().map(Arc::new).collect(), connections, topics }
    }

    fn warn_of_unused(&mut self, connections: &[Known<'_>], used: &[String]) {
        for connection in
            connections.iter().filter(|connection| !used.iter().any(|name| name == connection.name))
        {
            let message = format!("no flow uses the connection `{}`", connection.name);
            self.report(Problem::new(code::UNUSED, connection.at.clone(), message).warning());
        }
    }

    fn warn_of_unread(&mut self, declared: &[Declared], flows: &[FlowPlan]) {
        let read: Vec<_> = flows
            .iter()
            .flat_map(|flow| flow.topics.iter().map(Topic::as_str))
            .filter(|topic| !topic.starts_with(Topic::SOURCE_PREFIX))
            .collect();
        for Declared { topic, at, .. } in declared {
            let text = topic.as_str();
            if read.contains(&text) {
                continue;
            }
            let message = format!("no flow reads the topic `{text}`");
            let help = match nearest(text, &read) {
                Some(near) => format!("a flow reads `{near}`: is that the same topic?"),
                None => "what is sent to it is accepted and goes nowhere".to_owned(),
            };
            self.report(Problem::new(code::UNUSED, at.clone(), message).help(help).warning());
        }
    }
}

/// The topics that take events over the API: those that are declared, then those that flows read. Topics of sources take
/// theirs through their connection, which verifies them.
fn open_topics(declared: &[Declared], flows: &[FlowPlan]) -> Vec<Topic> {
    let read = flows.iter().flat_map(|flow| flow.topics.iter().cloned());
    let mut seen = HashSet::new();
    declared
        .iter()
        .map(|declared| declared.topic.clone())
        .chain(read)
        .filter(|topic| !topic.as_str().starts_with(Topic::SOURCE_PREFIX) && seen.insert(topic.clone()))
        .collect()
}
