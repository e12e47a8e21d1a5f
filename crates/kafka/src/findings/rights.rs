//! Whether this login may read and write topics. Kafka tells nobody but by refusing, so both are tried, without leaving
//! anything behind: reading at the end of a topic, and writing a record that is larger than the topic takes. Kafka looks at
//! the right first and at the size then.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crossdock_core::Finding;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext},
};

use crate::{TopicShape, broker::Inner, client, client::Context};

/// How long the cluster may take to refuse.
const TRY_MAX: Duration = Duration::from_secs(5);
/// The largest record that is made to be refused. A topic that takes more is not tried.
const PROBE_BYTES_MAX: usize = 16 << 20;
/// By how much the record is larger than what the topic takes.
const BEYOND: usize = 1 << 10;

impl Inner {
    /// Topics that may not be read. Blocks.
    pub(super) fn unreadable(&self, shapes: &[TopicShape]) -> Result<Vec<Finding>, KafkaError> {
        let config = client::config(
            &self.options,
            &[
                ("group.id", format!("{}check", self.options.group_prefix)),
                ("session.timeout.ms", self.options.session_timeout.as_millis().to_string()),
                ("enable.auto.commit", "false".to_owned()),
                // At the end a partition says so, which shows that it may be read.
                ("enable.partition.eof", "true".to_owned()),
            ],
        );
        let consumer: BaseConsumer<Context> = config.create_with_context(self.context.clone())?;
        let consumer = Arc::new(consumer);
        let mut list = TopicPartitionList::new();
        let mut open = Vec::new();
        for shape in shapes {
            let name = self.topics.name(&shape.topic);
            list.add_partition_offset(&name, 0, Offset::End)?;
            // Each in a queue of its own: a refusal does not name its topic.
            open.extend(consumer.split_partition_queue(&name, 0).map(|queue| (shape, name, queue)));
        }
        consumer.assign(&list)?;
        let (mut findings, until) = (Vec::new(), Instant::now() + TRY_MAX);
        while !open.is_empty() && Instant::now() < until {
            // Serves what is not about a partition.
            let _ = consumer.poll(Duration::from_millis(20));
            open.retain(|(shape, name, queue)| match queue.poll(Duration::ZERO) {
                None => true,
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                    findings.push(Finding::error(
                        super::subject(&shape.topic),
                        "this login may not read it",
                        format!("allow READ on the topic `{name}`"),
                    ));
                    false
                }
                Some(_) => false,
            });
        }
        Ok(findings)
    }

    /// Topics that may not be written to, each with the largest record that it takes. Blocks.
    pub(super) fn unwritable(&self, shapes: &[(TopicShape, usize)]) -> Result<Vec<Finding>, KafkaError> {
        let largest = shapes.iter().map(|(_, bytes)| *bytes).filter(|bytes| *bytes < PROBE_BYTES_MAX).max();
        let Some(largest) = largest else { return Ok(Vec::new()) };
        let config = client::config(
            &self.options,
            &[
                ("message.max.bytes", (largest + 2 * BEYOND).to_string()),
                ("message.timeout.ms", TRY_MAX.as_millis().to_string()),
                ("acks", "1".to_owned()),
                ("linger.ms", "0".to_owned()),
                ("compression.type", "none".to_owned()),
            ],
        );
        let refusals = Refusals { context: self.context.clone(), refused: Arc::default() };
        let refused = refusals.refused.clone();
        let producer: BaseProducer<Refusals> = config.create_with_context(refusals)?;
        let record = vec![0; largest + BEYOND];
        for (index, (shape, bytes)) in shapes.iter().enumerate() {
            if *bytes >= PROBE_BYTES_MAX {
                continue;
            }
            let name = self.topics.name(&shape.topic);
            let probe: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&name, index);
            // librdkafka refuses only what is larger than the largest of these.
            let _ = producer.send(probe.partition(0).payload(&record[..bytes + BEYOND]));
            let until = Instant::now() + TRY_MAX;
            while rdkafka::producer::Producer::in_flight_count(&producer) > 0 && Instant::now() < until {
                producer.poll(Duration::from_millis(20));
            }
        }
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let finding = |index: &usize| {
            let (shape, _) = &shapes[*index];
            let name = self.topics.name(&shape.topic);
            let remedy = format!("allow WRITE on the topic `{name}`");
            Finding::error(super::subject(&shape.topic), "this login may not write to it", remedy)
        };
        Ok(refused.iter().map(finding).collect())
    }
}

/// Notes whose right was missing.
struct Refusals {
    context: Context,
    refused: Arc<Mutex<Vec<usize>>>,
}

impl ClientContext for Refusals {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ProducerContext for Refusals {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
        {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(index);
        }
    }
}
