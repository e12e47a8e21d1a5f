//! The thread of a member.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossdock_core::{Group, Offset, Partition, Topic};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use super::{Shared, commit::Commits, leave::Leaving, rebalance::MemberContext};
use crate::{
    KafkaOptions,
    client::{self, Context},
    topics::{Edge, Topics},
};

/// How long the main queue is waited at.
const POLL: Duration = Duration::from_millis(50);
/// How often what is finished is committed.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether a member stands still, and when it does.
const WATCH_EVERY: Duration = Duration::from_secs(20);
const STILL: Duration = Duration::from_secs(60);
/// How long it is waited after a consumer that could not be made.
const AGAIN: Duration = Duration::from_secs(1);
/// What the queues of all partitions hold together, in kilobytes, as far as their number allows.
const QUEUES_KILOBYTES: usize = 2 << 10;

/// What a member is made of.
pub(crate) struct Member {
    pub(crate) options: KafkaOptions,
    pub(crate) context: Context,
    pub(crate) topics: Arc<Topics>,
    pub(crate) group: Group,
    pub(crate) reads: Vec<Topic>,
    /// The partitions of these topics.
    pub(crate) partitions: Vec<Partition>,
}

/// Starts the thread of a member. It ends when [`Shared::end`] says so, after it has left the group.
pub(crate) fn start(member: Member, shared: Arc<Shared>) -> std::io::Result<()> {
    let name = format!("kafka-{}", member.group);
    thread::Builder::new().name(name).spawn(move || {
        member.run(&shared);
        shared.set_ended();
    })?;
    Ok(())
}

impl Member {
    fn run(&self, shared: &Arc<Shared>) {
        // Where it stood still, if making a new consumer did not help.
        let mut stuck = Vec::new();
        while shared.ending().is_none() {
            if let Err(error) = self.consume(shared, &mut stuck) {
                let (group, error) = (self.group.as_str(), crossdock_core::chain(&error));
                tracing::error!(target: "crossdock_kafka", group, error, "the group cannot be joined; trying again");
                thread::sleep(AGAIN);
            }
        }
    }

    /// Makes a consumer and serves it until it must end.
    fn consume(&self, shared: &Arc<Shared>, stuck: &mut Vec<Place>) -> Result<(), KafkaError> {
        let context =
            MemberContext::new(&self.options, &self.context, &self.topics, &self.group, &self.reads, shared);
        let consumer: BaseConsumer<MemberContext> = self.config().create_with_context(context)?;
        let consumer = Arc::new(consumer);
        // Set once: the consumer was made just now.
        let _ = consumer.context().consumer.set(Arc::downgrade(&consumer));
        let names: Vec<_> = self.reads.iter().map(|topic| self.topics.name(topic)).collect();
        consumer.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let _commits =
            Commits::start(&consumer).map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        let (mut committed, mut watched) = (Instant::now(), Instant::now());
        while shared.ending().is_none() && !shared.take_rebuild() {
            self.poll(&consumer, shared);
            if committed.elapsed() >= COMMIT_EVERY {
                committed = Instant::now();
                let finished = shared.owned().into_iter().map(|(ledger, ..)| ledger);
                consumer.context().commits.ask(finished.filter(|ledger| ledger.is_unsaved()).collect());
            }
            if watched.elapsed() >= WATCH_EVERY {
                watched = Instant::now();
                self.watch(shared, stuck);
            }
        }
        Leaving::new(self, &consumer, shared).run();
        // Waits until that is done here, where nobody waits for us.
        drop(consumer);
        Ok(())
    }

    pub(super) fn poll(&self, consumer: &BaseConsumer<MemberContext>, shared: &Shared) {
        match consumer.poll(POLL) {
            None => {}
            // Every partition that is ours has its own queue.
            Some(Ok(message)) => {
                tracing::warn!(target: "crossdock_kafka", ?message, "a record came astray; reading begins anew");
                shared.want_rebuild();
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                let group = self.group.as_str();
                tracing::error!(target: "crossdock_kafka", group, %error, "the consumer is dead; a new one takes over");
                shared.want_rebuild();
            }
            // Told by the context where it is news; librdkafka goes on by itself.
            Some(Err(error)) => tracing::debug!(target: "crossdock_kafka", %error, "the consumer complains"),
        }
    }

    /// Makes a new consumer where events are there, somebody waits for them, and none come: librdkafka has lost a wake-up
    /// (rust-rdkafka issues 638 and 665). A place where that did not help is left alone: what stands there is no event but
    /// the mark of a transaction.
    fn watch(&self, shared: &Shared, stuck: &mut Vec<Place>) {
        if shared.idle().is_none_or(|idle| idle < STILL) {
            return;
        }
        let open: Vec<_> = shared.owned().into_iter().filter(|(.., paused)| !paused).collect();
        let partitions: Vec<_> = open.iter().map(|(ledger, ..)| ledger.partition.clone()).collect();
        let Ok(ends) = self.topics.edges(&partitions, Edge::End) else { return };
        let places = open.into_iter().map(|(ledger, next, _)| (ledger.partition.clone(), next)).collect();
        let Some(behind) = stands_still(places, &ends, stuck) else { return };
        let (group, places) = (self.group.as_str(), behind.len());
        tracing::error!(target: "crossdock_kafka", group, places, "no events came for a minute, and there are some; a new consumer takes over");
        *stuck = behind;
        shared.forget_idle();
        shared.want_rebuild();
    }

    fn config(&self) -> ClientConfig {
        let session = self.options.session_timeout;
        let queue = (QUEUES_KILOBYTES / self.partitions.len().max(1)).clamp(64, 4 << 10);
        let total = (QUEUES_KILOBYTES << 10).max(self.options.record_bytes_max());
        let mut config = client::config(
            &self.options,
            &[
                ("group.id", format!("{}{}", self.options.group_prefix, self.group)),
                ("enable.auto.commit", "false".to_owned()),
                ("enable.auto.offset.store", "false".to_owned()),
                // A place that is gone is never skipped in silence: see `positions`.
                ("auto.offset.reset", "error".to_owned()),
                ("partition.assignment.strategy", "cooperative-sticky".to_owned()),
                ("session.timeout.ms", session.as_millis().to_string()),
                // How soon the others hear of a member that comes or goes.
                ("heartbeat.interval.ms", (session / 3).min(Duration::from_secs(1)).as_millis().to_string()),
                // What a member holds of events that nobody has taken yet.
                ("queued.max.messages.kbytes", queue.to_string()),
                ("fetch.message.max.bytes", (queue << 10).min(1 << 20).to_string()),
                ("fetch.max.bytes", total.to_string()),
                // A queue that has room again is filled at once.
                ("fetch.queue.backoff.ms", "5".to_owned()),
                ("fetch.error.backoff.ms", "250".to_owned()),
            ],
        );
        if let Some(instance) = &self.options.instance {
            config.set("group.instance.id", instance);
        }
        config
    }
}

/// Where a partition is read next.
type Place = (Partition, Offset);

/// The places that have something behind them, unless all of these are known to be no events.
fn stands_still(
    mut places: Vec<Place>,
    ends: &HashMap<Partition, Offset>,
    known: &[Place],
) -> Option<Vec<Place>> {
    places.retain(|(partition, next)| ends.get(partition).is_some_and(|end| end > next));
    places.iter().any(|place| !known.contains(place)).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_consumer_is_made_once_for_a_place_and_again_for_the_next() {
        let partition = |number| Partition { topic: Topic::new("orders").expect("a name"), number };
        let ends = HashMap::from([(partition(0), 10), (partition(1), 5)]);
        let places = |one, two| vec![(partition(0), one), (partition(1), two)];
        assert_eq!(stands_still(places(10, 5), &ends, &[]), None, "all is read");
        let behind = stands_still(places(9, 5), &ends, &[]).expect("something is there");
        assert_eq!(behind, [(partition(0), 9)]);
        // The last offset holds the mark of a transaction: no consumer will ever give it.
        assert_eq!(stands_still(places(9, 5), &ends, &behind), None);
        assert!(stands_still(places(9, 4), &ends, &behind).is_some());
    }
}
