//! What is found when Kafka is compared with the configuration.

mod rights;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crossdock_core::{Finding, Topic};
use rdkafka::{
    admin::{AdminOptions, ConfigResourceResult, ResourceSpecifier},
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use tokio::time::timeout;

use crate::{
    Kafka, TopicShape,
    broker::Inner,
    client::{Context, Health, Reason, Why},
    provision::{ADMIN_MAX, BATCH_BYTES},
    topics::{ASK_MAX, Asker},
};

const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a topic is called in a finding.
pub(crate) fn subject(topic: &Topic) -> String {
    format!("topic `{topic}`")
}

impl Kafka {
    /// Compares the cluster with what is wanted: whether it answers and lets us in, which topics are missing, which differ,
    /// and which rights are missing, each with what to do. Changes nothing. Takes up to half a minute where nobody answers.
    pub async fn findings(&self, wanted: &[TopicShape]) -> Vec<Finding> {
        let Compared { mut findings, there, limits } = self.compared(wanted).await;
        if there.is_empty() {
            return findings;
        }
        let inner = self.inner.clone();
        let tried = tokio::task::spawn_blocking(move || {
            let unreadable = inner.unreadable(&there)?;
            Ok::<_, KafkaError>((unreadable, inner.unwritable(&limits)?))
        });
        match tried.await {
            Ok(Ok((unreadable, unwritable))) => findings.extend(unreadable.into_iter().chain(unwritable)),
            Ok(Err(error)) => findings.push(untried(&error.to_string())),
            Err(error) => findings.push(untried(&error.to_string())),
        }
        findings
    }

    /// All of that but the rights, which take longer to find out.
    pub(crate) async fn compared(&self, wanted: &[TopicShape]) -> Compared {
        let (inner, shapes) = (self.inner.clone(), wanted.to_vec());
        let seen = tokio::task::spawn_blocking(move || inner.look(&shapes)).await;
        let (mut findings, there) =
            seen.unwrap_or_else(|error| (vec![untried(&error.to_string())], Vec::new()));
        let mut limits = Vec::new();
        if !there.is_empty() {
            match self.settings(&there).await {
                Ok(settings) => {
                    for (settings, shape) in settings.into_iter().zip(&there) {
                        let (differs, limit) = self.inner.compare(shape, settings);
                        findings.extend(differs);
                        limits.extend(limit.map(|limit| (shape.clone(), limit)));
                    }
                }
                Err(finding) => findings.push(finding),
            }
            findings.extend(self.broker_settings().await.unwrap_or_default());
        }
        Compared { findings, there, limits }
    }

    /// The settings of topics that are there.
    async fn settings(&self, there: &[TopicShape]) -> Result<Vec<ConfigResourceResult>, Finding> {
        if !self.can_administrate() {
            let detail =
                "with OAUTHBEARER the settings of topics cannot be read, and missing topics cannot be made";
            let remedy = "make the topics yourself, and compare their retention";
            return Err(Finding::warning("broker", detail, remedy));
        }
        let names: Vec<_> = there.iter().map(|shape| self.inner.topics.name(&shape.topic)).collect();
        let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        self.describe(&resources).await.map_err(|why| unreadable(&why))
    }

    async fn describe(
        &self,
        resources: &[ResourceSpecifier<'_>],
    ) -> Result<Vec<ConfigResourceResult>, String> {
        let admin = self.admin().map_err(|error| crossdock_core::chain(&error))?;
        let options = AdminOptions::new().request_timeout(Some(ADMIN_MAX));
        match timeout(ADMIN_MAX, admin.describe_configs(resources, &options)).await {
            Ok(Ok(described)) => Ok(described),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// A cluster that is too old, or lets no member be silent for so long or so short. Whoever may not read a broker's settings is
    /// told nothing.
    async fn broker_settings(&self) -> Option<Vec<Finding>> {
        if !self.can_administrate() {
            return None;
        }
        let inner = self.inner.clone();
        let broker = tokio::task::spawn_blocking(move || inner.topics.any_broker()).await.ok()??;
        let described = self.describe(&[ResourceSpecifier::Broker(broker)]).await.ok()?;
        let settings = described.into_iter().next()?.ok()?;
        let value = |name: &str| settings.get(name)?.value.clone();
        // Kafka 4 has no such setting any more.
        let version = value("inter.broker.protocol.version").filter(|version| is_too_old(version));
        let version = version.map(|version| {
            let detail = format!("it speaks the protocol of Kafka {version}");
            Finding::error("broker", detail, "upgrade it to Kafka 2.4 or newer")
        });
        let limit = |name: &str| value(name)?.parse().ok().map(Duration::from_millis);
        let least = limit("group.min.session.timeout.ms").unwrap_or(Duration::ZERO);
        let most = limit("group.max.session.timeout.ms").unwrap_or(Duration::MAX);
        let session = self.inner.options.session_timeout;
        let refused = (!(least..=most).contains(&session)).then(|| {
            let detail = format!("a `session_timeout` of {session:?} is refused by this cluster");
            let remedy = format!("write one of {} s to {} s", least.as_secs(), most.as_secs());
            Finding::error("consumer groups", detail, remedy)
        });
        Some(version.into_iter().chain(refused).collect())
    }
}

/// What a look at the cluster gives.
pub(crate) struct Compared {
    pub(crate) findings: Vec<Finding>,
    /// The topics that are there.
    there: Vec<TopicShape>,
    /// The largest record of those that tell it.
    limits: Vec<(TopicShape, usize)>,
}

/// Versions before 2.4 make no topic with their own number of copies, and know no member that has a name.
fn is_too_old(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) < (2, 4)
}

fn untried(why: &str) -> Finding {
    Finding::warning("broker", format!("not everything could be looked at: {why}"), "try again")
}

fn unreadable(why: &str) -> Finding {
    let detail = format!("the settings of topics cannot be read: {why}");
    Finding::warning("broker", detail, "allow this login DESCRIBE_CONFIGS on its topics")
}

impl Inner {
    /// Whether the cluster answers and lets us in; then each topic. Also returns the topics that are there. Blocks.
    fn look(&self, wanted: &[TopicShape]) -> (Vec<Finding>, Vec<TopicShape>) {
        // What this client says is not mixed with what the others say meanwhile.
        let context = Context::new(&self.options, Arc::new(Health::quiet()));
        let asker = match Asker::new(&self.options, context, Some(&self.any_group())) {
            Ok(asker) => asker,
            Err(error) => {
                let finding = Finding::error("broker", crossdock_core::chain(&error), "look at the options");
                return (vec![finding], Vec::new());
            }
        };
        let metadata = match self.all(&asker) {
            Ok(metadata) => metadata,
            Err(error) => return (vec![unreachable(&asker, &error)], Vec::new()),
        };
        let brokers = metadata.brokers().len();
        let mut findings =
            vec![Finding::ok("broker", format!("{brokers} brokers answer at {}", self.options.servers))];
        findings.extend(self.group_rights(&asker));
        let mut there = Vec::new();
        for shape in wanted {
            let name = self.topics.name(&shape.topic);
            // The list of all topics leaves out what we may not see; asked by name, a topic says why.
            let named = asker.consumer().fetch_metadata(Some(&name), ASK_MAX);
            let found = match named {
                Ok(named) => self.topic(shape, &name, &named, brokers),
                Err(error) => Err(unreachable(&asker, &error)),
            };
            match found {
                Ok(found) => {
                    findings.extend(found);
                    there.push(shape.clone());
                }
                Err(finding) => findings.push(finding),
            }
        }
        (findings, there)
    }

    /// What the cluster says of itself; asked for some seconds, unless it is clear before that it will not say.
    fn all(&self, asker: &Asker) -> Result<Metadata, KafkaError> {
        let until = Instant::now() + ASK_MAX;
        loop {
            let answer = asker.consumer().fetch_metadata(None, ASK_AGAIN);
            let hopeless = reason(asker).is_some_and(|reason| reason.why.is_final());
            if answer.is_ok() || hopeless || Instant::now() >= until {
                return answer;
            }
        }
    }

    /// A group's name that stands for all of them.
    fn any_group(&self) -> String {
        format!("{}check", self.options.group_prefix)
    }

    /// Whether groups with our prefix may be used.
    fn group_rights(&self, asker: &Asker) -> Option<Finding> {
        let anything = Topic::new("check").ok()?;
        let partition = crossdock_core::Partition { topic: anything, number: 0 };
        let until = Instant::now() + ASK_MAX;
        // The refusal comes beside the question, which ends by its time.
        let refused = loop {
            let list = self.topics.list(std::slice::from_ref(&partition));
            let asked = asker.consumer().committed_offsets(list, ASK_AGAIN);
            if reason(asker).is_some_and(|reason| reason.why == Why::Group) {
                break true;
            }
            if asked.is_ok() || Instant::now() >= until {
                break false;
            }
        };
        refused.then(|| {
            let prefix = &self.options.group_prefix;
            let detail = format!("this login may not use consumer groups that begin with `{prefix}`");
            let remedy = format!("allow READ on groups with the prefix `{prefix}`");
            Finding::error("consumer groups", detail, remedy)
        })
    }

    /// A topic that is there, with what differs; otherwise why it is not.
    fn topic(
        &self,
        shape: &TopicShape,
        name: &str,
        metadata: &Metadata,
        brokers: usize,
    ) -> Result<Vec<Finding>, Finding> {
        let about = subject(&shape.topic);
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let error = found.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
        let (found, partitions) = match (found, error) {
            (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                return Err(Finding::error(
                    about,
                    "this login may not see it",
                    format!("allow DESCRIBE, READ and WRITE on the topic `{name}`"),
                ));
            }
            (_, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic))
            | (None, _) => {
                return Err(self.missing(shape, about, brokers));
            }
            (Some(found), _) => (found, found.partitions()),
        };
        let mut findings = vec![Finding::ok(about.clone(), format!("{} partitions", partitions.len()))];
        if let Some(wanted) = shape.partitions.map(|wanted| wanted as usize)
            && wanted != partitions.len()
        {
            let there = partitions.len();
            findings.push(Finding::warning(
                about.clone(),
                format!("it has {there} partitions, and {wanted} are wanted"),
                format!(
                    "write `partitions: {there}`; more can be added by hand once every flow has finished the topic, since \
                     keys then move to other partitions"
                ),
            ));
        }
        let copies = partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or_default();
        if let Some(wanted) = shape.replication.or(self.options.replication)
            && usize::from(wanted) != copies
        {
            let detail = format!("it has {copies} copies of a partition, and {wanted} are wanted");
            findings.push(Finding::warning(
                about.clone(),
                detail,
                "reassign its partitions, or write what it has",
            ));
        }
        let leaderless = found.partitions().iter().filter(|partition| partition.leader() < 0).count();
        if leaderless > 0 {
            let detail = format!("{leaderless} of its partitions have no leader");
            findings.push(Finding::error(about, detail, "start the brokers that have their copies"));
        }
        Ok(findings)
    }

    fn missing(&self, shape: &TopicShape, about: String, brokers: usize) -> Finding {
        let partitions = shape.partitions.unwrap_or(self.options.partitions);
        let replication = shape.replication.or(self.options.replication);
        if let Some(copies) = replication.filter(|copies| usize::from(*copies) > brokers) {
            return Finding::error(
                about,
                format!("it is missing, and cannot have {copies} copies on {brokers} brokers"),
                format!("write `replication: {brokers}` or less, or add brokers"),
            );
        }
        let copies = replication
            .map_or("as many copies as the broker makes".to_owned(), |copies| format!("{copies} copies"));
        let detail = format!("it is missing; it is made with {partitions} partitions, {copies}");
        let oauth = self.options.sasl.as_ref().is_some_and(|sasl| sasl.token.is_some());
        if oauth {
            return Finding::error(
                about,
                "it is missing, and cannot be made with OAUTHBEARER",
                "make it yourself",
            );
        }
        Finding::missing(about, detail)
    }

    /// What differs in retention and size, and the largest record.
    fn compare(&self, shape: &TopicShape, settings: ConfigResourceResult) -> (Vec<Finding>, Option<usize>) {
        let settings = match settings {
            Ok(settings) => settings,
            Err(code) => {
                let detail = format!("its settings cannot be read: {code}");
                let remedy = "allow this login DESCRIBE_CONFIGS on the topic";
                return (vec![Finding::warning(subject(&shape.topic), detail, remedy)], None);
            }
        };
        let settings: HashMap<_, _> = settings.entry_map();
        let number = |name: &str| settings.get(name)?.value.as_deref()?.parse::<i64>().ok();
        let about = subject(&shape.topic);
        let mut findings = Vec::new();
        if let Some(wanted) = shape.retention.or(self.options.retention)
            && let Some(there) = number("retention.ms")
            && i64::try_from(wanted.as_millis()) != Ok(there)
        {
            let kept = u64::try_from(there)
                .map_or("for ever".to_owned(), |ms| format!("for {:?}", Duration::from_millis(ms)));
            findings.push(Finding::warning(
                about.clone(),
                format!("it keeps events {kept}, and {wanted:?} is wanted"),
                format!("set its retention.ms to {}, or write what it has", wanted.as_millis()),
            ));
        }
        let (event, batch) = (self.options.record_bytes_max(), BATCH_BYTES);
        let limit = number("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok());
        match limit {
            // Events that do not fit are refused one by one, and told of.
            Some(bytes) if bytes < event => findings.push(Finding::warning(
                about.clone(),
                format!(
                    "it takes records of {bytes} bytes, and the hub takes events of {event} with attributes"
                ),
                format!("set its max.message.bytes to {} or more, or lower `limits.body`", event.max(batch)),
            )),
            _ => {}
        }
        if settings
            .get("cleanup.policy")
            .and_then(|entry| entry.value.as_deref())
            .is_some_and(|policy| policy.contains("compact"))
        {
            findings.push(Finding::warning(
                about,
                "it is compacted: of events with one key only the last one is kept",
                "set its cleanup.policy to delete",
            ));
        }
        (findings, limit)
    }
}

/// Why nobody answers, as far as librdkafka has said.
fn unreachable(asker: &Asker, error: &KafkaError) -> Finding {
    let said = reason(asker);
    let remedy = match said.as_ref().map_or(Why::Other, |said| said.why) {
        Why::Tls => {
            "name the authority that signed the broker's certificate in `tls.ca`, the broker by the host that the \
             certificate names, and the port that speaks TLS"
        }
        Why::Login => "look at `sasl.mechanism`, `sasl.username` and the password",
        Why::Token => "look at `sasl.token_url`, `sasl.client_id` and the client's secret",
        Why::Name => "look at the host names in `broker`",
        Why::Group | Why::Other => {
            "start the broker, or look at the hosts and ports in `broker`; a port that speaks TLS needs `tls: true`"
        }
    };
    let detail = said.map_or_else(|| error.to_string(), |said| said.text);
    Finding::error("broker", detail, remedy)
}

/// What the client has said last about why it cannot work.
fn reason(asker: &Asker) -> Option<Reason> {
    asker.consumer().context().health.reason()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_2_4_are_too_old() {
        assert!(["0.11.0", "1.1-IV0", "2.3-IV1"].into_iter().all(is_too_old));
        assert!(!["2.4-IV1", "3.9-IV0", "10.0"].into_iter().any(is_too_old));
    }
}
