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
    duration::{self, RATE_HELP, SIZE_HELP},
    problem::{Problem, Problems, code},
    reader::{Fields, Reader, nearest},
    reference,
    yaml::{self, Node, Value},
};

/// The fields of the file.
const FIELDS: [&str; 11] = [
    "data",
    "listen",
    "token",
    "allowed_hosts",
    "topics",
    "limits",
    "partitions",
    "retention",
    "dedupe_window",
    "connections",
    "flows",
];

/// The smallest limit of the data folder: some of the largest events, and room to hold them.
const DATA_BYTES_MIN: u64 = 16 << 20;
const DATA_HELP: &str = "a size of at least `16MiB`, for example `10GiB`";

/// A configuration that can be run.
pub struct Loaded {
    /// The file.
    pub file: PathBuf,
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
    /// Partitions of each topic; the broker's own default if it is not written.
    pub partitions: Option<u32>,
    /// How long events stay in the broker; the broker's own default if it is not written.
    pub retention: Option<Duration>,
    /// How long a duplicate is recognised; the broker's own default if it is not written.
    pub dedupe_window: Option<Duration>,
    /// What runs.
    pub plan: Plan,
    /// What probably is not meant like that.
    pub warnings: Problems,
}

/// The limits at the entrance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The largest body of a request, in bytes. Default 1 MiB.
    pub body_bytes_max: usize,
    /// The largest size of the database in the data folder, in bytes; none for the size of the disk, the default. New events
    /// are refused a little earlier; SQLite's log beside the database comes on top, usually some ten MiB.
    pub data_bytes_max: Option<u64>,
    /// The most events a second over all ways in; none for no limit, the default.
    pub rate: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 1 << 20, data_bytes_max: None, rate: None }
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
        let partitions =
            fields.get("partitions").and_then(|node| self.integer(node, "`partitions`", 1, 1024));
        let retention = fields.get("retention").and_then(|node| self.duration(node, "`retention`"));
        let dedupe_window =
            fields.get("dedupe_window").and_then(|node| self.duration(node, "`dedupe_window`"));
        let plan = self.plan(&fields, connectors, Environment { loopback });
        Some(Loaded {
            file: path.to_owned(),
            data: data?,
            listen: listen?,
            token: token.flatten(),
            allowed_hosts,
            limits,
            partitions: partitions.and_then(|number| u32::try_from(number).ok()),
            retention,
            dedupe_window,
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

    fn limits(&mut self, fields: &Fields<'_>) -> Limits {
        let mut limits = Limits::default();
        let Some(entry) = fields.entry("limits") else { return limits };
        let Some(fields) = self.fields(&entry.node, "`limits`", &entry.at, &["body", "data", "rate"]) else {
            return limits;
        };
        if let Some(node) = fields.get("body") {
            let bytes = self.parsed(node, "`body`", SIZE_HELP, |text| {
                duration::size(text).and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0)
            });
            limits.body_bytes_max = bytes.unwrap_or(limits.body_bytes_max);
        }
        if let Some(node) = fields.get("data") {
            limits.data_bytes_max = self.parsed(node, "`data`", DATA_HELP, |text| {
                duration::size(text).filter(|bytes| *bytes >= DATA_BYTES_MIN)
            });
        }
        if let Some(node) = fields.get("rate") {
            limits.rate = self.parsed(node, "`rate`", RATE_HELP, duration::rate);
        }
        limits
    }

    fn plan(
        &mut self,
        fields: &Fields<'_>,
        connectors: &[Arc<dyn Connector>],
        environment: Environment,
    ) -> Plan {
        let declared =
            fields.get("topics").and_then(|node| self.topics(node, "`topics`")).unwrap_or_default();
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
        self.warn_of_unread(fields.get("topics"), &flows);
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

    fn warn_of_unread(&mut self, declared: Option<&Node>, flows: &[FlowPlan]) {
        let Some(Value::List(items)) = declared.map(|node| &node.value) else { return };
        let read: Vec<_> = flows
            .iter()
            .flat_map(|flow| flow.topics.iter().map(Topic::as_str))
            .filter(|topic| !topic.starts_with(Topic::SOURCE_PREFIX))
            .collect();
        for item in items {
            let Value::Scalar { text, .. } = &item.value else { continue };
            if read.contains(&text.as_str()) {
                continue;
            }
            let message = format!("no flow reads the topic `{text}`");
            let help = match nearest(text, &read) {
                Some(near) => format!("a flow reads `{near}`: is that the same topic?"),
                None => "what is sent to it is accepted and goes nowhere".to_owned(),
            };
            self.report(Problem::new(code::UNUSED, item.span.clone(), message).help(help).warning());
        }
    }
}

/// The topics that take events over the API: those that are declared, then those that flows read. Topics of sources take
/// theirs through their connection, which verifies them.
fn open_topics(declared: Vec<Topic>, flows: &[FlowPlan]) -> Vec<Topic> {
    let read = flows.iter().flat_map(|flow| flow.topics.iter().cloned());
    let mut seen = HashSet::new();
    declared
        .into_iter()
        .chain(read)
        .filter(|topic| !topic.as_str().starts_with(Topic::SOURCE_PREFIX) && seen.insert(topic.clone()))
        .collect()
}
