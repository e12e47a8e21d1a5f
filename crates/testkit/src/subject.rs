//! What an adapter says about itself.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::{
    Broker, Checkpoints, Connections, DeadLetters, Event, EventLog, Group, HeldEvents, Leases, Outbox,
    OutboxLog, Replays, Settlements, Topic,
};

use crate::ManualClock;

/// What a subject is opened with. An adapter follows what applies to it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Partitions of each topic.
    pub partitions: u32,
    /// The topics that are there.
    pub topics: Vec<Topic>,
    /// The groups that will subscribe, with their topics.
    pub groups: Vec<(Group, Vec<Topic>)>,
    /// The largest event. The suites stay well below it or go well above, since adapters count differently.
    pub event_bytes_max: usize,
    /// How many events may wait to be written, where the adapter has a queue.
    pub queue_events_max: usize,
    /// How long a duplicate is recognised, at least.
    pub dedupe_window: Duration,
    /// How long an event is kept once every group is finished with it.
    pub retention: Duration,
    /// The time.
    pub clock: Arc<ManualClock>,
}

/// Something that can be opened, closed and cut off. Each test makes one of its own.
#[async_trait]
pub trait Subject: Sized + Send + Sync + 'static {
    /// A new one with nothing in it.
    async fn create(setup: &Setup) -> Self;

    /// Ends it in an orderly way and opens it again. Handles to its ports that are still around must not keep it open.
    async fn reopen(self, setup: &Setup) -> Self;

    /// Ends it as `kill -9` does, with nothing written that was not written yet, and opens it again.
    async fn crash(self, setup: &Setup) -> Self;
}

/// A subject with a broker.
pub trait HasBroker: Subject {
    /// Whether deliveries that were finished out of order stay finished over a restart. Where not, everything from the
    /// lowest unfinished one on comes again.
    const KEEPS_GAPS: bool;
    /// Whether a topic or an event can be refused because it is unknown.
    const KNOWS_TOPICS: bool;
    /// Whether `publish` tells where an event stands.
    const TELLS_POSITIONS: bool;
    /// How soon a waiting member hears of an event on an idle machine: half of the tries must be faster.
    const WAKE_MAX: Duration;

    /// The broker.
    fn broker(&self) -> Arc<dyn Broker>;
}

/// A subject with an outbox.
#[async_trait]
pub trait HasOutbox: Subject {
    /// Whether an event can be refused because its topic is unknown.
    const KNOWS_TOPICS: bool;
    /// Whether it refuses events when more wait than `queue_events_max`.
    const REFUSES_WHEN_BUSY: bool;

    /// The outbox.
    fn outbox(&self) -> Arc<dyn Outbox>;

    /// Every event that the outbox has taken for the topic, those of one key in the order in which they will be
    /// published.
    async fn taken(&self, topic: &Topic) -> Vec<Event>;
}

/// A subject with every store.
pub trait HasStore: Subject {
    /// Whether workers that share the store share the rate of a replay too. A store of one process leaves it to the worker.
    const SHARES_RATES: bool;
    /// Whether positions may be given a second time, to other events: the broker is another server, whose topics may be made
    /// anew. Not where events and deliveries are in one file.
    const OUTLIVES_ITS_BROKER: bool;

    /// Where deliveries are settled.
    fn settlements(&self) -> Arc<dyn Settlements>;
    /// Held events.
    fn held(&self) -> Arc<dyn HeldEvents>;
    /// Dead letters.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;
    /// Replays.
    fn replays(&self) -> Arc<dyn Replays>;
    /// States of connections.
    fn connections(&self) -> Arc<dyn Connections>;
}

/// A subject whose outbox and broker are one log that can be looked into.
pub trait HasEventLog: HasOutbox + HasBroker {
    /// The log.
    fn event_log(&self) -> Arc<dyn EventLog>;
}

/// A subject with leases. Their time is real, also where the rest follows [`Setup::clock`].
pub trait HasLeases: Subject {
    /// The leases.
    fn leases(&self) -> Arc<dyn Leases>;
}

/// A subject that remembers which groups have begun to read what.
pub trait HasCheckpoints: Subject {
    /// The checkpoints.
    fn checkpoints(&self) -> Arc<dyn Checkpoints>;
}

/// A subject with an outbox that a relay reads.
#[async_trait]
pub trait HasOutboxLog: Subject {
    /// The relay's side.
    fn outbox_log(&self) -> Arc<dyn OutboxLog>;

    /// Commits events in one transaction, as an application does.
    async fn write(&self, topic: &Topic, events: Vec<Event>);
}
