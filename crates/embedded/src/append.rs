//! Appending: events become packs at the end of their partitions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crossdock_core::{Event, Offset, Position, PublishError, Published, partition_of};
use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use crate::{
    log::{PartitionLog, TopicLog},
    pack,
    place::{Part, Place},
    rows,
    seen::{ID_BYTES, Recent, Runs, SeenId},
};

/// A pack is closed when it has reached this size: small enough that reading one event stays cheap.
const PACK_BYTES: usize = 64 * 1024;

/// An event, ready to be written: what costs time is done before it is queued.
pub(crate) struct Prepared {
    event: Arc<Event>,
    id: SeenId,
    attributes: Vec<u8>,
    /// Its partition's number.
    number: usize,
}

impl Prepared {
    /// Refuses an event that is larger than `bytes_max`.
    pub(crate) fn new(topic: &TopicLog, event: Event, bytes_max: usize) -> Result<Self, PublishError> {
        let attributes = pack::attributes(&event);
        let bytes = attributes.len() + event.data.len();
        if bytes > bytes_max {
            return Err(PublishError::TooLarge { bytes, bytes_max });
        }
        let id = SeenId::of(&topic.topic, &event);
        let partitions = topic.partitions.len();
        let number = match &event.key {
            Some(key) => partition_of(key, partitions as u32) as usize,
            None => (id.spread() % partitions as u64) as usize,
        };
        Ok(Self { event: Arc::new(event), id, attributes, number })
    }

    /// Bytes that it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        self.event.weight() + self.attributes.len()
    }
}

/// What was answered for each event of an append.
pub(crate) type Answers = Vec<Result<Published, PublishError>>;

/// Events that wait to be written, and who waits for the answer.
pub(crate) struct Append {
    pub(crate) topic: Arc<TopicLog>,
    pub(crate) events: Vec<Prepared>,
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Answers>,
}

impl Append {
    /// Answers that none of it was taken.
    pub(crate) fn refuse(self, error: &PublishError) {
        // Nobody waits any more: the client went away.
        let _ = self.reply.send(vec![Err(error.clone()); self.events.len()]);
    }
}

/// What the appends of one commit come to. Nothing outside of it changes before the commit.
#[derive(Default)]
pub(crate) struct Staged {
    partitions: BTreeMap<Part, StagedPartition>,
    ids: HashMap<SeenId, Place>,
    replies: Vec<Reply>,
}

struct Reply {
    to: oneshot::Sender<Answers>,
    answers: Answers,
    /// How many answers it needs, also if nothing was committed.
    count: usize,
}

struct StagedPartition {
    log: Arc<PartitionLog>,
    next: Offset,
    packs: Vec<Pack>,
    events: Vec<Arc<Event>>,
}

struct Pack {
    place: Place,
    count: i64,
    ids: Vec<u8>,
    bytes: Vec<u8>,
}

impl Staged {
    /// Takes an append in: drops duplicates, gives out offsets.
    pub(crate) async fn add(
        &mut self,
        append: Append,
        recent: &Recent,
        runs: &Runs,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let count = append.events.len();
        let mut answers = Vec::with_capacity(count);
        let mut failed = None;
        for prepared in append.events {
            match self.is_duplicate(prepared.id, recent, runs, connection).await {
                Ok(true) => answers.push(Ok(Published::Duplicate)),
                Ok(false) => answers.push(Ok(Published::New(Some(self.push(&append.topic, prepared))))),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Also on an error: whoever rolls back answers everybody.
        self.replies.push(Reply { to: append.reply, answers, count });
        failed.map_or(Ok(()), Err)
    }

    async fn is_duplicate(
        &self,
        id: SeenId,
        recent: &Recent,
        runs: &Runs,
        connection: &mut SqliteConnection,
    ) -> Result<bool, sqlx::Error> {
        if self.ids.contains_key(&id) || recent.lock().contains_key(&id) {
            return Ok(true);
        }
        Ok(runs.lookup(connection, id).await?.is_some())
    }

    fn push(&mut self, topic: &TopicLog, prepared: Prepared) -> Position {
        let log = &topic.partitions[prepared.number];
        let staged = self.partitions.entry(log.part).or_insert_with(|| StagedPartition {
            log: log.clone(),
            next: log.end(),
            packs: Vec::new(),
            events: Vec::new(),
        });
        let offset = staged.next;
        staged.push(&prepared);
        self.ids.insert(prepared.id, Place::new(log.part, offset));
        Position { topic: topic.topic.clone(), partition: log.partition.number, offset }
    }

    /// Whether nobody waits for an answer.
    pub(crate) fn is_untouched(&self) -> bool {
        self.replies.is_empty()
    }

    /// Whether there is anything to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Writes the packs.
    pub(crate) async fn write(
        &mut self,
        connection: &mut SqliteConnection,
        now: i64,
    ) -> Result<(), sqlx::Error> {
        let mut packs: Vec<Pack> =
            self.partitions.values_mut().flat_map(|staged| staged.packs.drain(..)).collect();
        for pack in &mut packs {
            pack::seal(&mut pack.bytes);
        }
        let head = "INSERT INTO log (place, count, accepted_at, ids, events)";
        rows::insert_owned(connection, (head, 5), packs, |query, pack| {
            query.bind(pack.place.0).bind(pack.count).bind(now).bind(pack.ids).bind(pack.bytes)
        })
        .await
    }

    /// It is committed: everybody learns of it.
    pub(crate) fn committed(self, recent: &Recent) {
        recent.lock().extend(self.ids);
        for staged in self.partitions.into_values() {
            staged.log.push(staged.events);
        }
        for reply in self.replies {
            // Nobody waits any more: the client went away, and the event stays.
            let _ = reply.to.send(reply.answers);
        }
    }

    /// It is not committed.
    pub(crate) fn failed(self, error: &PublishError) {
        for reply in self.replies {
            let _ = reply.to.send(vec![Err(error.clone()); reply.count]);
        }
    }
}

impl StagedPartition {
    fn push(&mut self, prepared: &Prepared) {
        if self.packs.last().is_none_or(|pack| pack.bytes.len() >= PACK_BYTES) {
            let place = Place::new(self.log.part, self.next);
            self.packs.push(Pack { place, count: 0, ids: Vec::with_capacity(ID_BYTES), bytes: Vec::new() });
        }
        let pack = self.packs.last_mut().expect("one was just made");
        pack::push(&mut pack.bytes, &prepared.attributes, &prepared.event.data);
        pack.ids.extend_from_slice(&prepared.id.to_bytes());
        pack.count += 1;
        self.next += 1;
        self.events.push(prepared.event.clone());
    }
}
