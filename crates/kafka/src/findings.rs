//! What is found when Kafka is compared with the configuration.

use std::{collections::HashMap, time::Duration};

use crossdock_core::{Finding, Topic};
use rdkafka::{
    admin::{AdminOptions, ConfigResource, ResourceSpecifier},
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use tokio::time::timeout;

use crate::{
    Kafka, TopicShape,
    broker::Inner,
    provision::{ADMIN_MAX, BATCH_BYTES},
    topics::{ASK_MAX, Asker},
};

/// What a topic is called in a finding.
pub(crate) fn subject(topic: &Topic) -> String {
    format!("topic `{topic}`")
}

impl Kafka {
    /// Compares the cluster with what is wanted: whether it answers and lets us in, which topics are missing, which differ,
    /// and which rights are missing, each with what to do. Changes nothing. Takes up to half a minute where nobody answers.
    pub async fn findings(&self, wanted: &[TopicShape]) -> Vec<Finding> {
        let (inner, shapes) = (self.inner.clone(), wanted.to_vec());
        let seen = tokio::task::spawn_blocking(move || inner.look(&shapes)).await;
        let (mut findings, there) = match seen {
            Ok(seen) => seen,
            Err(error) => {
                return vec![Finding::error(
                    "broker",
                    format!("looking at it failed: {error}"),
                    "report this",
                )];
            }
        };
        if !there.is_empty() {
            findings.extend(self.compare_settings(&there).await);
        }
        findings
    }

    /// Settings of the topics that are there, beside their partitions.
    async fn compare_settings(&self, there: &[TopicShape]) -> Vec<Finding> {
        if !self.can_administrate() {
            let detail =
                "with OAUTHBEARER the settings of topics cannot be read, and missing topics cannot be made";
            return vec![Finding::warning(
                "broker",
                detail,
                "make the topics yourself, and compare their retention",
            )];
        }
        let admin = match self.admin() {
            Ok(admin) => admin,
            Err(error) => {
                return vec![Finding::error("broker", crossdock_core::chain(&error), "look at the options")];
            }
        };
        let names: Vec<_> = there.iter().map(|shape| self.inner.topics.name(&shape.topic)).collect();
        let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_MAX));
        let described = timeout(ADMIN_MAX, admin.describe_configs(&resources, &options)).await;
        let described = match described {
            Ok(Ok(described)) => described,
            Ok(Err(error)) => return vec![unreadable(&error.to_string())],
            Err(_) => return vec![unreadable("no answer in time")],
        };
        let mut findings = Vec::new();
        for (described, shape) in described.into_iter().zip(there) {
            match described {
                Ok(settings) => findings.extend(self.inner.compare(shape, &settings)),
                Err(code) => findings.push(Finding::warning(
                    subject(&shape.topic),
                    format!("its settings cannot be read: {code}"),
                    "allow this login DESCRIBE_CONFIGS on the topic",
                )),
            }
        }
        findings
    }
}

fn unreadable(why: &str) -> Finding {
    let detail = format!("the settings of topics cannot be read: {why}");
    Finding::warning("broker", detail, "allow this login DESCRIBE_CONFIGS on its topics")
}

impl Inner {
    /// Whether the cluster answers and lets us in; then each topic. Also returns the topics that are there. Blocks.
    fn look(&self, wanted: &[TopicShape]) -> (Vec<Finding>, Vec<TopicShape>) {
        let asker = match Asker::new(&self.options, self.context.clone(), Some(&self.any_group())) {
            Ok(asker) => asker,
            Err(error) => {
                let finding = Finding::error("broker", crossdock_core::chain(&error), "look at the options");
                return (vec![finding], Vec::new());
            }
        };
        let metadata = match asker.consumer().fetch_metadata(None, ASK_MAX * 2) {
            Ok(metadata) => metadata,
            Err(error) => return (vec![self.unreachable(&error)], Vec::new()),
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
                Err(error) => Err(self.unreachable(&error)),
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

    /// A group's name that stands for all of them.
    fn any_group(&self) -> String {
        format!("{}check", self.options.group_prefix)
    }

    /// Why nobody answers, as far as librdkafka has said.
    fn unreachable(&self, error: &KafkaError) -> Finding {
        let said = self.context.health.reason().unwrap_or_default();
        let detail = if said.is_empty() { error.to_string() } else { said.clone() };
        let remedy = if said.contains("SSL") || said.contains("ssl") {
            if said.contains("certificate verify failed") {
                "name the authority that signed the broker's certificate in `tls.ca`, and the host as the certificate names it"
            } else {
                "use the port of the broker that speaks TLS, and set `tls` only there"
            }
        } else if said.contains("uthentication") || said.contains("SASL") || said.contains("Sasl") {
            "look at `sasl.mechanism`, `sasl.username` and the password"
        } else if said.contains("token") {
            "look at `sasl.token_url`, `sasl.client_id` and the client's secret"
        } else if said.contains("resolve") {
            "look at the host names in `broker`"
        } else {
            "start the broker, or look at the hosts and ports in `broker`; a port that speaks TLS needs `tls: true`"
        };
        Finding::error("broker", detail, remedy)
    }

    /// Whether groups with our prefix may be used.
    fn group_rights(&self, asker: &Asker) -> Option<Finding> {
        let anything = Topic::new("check").ok()?;
        let partition = crossdock_core::Partition { topic: anything, number: 0 };
        let list = self.topics.list(std::slice::from_ref(&partition));
        match asker.consumer().committed_offsets(list, ASK_MAX) {
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                let prefix = &self.options.group_prefix;
                let detail = format!("this login may not use consumer groups that begin with `{prefix}`");
                Some(Finding::error(
                    "consumer groups",
                    detail,
                    format!("allow READ on groups with the prefix `{prefix}`"),
                ))
            }
            _ => None,
        }
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

    /// Retention and the largest record.
    fn compare(&self, shape: &TopicShape, settings: &ConfigResource) -> Vec<Finding> {
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
        match number("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok()) {
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
        findings
    }
}
