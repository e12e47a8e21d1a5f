//! The broker port: topics, partitions, consumer groups.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::channel::oneshot;
use serde::Serialize;

use crate::{Event, FlowName, Offset, Position, Topic};

/// A consumer group: one for each flow, with the flow's name.
pub type Group = FlowName;

/// One partition of a topic: what is assigned to a worker, and inside which order holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Partition {
    /// The topic.
    pub topic: Topic,
    /// The number, from 0.
    pub number: u32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// The broker cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The topic is not there.
    #[error("the topic `{0}` does not exist")]
    UnknownTopic(Topic),
    /// The broker cannot be reached, or its disk fails. Try again later; nothing is lost.
    #[error("the broker is not available while {doing}")]
    Unavailable {
        /// What we were doing.
        doing: &'static str,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker is closed; the subscription ends.
    #[error("the broker is closed")]
    Closed,
}

/// An event was not taken. It is not in the broker, unless the error says that this is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic is not there.
    #[error("the topic `{0}` does not exist")]
    UnknownTopic(Topic),
    /// The event is larger than the broker takes.
    #[error("the event has {bytes} bytes, and the broker takes at most {bytes_max}")]
    TooLarge {
        /// The size of the event.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More is waiting to be written than the broker takes. Try again in a moment.
    #[error("too many events are waiting to be written")]
    Busy,
    /// It could not be written: disk full, read-only, broker away. Try again later.
    #[error("the event cannot be stored now: {0}")]
    Unavailable(String),
    /// It may be in the broker or not; publish it again with the same id.
    #[error("it is not known whether the event was stored")]
    Unknown,
}

/// What became of an event that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is durable, at this place if the broker tells.
    New(Option<Position>),
    /// An event with the same source and id was there already; this one was dropped.
    Duplicate,
}

/// Moves events to whom they concern.
///
/// **Order**: events of one key are delivered to a group in the order in which they were published. **Duplicates**:
/// at least once. **Durability**: a [`Published`] means that the event survives the loss of this process and, where
/// the broker keeps its word, of the machine. **Cancellation**: dropping `publish` leaves it open whether the events
/// were taken. The transport never tries again on its own behalf.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes events, in order, and answers for each one. An empty batch is answered by an empty list. Calls publish in the
    /// order in which their futures were polled for the first time, also while earlier ones still wait. Refusals keep the
    /// order of keys: once an event was refused in a way that may pass ([`PublishError::Busy`], `Unavailable`, `Unknown`), no
    /// later one of its key is taken, be it of this call or of one that is under way at that moment.
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>>;

    /// Lets the group begin on these topics without joining it. A group that is new misses nothing that is published after this
    /// was answered, by whichever process, also if its first member comes much later and in another one. A group that has
    /// begun there already is left as it is, with or without members. Doing it twice, or in two workers at once, changes nothing.
    ///
    /// Whoever sets a hub up does it for every flow before anything is told to be ready, and a relay waits for it. Joining does
    /// it too; by default this joins and leaves at once.
    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), BrokerError> {
        self.subscribe(group, topics).await.map(drop)
    }

    /// Joins the group on these topics. A group that is new misses nothing that is published after it was let
    /// [begin](Broker::begin) or its first subscription was answered, and gets nothing from before it was known: a broker that is
    /// told its groups when it is opened may begin with the next event after that. That beginning is remembered: a group that
    /// has finished nothing begins there again, also after a crash.
    ///
    /// What is not finished is given from the lowest offset on; in one process, and after an orderly end, nothing that
    /// was finished comes again. Unfinished events are kept whatever their age.
    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError>;

    /// How far each partition of the group's topics is behind. Sees a completed delivery within a second.
    async fn lag(&self, group: &Group) -> Result<Vec<GroupLag>, BrokerError>;
}

/// How far a group has come in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupLag {
    /// The partition.
    pub partition: Partition,
    /// The lowest offset that is not finished.
    pub committed: Offset,
    /// The offset that the next event will get.
    pub end: Offset,
    /// Events that are not finished, as well as the broker can tell.
    pub pending: u64,
}

/// What a subscription has to say.
pub enum Signal {
    /// These partitions are ours from now on. Comes before their first batch; the only member of a group is given every
    /// partition of its topics, those without events too.
    Assigned(Vec<Partition>),
    /// Deliveries of one partition, in order.
    Batch(Batch),
    /// These partitions are about to be taken away; they are ours until [`Revocation::done`] or its time-out.
    Revoked(Revocation),
}

/// Deliveries of one partition, in its order. Offsets ascend where the broker numbers the events; where the publisher does, they
/// ascend within one publisher, and the order of the partition is what counts. Never empty, and never more than
/// [`Batch::BYTES_MAX`] unless it is a single delivery.
pub struct Batch {
    /// The partition.
    pub partition: Partition,
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
}

impl Batch {
    /// The sum of [`Event::weight`] over a batch: what a consumer must have room for.
    pub const BYTES_MAX: usize = 1 << 20;
}

/// Partitions that are about to be taken away.
pub struct Revocation {
    /// Which.
    pub partitions: Vec<Partition>,
    done: Option<oneshot::Sender<()>>,
}

impl Revocation {
    /// A revocation, and what resolves when the engine has let go.
    pub fn new(partitions: Vec<Partition>) -> (Self, oneshot::Receiver<()>) {
        let (done, let_go) = oneshot::channel();
        (Self { partitions, done: Some(done) }, let_go)
    }

    /// Work on the partitions has stopped and what was finished is settled.
    pub fn done(mut self) {
        if let Some(done) = self.done.take() {
            // Nobody waits any more: the broker took them away by force.
            let _ = done.send(());
        }
    }
}

/// A member of a group.
///
/// Dropping it leaves the group; deliveries that are not settled come again, to this or another member, and none that were
/// settled before. A delivery that is completed after that is harmless, and may come again all the same.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for the next signal. Cancellation is safe: nothing is lost by dropping the future. A broker that is closed
    /// ends the wait with [`BrokerError::Closed`].
    async fn next(&mut self) -> Result<Signal, BrokerError>;

    /// Gives no more batches of the partition until it is resumed. What was given stays given.
    fn pause(&mut self, partition: &Partition);

    /// Gives batches of the partition again.
    fn resume(&mut self, partition: &Partition);
}

/// Takes the word that a delivery is finished. Implemented by brokers, called by [`Delivery::complete`].
pub trait Settle: Send + Sync {
    /// The delivery at this offset is finished. Becomes durable soon after, in the background: after a crash the
    /// deliveries finished in the last moments come again.
    fn complete(&self, offset: Offset);
}

/// One event on its way to one group. Settled once, by value; dropped without being settled, it comes again.
pub struct Delivery {
    /// The event.
    pub event: Arc<Event>,
    /// Where it stands.
    pub position: Position,
    settle: Arc<dyn Settle>,
}

impl Delivery {
    /// A delivery that reports to `settle`.
    pub fn new(event: Arc<Event>, position: Position, settle: Arc<dyn Settle>) -> Self {
        Self { event, position, settle }
    }

    /// The group is done with the event: it was delivered, is not of interest, or is safe in the store.
    pub fn complete(self) {
        self.settle.complete(self.position.offset);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({} {})", self.position, self.event.id)
    }
}
