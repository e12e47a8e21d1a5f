//! The thread that hands batches to librdkafka, one after the other, and replaces a producer that is dead.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossdock_core::PublishError;
use futures::channel::oneshot;

use super::{
    Batch, Line,
    line::Next,
    producer::{Handed, Producer, Trouble},
};
use crate::{
    KafkaError, KafkaOptions,
    client::Context,
    topics::{Presence, Topics},
};

/// How often it looks whether something waits too long.
const TICK: Duration = Duration::from_millis(100);
/// How long it waits for room in librdkafka's queue before it looks again.
const ROOM: Duration = Duration::from_millis(1);
/// How long purged events may take to be reported.
const PURGE_MAX: Duration = Duration::from_secs(5);
/// Bytes of a request for one partition, to begin with: a little less than what a topic takes by default.
const BATCH_BYTES: usize = 1_000_000;
const BATCH_BYTES_MIN: usize = 16 << 10;

/// Owns the producer.
pub(crate) struct Sender {
    options: KafkaOptions,
    context: Context,
    line: Arc<Line>,
    topics: Arc<Topics>,
    producer: Producer,
    batch_bytes: usize,
}

impl Sender {
    /// Makes the producer and starts the thread. What it returns is told once the thread has ended, which it does soon after
    /// the line is closed: with everything acknowledged, or given back at the time that the closing says.
    pub(crate) fn start(
        options: &KafkaOptions,
        context: Context,
        line: Arc<Line>,
        topics: Arc<Topics>,
    ) -> Result<oneshot::Receiver<()>, KafkaError> {
        let batch_bytes = BATCH_BYTES;
        let producer = Producer::new(options, context.clone(), &topics, batch_bytes)?;
        let sender = Self { options: options.clone(), context, line, topics, producer, batch_bytes };
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("kafka-sender".to_owned()).spawn(move || {
            sender.run();
            // Nobody may wait for it any more.
            let _ = ended.send(());
        })?;
        Ok(end)
    }

    fn run(mut self) {
        loop {
            match self.line.next(TICK) {
                Next::Batch(batch) => self.send(&batch),
                Next::Nothing => {}
                Next::Closed(until) => return self.end(until),
            }
            self.look();
        }
    }

    /// Waits for what is on its way, and gives back what is left at the end of the time.
    fn end(mut self, until: Instant) {
        while !self.producer.flights.is_empty() {
            if Instant::now() >= until {
                return self.give_back("the broker is closed");
            }
            thread::sleep(ROOM);
            self.look();
        }
    }

    fn send(&mut self, batch: &Arc<Batch>) {
        match self.topics.presence(&batch.topic) {
            Presence::Missing => {
                return batch.answer_rest(&PublishError::UnknownTopic(batch.topic.clone()));
            }
            // Where nobody answers, librdkafka waits for the broker, and we for librdkafka.
            Presence::There | Presence::NotKnown => {}
        }
        let topic = self.topics.name(&batch.topic);
        let bytes_max = self.options.record_bytes_max();
        let slot = self.producer.flights.begin(batch);
        let flights = self.producer.flights.clone();
        for (index, event) in batch.events.iter().enumerate() {
            let bytes = crate::record::bytes(event);
            if bytes > bytes_max {
                flights.finish(slot, index, |_| Err(PublishError::TooLarge { bytes, bytes_max }));
                continue;
            }
            while let Handed::Full = self.producer.hand(&topic, batch, slot, index) {
                thread::sleep(ROOM);
                if self.look() {
                    return batch.answer_rest(&PublishError::Unavailable("the broker is away".to_owned()));
                }
            }
        }
    }

    /// Looks for trouble. True if everything was given back.
    fn look(&mut self) -> bool {
        match self.producer.trouble() {
            Some(Trouble::Dead(why)) => {
                tracing::error!(target: "crossdock_kafka", reason = why, "the producer is dead; a new one takes over");
                self.give_back(&format!("the producer died: {why}"));
                self.replace();
            }
            Some(Trouble::BatchTooLarge) => {
                self.batch_bytes = (self.batch_bytes / 4).max(BATCH_BYTES_MIN);
                let bytes = self.batch_bytes;
                tracing::warn!(target: "crossdock_kafka", bytes, "a topic takes only smaller batches; raise its max.message.bytes");
                self.give_back("a topic takes only smaller batches");
                self.replace();
            }
            Some(Trouble::Failed(why)) => {
                tracing::warn!(target: "crossdock_kafka", reason = why, "events could not be published; all that wait are given back");
                self.give_back(&why);
            }
            None if self.waits_too_long() => {
                let limit = self.options.publish_timeout;
                let why = self.context.health.reason().map_or("no answer".to_owned(), |reason| reason.text);
                tracing::warn!(target: "crossdock_kafka", ?limit, reason = why, "nothing was acknowledged for too long; all events that wait are given back");
                self.give_back(&why);
            }
            None => return false,
        }
        true
    }

    fn waits_too_long(&self) -> bool {
        self.producer.flights.oldest().is_some_and(|since| since.elapsed() > self.options.publish_timeout)
    }

    /// Gives everything back that is on its way: what waits in the line first, so that nothing can overtake.
    fn give_back(&mut self, why: &str) {
        let flights = self.producer.flights.clone();
        let batches = flights.batches();
        self.line.break_off(why, &batches);
        self.producer.purge();
        // What was not handed over yet has no report to wait for.
        let until = Instant::now() + PURGE_MAX;
        while !self.producer.is_idle() && Instant::now() < until {
            thread::sleep(ROOM);
        }
        let silent = !self.producer.is_idle();
        batches.iter().for_each(|batch| batch.answer_rest(&PublishError::Unknown));
        if silent {
            // Its reports may still come: not to the slots of batches that come later.
            self.replace();
        } else {
            flights.clear();
        }
    }

    /// Makes a new producer; the old one ends on its own thread.
    fn replace(&mut self) {
        match Producer::new(&self.options, self.context.clone(), &self.topics, self.batch_bytes) {
            Ok(producer) => self.producer = producer,
            // The options made one before, so it is threads or memory that lack: the old one refuses, and this is tried again.
            Err(error) => {
                let error = crossdock_core::chain(&error);
                tracing::error!(target: "crossdock_kafka", error, "no new producer can be made");
            }
        }
    }
}
