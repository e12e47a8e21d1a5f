//! Making the topics that are wanted.

use std::time::Duration;

use crossdock_core::{Finding, Severity, Topic};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::RDKafkaErrorCode,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{Kafka, KafkaError, client, client::Context, options::Mechanism};

/// How long the cluster may take for an act of administration.
pub(crate) const ADMIN_MAX: Duration = Duration::from_secs(20);
/// How long it may take until a new topic is known everywhere, and how often it is asked for.
const KNOWN_MAX: Duration = Duration::from_secs(10);
const KNOWN_AGAIN: Duration = Duration::from_millis(100);

/// A topic as the configuration wants it. What is not said follows [`crate::KafkaOptions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicShape {
    /// The topic.
    pub topic: Topic,
    /// Its partitions.
    pub partitions: Option<u32>,
    /// Copies of each partition.
    pub replication: Option<u16>,
    /// How long events stay.
    pub retention: Option<Duration>,
}

impl TopicShape {
    /// A topic of which nothing is said.
    pub fn new(topic: Topic) -> Self {
        Self { topic, partitions: None, replication: None, retention: None }
    }
}

impl Kafka {
    /// Makes the topics that are missing, and tells what else differs from what is wanted; nothing that is there is changed.
    /// An error among the findings comes back as [`KafkaError::Topics`]. Doing it twice, or in two workers at once, changes
    /// nothing.
    pub async fn provision(&self, wanted: &[TopicShape]) -> Result<Vec<Finding>, KafkaError> {
        let findings = self.compared(wanted).await.findings;
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(KafkaError::Topics(only_errors(findings)));
        }
        let missing: Vec<_> = wanted
            .iter()
            .filter(|shape| {
                let subject = crate::findings::subject(&shape.topic);
                findings.iter().any(|found| found.severity == Severity::Missing && found.subject == subject)
            })
            .collect();
        if missing.is_empty() {
            return Ok(findings);
        }
        self.make(&missing).await?;
        self.until_there(missing.iter().map(|shape| shape.topic.clone()).collect()).await;
        let findings = self.compared(wanted).await.findings;
        match findings.iter().any(|finding| finding.severity == Severity::Error) {
            true => Err(KafkaError::Topics(only_errors(findings))),
            false => Ok(findings),
        }
    }

    async fn make(&self, missing: &[&TopicShape]) -> Result<(), KafkaError> {
        let failed = |source| KafkaError::Unavailable { doing: "making topics", source };
        let admin = self.admin()?;
        let described: Vec<_> = missing.iter().map(|shape| Described::new(self, shape)).collect();
        let topics: Vec<_> = described.iter().map(Described::topic).collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_MAX)).operation_timeout(Some(ADMIN_MAX));
        let made = timeout(ADMIN_MAX + Duration::from_secs(1), admin.create_topics(&topics, &options)).await;
        let made = made
            .map_err(|_| failed(rdkafka::error::KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut)))?;
        let mut problems = Vec::new();
        for (result, shape) in made.map_err(failed)?.into_iter().zip(missing) {
            match result {
                Ok(name) => tracing::info!(target: "crossdock_kafka", topic = name, "topic made"),
                // Another worker was quicker.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => problems.push(refused(shape, code)),
            }
        }
        missing.iter().for_each(|shape| self.inner.topics.forget(&shape.topic));
        if problems.is_empty() { Ok(()) } else { Err(KafkaError::Topics(problems)) }
    }

    /// Waits a while until every broker that is asked knows topics that were made.
    async fn until_there(&self, topics: Vec<Topic>) {
        let until = Instant::now() + KNOWN_MAX;
        while Instant::now() < until {
            let asked = topics.clone();
            let found = self.inner.ask("looking for new topics", move |inner| inner.partitions(&asked)).await;
            if found.is_ok() {
                return;
            }
            sleep(KNOWN_AGAIN).await;
        }
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<Context>, KafkaError> {
        let config = client::config(&self.inner.options, &[]);
        config.create_with_context(self.inner.context.clone()).map_err(KafkaError::Options)
    }

    /// Whether acts of administration are possible: rdkafka's client for them fetches no token (it never polls for the
    /// question), so with OAUTHBEARER topics are made by people.
    pub(crate) fn can_administrate(&self) -> bool {
        self.inner.options.sasl.as_ref().is_none_or(|sasl| sasl.mechanism != Mechanism::OauthBearer)
    }
}

fn only_errors(findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect()
}

fn refused(shape: &TopicShape, code: RDKafkaErrorCode) -> Finding {
    let subject = crate::findings::subject(&shape.topic);
    let remedy = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            "allow this login to create topics (CREATE on the topic or the cluster), or make the topic yourself".to_owned()
        }
        RDKafkaErrorCode::InvalidReplicationFactor => {
            "write a `replication` that is not larger than the number of brokers".to_owned()
        }
        RDKafkaErrorCode::PolicyViolation => "ask who runs the cluster what its policy of topics allows".to_owned(),
        _ => "make the topic yourself, or look into the log of the broker".to_owned(),
    };
    Finding::error(subject, format!("it could not be made: {code}"), remedy)
}

/// A new topic's name and settings, as texts that a request can borrow.
struct Described {
    name: String,
    partitions: i32,
    replication: i32,
    settings: Vec<(&'static str, String)>,
}

impl Described {
    fn new(kafka: &Kafka, shape: &TopicShape) -> Self {
        let options = &kafka.inner.options;
        let partitions = shape.partitions.unwrap_or(options.partitions);
        // -1 is the broker's own default (KIP-464).
        let replication = shape.replication.or(options.replication).map_or(-1, i32::from);
        let mut settings = vec![
            // An event of the largest size fits, whatever the broker's default is.
            ("max.message.bytes", options.record_bytes_max().max(BATCH_BYTES).to_string()),
        ];
        if let Some(retention) = shape.retention.or(options.retention) {
            settings.push(("retention.ms", retention.as_millis().to_string()));
        }
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        Self { name: kafka.inner.topics.name(&shape.topic), partitions, replication, settings }
    }

    fn topic(&self) -> NewTopic<'_> {
        let replication = TopicReplication::Fixed(self.replication);
        let topic = NewTopic::new(&self.name, self.partitions, replication);
        self.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
    }
}

/// Room for the producer's batches, with what the protocol adds.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
