//! Lanes: which delivery of which key may begin. Pure bookkeeping, no I/O, no time of its own.
//!
//! The life of a key is `free → busy (in a lane) → held (in the store) → free`:
//!
//! - a key that is free costs nothing; its first delivery opens a lane;
//! - in a lane one delivery is out at a time, the others queue behind it in order;
//! - a key is *held* while rows of it stand in the store. Nothing new is queued in its lane: it goes to the store, behind
//!   the rest. Rows are loaded back in order, run, and removed; when none is left, and the store has said so, the key is
//!   free.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use crossdock_core::HeldId;
use tokio::time::Instant;

/// How much earlier than it should a row may say that it is due, for what clocks differ by.
const STALE_BY: Duration = Duration::from_secs(1);

/// A key, by its hash.
pub(crate) type KeyHash = u64;

/// What became of a pushed delivery.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Push<W> {
    /// It is in its lane.
    Queued,
    /// Its key is held: the caller must append it to the store, then say [`Lanes::appended`].
    Behind(W),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The front may begin; the key stands in `ready`.
    Ready,
    /// The front is out.
    Running,
    /// The front waits for a moment; the key stands in `waiting`.
    Waiting,
    /// Nothing to do in memory: rows are being loaded or written.
    Idle,
}

#[derive(Debug)]
struct Lane<W> {
    queue: VecDeque<W>,
    state: State,
}

/// What is in the store for a held key.
#[derive(Debug, Default)]
struct Rows {
    /// Rows that are in the store and not in memory.
    unloaded: u64,
    /// Writes of new rows that the store has not confirmed.
    appending: u32,
    /// Removals that the store has not confirmed.
    removing: u32,
    /// The highest row that was loaded.
    loaded_to: HeldId,
    /// A load is under way.
    loading: bool,
    /// A row came to the store while a load was under way, which may not have seen it.
    appended_meanwhile: bool,
    /// The head waits in the store for its due time; it comes back with the due heads.
    parked: bool,
    /// Until the store has written when the parked head is due, and how often: its row is stale.
    rescheduling: u32,
    /// When the parked head is due; a row that says otherwise was read before that was written.
    not_before: Option<Instant>,
    /// The head itself is being written; until the store has it, a due row of the key is this very head.
    appending_head: bool,
}

/// The lanes of one partition in one flow.
pub(crate) struct Lanes<W> {
    lanes: HashMap<KeyHash, Lane<W>>,
    held: HashMap<KeyHash, Rows>,
    ready: VecDeque<KeyHash>,
    waiting: BinaryHeap<Reverse<(Instant, KeyHash)>>,
    /// Held keys that may want rows loaded.
    hungry: VecDeque<KeyHash>,
}

impl<W> Lanes<W> {
    pub(crate) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            held: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            hungry: VecDeque::new(),
        }
    }

    /// Takes over a held key with its rows; they come with the due heads.
    pub(crate) fn adopt(&mut self, key: KeyHash, rows: u64) {
        self.held.insert(key, Rows { unloaded: rows, parked: true, ..Rows::default() });
    }

    /// A new delivery of a key.
    pub(crate) fn push(&mut self, key: KeyHash, work: W) -> Push<W> {
        if let Some(rows) = self.held.get_mut(&key) {
            rows.appending += 1;
            return Push::Behind(work);
        }
        match self.lanes.entry(key) {
            Entry::Occupied(mut lane) => lane.get_mut().queue.push_back(work),
            Entry::Vacant(vacant) => {
                vacant.insert(Lane { queue: VecDeque::from([work]), state: State::Ready });
                self.ready.push_back(key);
            }
        }
        Push::Queued
    }

    /// The next delivery that may begin. Its lane is running until one of the answers below.
    pub(crate) fn start(&mut self) -> Option<(KeyHash, W)> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(lane) = self.lanes.get_mut(&key)
                && lane.state == State::Ready
                && let Some(work) = lane.queue.pop_front()
            {
                lane.state = State::Running;
                return Some((key, work));
            }
        }
        None
    }

    /// Whether any delivery may begin.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The running delivery is finished and was never in the store.
    pub(crate) fn finished(&mut self, key: KeyHash) {
        self.go_on(key);
    }

    /// The running delivery is finished; its row is being removed.
    pub(crate) fn finished_held(&mut self, key: KeyHash) {
        if let Some(rows) = self.held.get_mut(&key) {
            rows.removing += 1;
        }
        self.go_on(key);
    }

    /// The store has removed a row.
    pub(crate) fn removed(&mut self, key: KeyHash) {
        if let Some(rows) = self.held.get_mut(&key) {
            rows.removing = rows.removing.saturating_sub(1);
        }
        self.release(key);
    }

    /// The running delivery goes back to the front of its lane and may begin again at once; other keys come first.
    pub(crate) fn put_back(&mut self, key: KeyHash, work: W) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.queue.push_front(work);
            lane.state = State::Ready;
            self.ready.push_back(key);
        }
    }

    /// The running delivery goes back to the front of its lane and waits until `until`.
    pub(crate) fn wait(&mut self, key: KeyHash, work: W, until: Instant) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.queue.push_front(work);
            lane.state = State::Waiting;
            self.waiting.push(Reverse((until, key)));
        }
    }

    /// The moment at which the next waiting delivery may begin.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((until, _))| *until)
    }

    /// Lets every delivery begin whose time has come.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some(Reverse((until, key))) = self.waiting.peek().copied()
            && until <= now
        {
            self.waiting.pop();
            if let Some(lane) = self.lanes.get_mut(&key)
                && lane.state == State::Waiting
            {
                lane.state = State::Ready;
                self.ready.push_back(key);
            }
        }
    }

    /// The running delivery must wait in the store: gives what is queued behind it, in order, to be stored in one write
    /// after it. From now on the key is held; the caller says [`Lanes::spilled`].
    pub(crate) fn spill(&mut self, key: KeyHash) -> Vec<W> {
        let rows = self.held.entry(key).or_default();
        rows.appending += 1;
        (rows.parked, rows.appending_head) = (true, true);
        let Some(lane) = self.lanes.get_mut(&key) else { return Vec::new() };
        lane.state = State::Idle;
        lane.queue.drain(..).collect()
    }

    /// The store has the spilled rows, the first of them new. With `head` that one stays in memory until its moment.
    pub(crate) fn spilled(&mut self, key: KeyHash, count: u64, first: HeldId, head: Option<(W, Instant)>) {
        let Some(rows) = self.held.get_mut(&key) else { return };
        rows.appending = rows.appending.saturating_sub(1);
        rows.appending_head = false;
        rows.unloaded += count;
        rows.loaded_to = first - 1;
        if let Some((work, until)) = head {
            self.load_head(key, first, work, until);
        }
        self.drop_lane_if_idle(key);
        self.release(key);
    }

    /// The store had the head that was spilled already. It and what is behind it are read again, which tells the truth.
    pub(crate) fn spilled_before(&mut self, key: KeyHash, count: u64, first: HeldId) {
        let Some(rows) = self.held.get_mut(&key) else { return };
        rows.appending = rows.appending.saturating_sub(1);
        (rows.appending_head, rows.parked) = (false, false);
        rows.unloaded += count;
        rows.loaded_to = first - 1;
        self.drop_lane_if_idle(key);
        self.hungry.push_back(key);
    }

    /// The store has a row that was pushed behind a held key. If it had it before, the row may be counted already; that is
    /// one row too many at most, which a read that finds none corrects, and never one too few, which would be stranded.
    pub(crate) fn appended(&mut self, key: KeyHash) {
        if let Some(rows) = self.held.get_mut(&key) {
            rows.appending = rows.appending.saturating_sub(1);
            rows.unloaded += 1;
            rows.appended_meanwhile = rows.loading;
            self.hungry.push_back(key);
        }
        self.release(key);
    }

    /// A head that comes due. `false` if it is in memory already, or no longer there.
    pub(crate) fn load_head(&mut self, key: KeyHash, id: HeldId, work: W, until: Instant) -> bool {
        let Some(rows) = self.held.get_mut(&key) else { return false };
        if !rows.parked || rows.appending_head || rows.rescheduling > 0 || id <= rows.loaded_to {
            return false;
        }
        if rows.not_before.is_some_and(|due| until + STALE_BY < due) {
            return false;
        }
        (rows.parked, rows.not_before) = (false, None);
        rows.loaded_to = id;
        rows.unloaded = rows.unloaded.saturating_sub(1);
        let lane =
            self.lanes.entry(key).or_insert_with(|| Lane { queue: VecDeque::new(), state: State::Idle });
        lane.queue.push_front(work);
        lane.state = State::Waiting;
        self.waiting.push(Reverse((until, key)));
        true
    }

    /// A held key whose next rows should be read from the store, and the row after which to read.
    pub(crate) fn wants_load(&mut self) -> Option<(KeyHash, HeldId)> {
        while let Some(key) = self.hungry.pop_front() {
            let idle =
                self.lanes.get(&key).is_none_or(|lane| lane.state == State::Idle && lane.queue.is_empty());
            if let Some(rows) = self.held.get_mut(&key)
                && idle
                && !rows.parked
                && !rows.loading
                && rows.unloaded > 0
            {
                rows.loading = true;
                return Some((key, rows.loaded_to));
            }
        }
        None
    }

    /// Rows that were read after [`Lanes::wants_load`], in order. They may begin at once, or at `until` if the first of
    /// them is not due before. There may be more. None read means that there are none, whatever was counted.
    pub(crate) fn loaded(&mut self, key: KeyHash, works: Vec<(HeldId, W)>, until: Option<Instant>) {
        let Some(rows) = self.held.get_mut(&key) else { return };
        rows.loading = false;
        let appended_meanwhile = std::mem::take(&mut rows.appended_meanwhile);
        let Some((last, _)) = works.last() else {
            rows.unloaded = u64::from(appended_meanwhile);
            self.hungry.push_back(key);
            self.release(key);
            return;
        };
        rows.loaded_to = *last;
        rows.unloaded = rows.unloaded.saturating_sub(works.len() as u64).max(1);
        let lane =
            self.lanes.entry(key).or_insert_with(|| Lane { queue: VecDeque::new(), state: State::Idle });
        lane.queue.extend(works.into_iter().map(|(_, work)| work));
        match until {
            Some(until) => {
                lane.state = State::Waiting;
                self.waiting.push(Reverse((until, key)));
            }
            None => {
                lane.state = State::Ready;
                self.ready.push_back(key);
            }
        }
    }

    /// The read failed; the key wants another one.
    pub(crate) fn load_failed(&mut self, key: KeyHash) {
        if let Some(rows) = self.held.get_mut(&key) {
            rows.loading = false;
            self.hungry.push_back(key);
        }
    }

    /// The running row `id` waits in the store until `due`, far away: it and what was loaded behind it leave memory. The
    /// caller says [`Lanes::parked`] once the store has that moment. Gives what was loaded.
    pub(crate) fn park(&mut self, key: KeyHash, id: HeldId, due: Instant) -> VecDeque<W> {
        let queued = self.lanes.remove(&key).map_or_else(VecDeque::new, |lane| lane.queue);
        if let Some(rows) = self.held.get_mut(&key) {
            rows.unloaded += queued.len() as u64 + 1;
            rows.loaded_to = id - 1;
            (rows.parked, rows.not_before) = (true, Some(due));
            rows.rescheduling += 1;
        }
        queued
    }

    /// The store has written when the parked head is due.
    pub(crate) fn parked(&mut self, key: KeyHash) {
        if let Some(rows) = self.held.get_mut(&key) {
            rows.rescheduling = rows.rescheduling.saturating_sub(1);
        }
    }

    /// How many keys are in memory and how many are held: for status and tests.
    #[cfg(test)]
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.lanes.len(), self.held.len())
    }

    fn go_on(&mut self, key: KeyHash) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.queue.is_empty() {
            lane.state = State::Idle;
            self.drop_lane_if_idle(key);
            if self.held.contains_key(&key) {
                self.hungry.push_back(key);
                self.release(key);
            }
        } else {
            lane.state = State::Ready;
            self.ready.push_back(key);
        }
    }

    fn drop_lane_if_idle(&mut self, key: KeyHash) {
        if self.lanes.get(&key).is_some_and(|lane| lane.state == State::Idle && lane.queue.is_empty()) {
            self.lanes.remove(&key);
        }
    }

    /// Frees a held key of which nothing is left.
    fn release(&mut self, key: KeyHash) {
        if let Some(rows) = self.held.get(&key)
            && (rows.unloaded, rows.appending, rows.removing, rows.loading) == (0, 0, 0, false)
            && !self.lanes.contains_key(&key)
        {
            self.held.remove(&key);
        }
    }
}
