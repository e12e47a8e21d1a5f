//! The producer of librdkafka with the thread that takes its reports.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossdock_core::{Event, Position, PublishError, Published};
use rdkafka::{
    ClientConfig, ClientContext,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::Message,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig},
};

use super::Batch;
use crate::{KafkaOptions, client, client::Context, record, topics::Topics};

/// How long the thread waits for reports before it looks whether it should end.
const POLL: Duration = Duration::from_millis(100);

// A report carries the slot of its batch and its place in it in one pointer.
const _: () = assert!(usize::BITS == 64);

/// Batches whose events are with librdkafka.
#[derive(Default)]
pub(crate) struct Flights {
    slots: Mutex<Vec<Option<Flight>>>,
}

struct Flight {
    batch: Arc<Batch>,
    /// Events without a final word.
    left: usize,
}

impl Flights {
    fn slots(&self) -> MutexGuard<'_, Vec<Option<Flight>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the batch a slot, which it has until each of its events is finished once.
    pub(crate) fn begin(&self, batch: &Arc<Batch>) -> usize {
        let flight = Flight { batch: batch.clone(), left: batch.events.len() };
        let mut slots = self.slots();
        match slots.iter().position(Option::is_none) {
            Some(slot) => {
                slots[slot] = Some(flight);
                slot
            }
            None => {
                slots.push(Some(flight));
                slots.len() - 1
            }
        }
    }

    /// Finishes an event with what its batch makes of it.
    pub(crate) fn finish(&self, slot: usize, index: usize, answer: impl FnOnce(&Batch) -> Answer) {
        let mut slots = self.slots();
        let Some(Some(flight)) = slots.get_mut(slot) else { return };
        let answer = answer(&flight.batch);
        flight.batch.answer(index, answer);
        flight.left -= 1;
        if flight.left == 0 {
            slots[slot] = None;
        }
    }

    /// The batches that are out.
    pub(crate) fn batches(&self) -> Vec<Arc<Batch>> {
        self.slots().iter().flatten().map(|flight| flight.batch.clone()).collect()
    }

    /// Since when the oldest of them waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.slots().iter().flatten().map(|flight| flight.batch.since).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots().iter().all(Option::is_none)
    }

    /// Forgets all; only where no report can come any more.
    pub(crate) fn clear(&self) {
        self.slots().clear();
    }
}

type Answer = Result<Published, PublishError>;

/// Why a producer cannot go on.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// It is dead for good: librdkafka calls that fatal.
    Dead(String),
    /// A whole batch of records was larger than a topic takes, and none of its records alone.
    BatchTooLarge,
    /// An event failed for a reason that may pass.
    Failed(String),
}

/// Takes the reports.
pub(crate) struct Reports {
    context: Context,
    topics: Arc<Topics>,
    flights: Arc<Flights>,
    batch_bytes: usize,
    trouble: Mutex<Option<Trouble>>,
    troubled: AtomicBool,
}

impl Reports {
    fn report(&self, trouble: Trouble) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
        self.troubled.store(true, Ordering::Release);
    }

    /// What becomes of an event that the broker, or librdkafka, did not take.
    fn refused(&self, batch: &Batch, event: &Event, error: &KafkaError) -> PublishError {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            // Whether a record that waits in the queue was sent once before, librdkafka does not tell.
            Some(Code::PurgeQueue | Code::PurgeInflight) => PublishError::Unknown,
            Some(Code::MessageSizeTooLarge) => {
                let bytes = record::bytes(event);
                if bytes + 1024 >= self.batch_bytes {
                    return PublishError::TooLarge { bytes, bytes_max: bytes - 1 };
                }
                self.report(Trouble::BatchTooLarge);
                PublishError::Unavailable("the topic takes only smaller batches".to_owned())
            }
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                self.topics.forget(&batch.topic);
                PublishError::UnknownTopic(batch.topic.clone())
            }
            Some(Code::TopicAuthorizationFailed) => {
                PublishError::Unavailable(format!("this login may not write to the topic `{}`", batch.topic))
            }
            Some(Code::InvalidRecord | Code::PolicyViolation) => {
                PublishError::Unavailable(format!("the topic `{}` refuses the event: {error}", batch.topic))
            }
            Some(Code::Fatal) => {
                self.report(Trouble::Dead(error.to_string()));
                PublishError::Unknown
            }
            _ => {
                self.report(Trouble::Failed(error.to_string()));
                PublishError::Unknown
            }
        }
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.report(Trouble::Dead(reason.to_owned()));
        }
        self.context.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (slot, index) = (opaque >> 32, opaque & 0xffff_ffff);
        self.flights.finish(slot, index, |batch| match result {
            Ok(message) => {
                self.context.health.answered();
                Ok(Published::New(position(batch, message.partition(), message.offset())))
            }
            Err((error, _)) => Err(self.refused(batch, &batch.events[index], error)),
        });
    }
}

/// Where a record stands. The broker does not tell for one that it had already.
fn position(batch: &Batch, partition: i32, offset: i64) -> Option<Position> {
    let (partition, offset) = (u32::try_from(partition).ok()?, u64::try_from(offset).ok()?);
    Some(Position { topic: batch.topic.clone(), partition, offset })
}

/// What became of handing an event to librdkafka.
pub(crate) enum Handed {
    Taken,
    /// Its queue is full.
    Full,
    /// Refused; the event has its answer.
    Refused,
}

/// How many producers this process has made: one, plus one for each that died.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// A producer and its polling thread.
pub(crate) struct Producer {
    inner: Arc<BaseProducer<Reports>>,
    pub(crate) flights: Arc<Flights>,
    stop: Arc<AtomicBool>,
    headers: record::Writer,
}

impl Producer {
    pub(crate) fn new(
        options: &KafkaOptions,
        context: Context,
        topics: &Arc<Topics>,
        batch_bytes: usize,
    ) -> Result<Self, crate::KafkaError> {
        let flights = Arc::new(Flights::default());
        let reports = Reports {
            context,
            topics: topics.clone(),
            flights: flights.clone(),
            batch_bytes,
            trouble: Mutex::new(None),
            troubled: AtomicBool::new(false),
        };
        let inner: BaseProducer<Reports> =
            config(options, batch_bytes).create_with_context(reports).map_err(crate::KafkaError::Options)?;
        let (inner, stop) = (Arc::new(inner), Arc::new(AtomicBool::new(false)));
        let (polled, stopped) = (inner.clone(), stop.clone());
        thread::Builder::new().name("kafka-reports".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
            // The last one to hold the producer destroys it, which may take a while: here it keeps nobody waiting.
            drop(polled);
        })?;
        MADE.fetch_add(1, Ordering::Relaxed);
        Ok(Self { inner, flights, stop, headers: record::Writer::default() })
    }

    /// Hands an event over.
    pub(crate) fn hand(&mut self, topic: &str, batch: &Batch, slot: usize, index: usize) -> Handed {
        let event = &batch.events[index];
        let mut record = BaseRecord::with_opaque_to(topic, slot << 32 | index)
            .payload(event.data.as_ref())
            .headers(self.headers.headers(event));
        if let Some(key) = &event.key {
            record = record.key(key.as_bytes());
        }
        match self.inner.send(record) {
            Ok(()) => Handed::Taken,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Handed::Full,
            Err((error, _)) => {
                let reports = self.inner.context();
                self.flights.finish(slot, index, |batch| Err(reports.refused(batch, event, &error)));
                Handed::Refused
            }
        }
    }

    /// What is wrong with it.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let reports = self.inner.context();
        if !reports.troubled.load(Ordering::Acquire) {
            return None;
        }
        reports.troubled.store(false, Ordering::Relaxed);
        reports.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether every event that it was handed has been reported.
    pub(crate) fn is_idle(&self) -> bool {
        self.inner.in_flight_count() == 0
    }

    /// Gives up everything that is with librdkafka; each event is reported as purged, soon.
    pub(crate) fn purge(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn config(options: &KafkaOptions, batch_bytes: usize) -> ClientConfig {
    client::config(
        options,
        &[
            // Acknowledged by all replicas in sync, in order, once: up to five requests at a time.
            ("enable.idempotence", "true".to_owned()),
            ("acks", "all".to_owned()),
            // librdkafka gives up no event by itself; see the module.
            ("message.timeout.ms", "0".to_owned()),
            // A request is asked for again sooner than the whole queue is given back.
            (
                "request.timeout.ms",
                (options.publish_timeout.as_millis() / 3).clamp(1_000, 30_000).to_string(),
            ),
            ("socket.timeout.ms", (options.publish_timeout.as_millis() / 3).clamp(1_000, 60_000).to_string()),
            // How long a topic that was deleted keeps its events waiting: less than what makes all be given back.
            (
                "topic.metadata.propagation.max.ms",
                (options.publish_timeout.as_millis() / 2).clamp(1_000, 30_000).to_string(),
            ),
            // The hash of Java's clients; events without a key are spread.
            ("partitioner", "murmur2_random".to_owned()),
            ("linger.ms", "1".to_owned()),
            ("batch.size", batch_bytes.to_string()),
            ("batch.num.messages", "100000".to_owned()),
            ("queue.buffering.max.kbytes", (64 << 10).to_string()),
            ("queue.buffering.max.messages", "200000".to_owned()),
        ],
    )
}

/// How many producers this process has made.
pub(crate) fn made() -> usize {
    MADE.load(Ordering::Relaxed)
}
