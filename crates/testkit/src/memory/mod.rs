//! Broker and stores in memory: the model that others are compared with.
//!
//! As plain as the promises allow: one lock around one state, no index, no cache, no background. What is written is
//! durable on its [`Disk`], from which it can be opened again. [`Defect`] breaks one promise at a time, so that the suites can be
//! proven to notice.

mod broker;
mod checkpoints;
mod dead_letters;
mod held;
mod leases;
mod log;
mod replays;
mod settle;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Act, Checkpoints, Clock, ConnectionName, ConnectionState, Connections, Cursor, DeadLetter, DeadLetterId,
    Epoch, EventLog, FlowName, Group, GroupId, HeldId, Leases, NewHeld, Page, PageRequest, Partition,
    ReplayId, StoreError, StoredConnection, Topic,
};
use tokio::sync::Notify;

use crate::{HasBroker, HasCheckpoints, HasEventLog, HasLeases, HasOutbox, HasStore, Setup, Subject};

use self::{dead_letters::GroupHistory, leases::Scope, log::Log, replays::Job};

/// A promise that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The id of the last held event is given again once the event is gone.
    HeldIdUsedAgain,
    /// `due` leaves out what is due at that very moment.
    DueExcludesUntil,
    /// `due` comes in the order of ids.
    DueOrderedById,
    /// Taking over heals no head.
    AdoptHealsNothing,
    /// A delivery that is held already is held a second time.
    HeldTwice,
    /// Another event at a position that was given a second time is taken for the one that is there.
    PositionAlone,
    /// A dead letter that is written again doubles its attempts.
    AttemptsDoubled,
    /// A dead letter is counted each time that it is written.
    LetterWrittenTwice,
    /// An item may be settled more than once.
    ItemSettledTwice,
    /// A replay takes letters that are made later.
    ReplayNotFrozen,
    /// Items of which a retry is held are given again.
    HeldItemGiven,
    /// Who lost a partition settles as before.
    FenceOpen,
    /// Some of what a former owner settles is done before it is refused.
    FenceTooLate,
    /// Items come whatever place is asked for.
    ItemsOfAnyPlace,
    /// Each worker has the whole rate for itself.
    RateOfEachWorker,
    /// An item that was skipped stays so when it is delivered after all.
    SkippedForGood,
    /// What a worker finds out of a connection ends a person's pause.
    PauseOverwritten,
    /// What groups have begun is forgotten over a restart.
    CheckpointsForgotten,
    /// What one group has begun all have.
    CheckpointsShared,
    /// A lease that ran out is extended.
    LeaseRevived,
    /// The next holder of a lease has no higher epoch.
    EpochKept,
    /// Whoever lets a lease go lets it go for its holder.
    ReleasesForOthers,
    /// What a test came to is not kept.
    TriedForgotten,
    /// A cancelled replay keeps what was not sent.
    CancelStrands,
    /// Cancelling gives back what is held too.
    CancelTakesHeld,
    /// Pages of dead letters count from the beginning.
    PageByNumber,
    /// Ids of events are forgotten over a restart.
    DedupeForgets,
    /// The second of two equal events in one call is taken.
    DedupeWithinCallMissing,
    /// The id of an event that was refused is remembered.
    RefusedIdRemembered,
    /// A busy outbox refuses an event and takes the next one of its key.
    BusyTearsKeys,
    /// A group that is let begin begins with its first member.
    BeginsWhenJoined,
    /// A group that is let begin anew skips what it has not finished.
    BeginsAgain,
    /// A new group begins with everything that is there.
    NewGroupFromStart,
    /// A group begins anew, with the next event, on each start until it has finished something.
    StartForgotten,
    /// What was finished above a gap is forgotten over a restart.
    GapsForgotten,
    /// What is finished above a gap finishes the gap.
    GapsSwallowed,
    /// The next wait begins behind a batch that nobody took.
    LostOnCancel,
    /// A paused partition gives batches.
    PauseIgnored,
    /// A batch has no bound.
    BatchUnbounded,
    /// Groups share what is finished.
    GroupsShareProgress,
    /// A partition goes to the next member before the former one has let it go.
    HandOverAtOnce,
    /// The retention takes events that nobody has finished.
    RetentionTakesUnfinished,
    /// A call that comes first publishes last.
    FirstPublishesLast,
    /// A member is told of an event a fifth of a second late.
    SlowWake,
}

/// What outlives a process.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// Broker and stores in memory. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    disk: Disk,
    clock: Arc<dyn Clock>,
    options: Setup,
    defect: Option<Defect>,
    closed: AtomicBool,
    changed: Notify,
    members: broker::Members,
}

#[derive(Default)]
struct State {
    log: Log,
    held: BTreeMap<HeldId, NewHeld>,
    last_held: HeldId,
    /// The epoch of the owner of each partition in each flow.
    epochs: BTreeMap<(FlowName, Partition), Epoch>,
    letters: BTreeMap<DeadLetterId, DeadLetter>,
    groups: BTreeMap<GroupId, GroupHistory>,
    jobs: BTreeMap<ReplayId, Job>,
    last_replay: u128,
    connections: BTreeMap<ConnectionName, StoredConnection>,
    leases: BTreeMap<String, Scope>,
    checkpoints: BTreeMap<Group, BTreeSet<Topic>>,
    /// Who did what, with how many things it was done to.
    audit: Vec<(Act, &'static str, u64)>,
}

impl Memory {
    /// Opens what is on the disk.
    pub fn open(disk: Disk, options: &Setup) -> Self {
        Self::with_defect(disk, options, None)
    }

    /// The same with one broken promise.
    pub fn with_defect(disk: Disk, options: &Setup, defect: Option<Defect>) -> Self {
        let memory = Self(Arc::new(Inner {
            disk,
            clock: options.clock.clone(),
            options: options.clone(),
            defect,
            closed: AtomicBool::new(false),
            changed: Notify::new(),
            members: broker::Members::default(),
        }));
        memory.prepare_log();
        if memory.has(Defect::CheckpointsForgotten) {
            memory.lock().checkpoints.clear();
        }
        memory
    }

    /// Ends every subscription. What is on the disk stays; this handle and its clones can still read it.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// What people did: the act, what it was done to, and to how many.
    pub fn audit(&self) -> Vec<(Act, &'static str, u64)> {
        self.lock().audit.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.disk.0.lock().expect("no holder of this lock panics")
    }

    fn has(&self, defect: Defect) -> bool {
        self.0.defect == Some(defect)
    }

    fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }
}

/// One page of a list that is sorted by descending `rank`. A cursor is the rank of the last item that was given.
fn page_of<T>(
    all: impl IntoIterator<Item = (String, T)>,
    request: &PageRequest,
    kind: &str,
) -> Result<Page<T>, StoreError> {
    let after = request.cursor.as_deref().map(|cursor| read_cursor(kind, cursor)).transpose()?;
    let mut all: Vec<_> =
        all.into_iter().filter(|(rank, _)| after.as_ref().is_none_or(|after| rank < after)).collect();
    all.sort_by(|(one, _), (two, _)| two.cmp(one));
    let more = all.len() > request.limit;
    all.truncate(request.limit);
    let next = if more { all.last().map(|(rank, _)| write_cursor(kind, rank)) } else { None };
    Ok(Page { items: all.into_iter().map(|(_, item)| item).collect(), next })
}

fn write_cursor(kind: &str, rank: &str) -> Cursor {
    format!("{kind}:{rank}")
}

fn read_cursor(kind: &str, cursor: &str) -> Result<String, StoreError> {
    let rank = cursor.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':'));
    rank.filter(|rank| rank.len() >= 20).map(str::to_owned).ok_or(StoreError::BadCursor)
}

/// A moment as text that sorts like the moment.
fn sortable(moment: jiff::Timestamp) -> String {
    format!("{:030}", moment.as_nanosecond())
}

#[async_trait]
impl Connections for Memory {
    async fn load(&self) -> Result<Vec<StoredConnection>, StoreError> {
        Ok(self.lock().connections.values().cloned().collect())
    }

    async fn save(
        &self,
        connection: &StoredConnection,
        act: Option<&Act>,
    ) -> Result<StoredConnection, StoreError> {
        let mut state = self.lock();
        if let Some(act) = act {
            state.audit.push((act.clone(), "connection", 1));
        } else if let Some(stands) = state.connections.get(&connection.name)
            && is_paused(stands) != is_paused(connection)
            && !self.has(Defect::PauseOverwritten)
        {
            return Ok(stands.clone());
        }
        state.connections.insert(connection.name.clone(), connection.clone());
        Ok(connection.clone())
    }
}

fn is_paused(connection: &StoredConnection) -> bool {
    connection.state == ConnectionState::Paused
}

#[async_trait]
impl Subject for Memory {
    async fn create(setup: &Setup) -> Self {
        Self::open(Disk::default(), setup)
    }

    async fn reopen(self, setup: &Setup) -> Self {
        self.close();
        Self::with_defect(self.0.disk.clone(), setup, self.0.defect)
    }

    async fn crash(self, setup: &Setup) -> Self {
        self.reopen(setup).await
    }
}

impl HasBroker for Memory {
    const KEEPS_GAPS: bool = true;
    const KNOWS_TOPICS: bool = true;
    const TELLS_POSITIONS: bool = true;
    const WAKE_MAX: Duration = Duration::from_millis(50);

    fn broker(&self) -> Arc<dyn crossdock_core::Broker> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl HasOutbox for Memory {
    const KNOWS_TOPICS: bool = true;
    const REFUSES_WHEN_BUSY: bool = false;

    fn outbox(&self) -> Arc<dyn crossdock_core::Outbox> {
        Arc::new(self.clone())
    }

    async fn taken(&self, topic: &Topic) -> Vec<crossdock_core::Event> {
        self.lock().log.of_topic(topic)
    }
}

impl HasStore for Memory {
    const SHARES_RATES: bool = true;
    const OUTLIVES_ITS_BROKER: bool = true;

    fn settlements(&self) -> Arc<dyn crossdock_core::Settlements> {
        Arc::new(self.clone())
    }
    fn held(&self) -> Arc<dyn crossdock_core::HeldEvents> {
        Arc::new(self.clone())
    }
    fn dead_letters(&self) -> Arc<dyn crossdock_core::DeadLetters> {
        Arc::new(self.clone())
    }
    fn replays(&self) -> Arc<dyn crossdock_core::Replays> {
        Arc::new(self.clone())
    }
    fn connections(&self) -> Arc<dyn Connections> {
        Arc::new(self.clone())
    }
}

impl HasEventLog for Memory {
    fn event_log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.clone())
    }
}

impl HasLeases for Memory {
    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.clone())
    }
}

impl HasCheckpoints for Memory {
    fn checkpoints(&self) -> Arc<dyn Checkpoints> {
        Arc::new(self.clone())
    }
}
