//! The dispatcher: owns one partition in one flow. Single-threaded, so the life of a key needs no lock.
//!
//! `attempt → decide → settle`, for first attempts, retries, held events and replays alike.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossdock_core::{
    Decision, Delivery, HeldEvent, HeldId, Partition, ReplayItem, Settled, Settlement, StoreError, failpoint,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Attempted, attempt},
    decide::{Decided, decide, due_at},
    flow::{Admission, Flow, count},
    gate::{Gate, Permit},
    lanes::{KeyHash, Lanes, Push},
    settle::{After, Queue, Written, dead_letter, split},
    stores::Stores,
    work::{Origin, TestOutcome, Work},
};

/// Waits up to this stay in the lane; longer ones go to the store, where they survive a restart.
pub const LANE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Held heads that come due within this time are in memory.
const HORIZON: Duration = Duration::from_secs(60);
/// How often the store is asked for heads that come due; well inside the horizon.
const SCAN_EVERY: Duration = Duration::from_secs(20);
/// Deliveries that a partition has in memory: by bytes, and by number.
const WINDOW_BYTES: usize = 4 << 20;
const WINDOW_COUNT: usize = 2048;
/// Held heads are loaded while fewer bytes of them are in memory.
const LOADED_BYTES: usize = 4 << 20;
/// How many rows are read at a time.
const PAGE: usize = 512;
/// How many rows of one key are read at a time.
const KEY_PAGE: usize = 64;

/// What a dispatcher is told.
pub(crate) enum Command {
    /// New deliveries of the partition.
    Batch(Vec<Delivery>),
    /// Items of a replay, in order; with somebody who waits for the result if it is a test.
    Replay(Vec<ReplayItem>, Option<oneshot::Sender<TestOutcome>>),
}

/// How others reach a dispatcher.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) inbox: mpsc::Sender<Command>,
    /// Set while the router holds a batch back; the dispatcher then says when it has room.
    pub(crate) blocked: Arc<AtomicBool>,
}

struct Loaded {
    key: Option<KeyHash>,
    rows: Result<Vec<HeldEvent>, StoreError>,
}

/// Owns one partition in one flow.
pub(crate) struct Dispatcher {
    flow: Arc<Flow>,
    partition: Partition,
    stores: Stores,
    inbox: mpsc::Receiver<Command>,
    blocked: Arc<AtomicBool>,
    room: mpsc::UnboundedSender<Partition>,
    lanes: Lanes<Work>,
    attempts: FuturesUnordered<BoxFuture<'static, (KeyHash, Attempted)>>,
    permit: Option<BoxFuture<'static, Permit>>,
    queue: Queue,
    writing: Option<BoxFuture<'static, Written>>,
    loads: FuturesUnordered<BoxFuture<'static, Loaded>>,
    scan: Scan,
    window_bytes: usize,
    window_count: usize,
    loaded_bytes: usize,
    stop: CancellationToken,
}

/// Where the reading of due heads stands.
struct Scan {
    after: Option<(Timestamp, HeldId)>,
    under_way: bool,
    next: Instant,
}

impl Dispatcher {
    /// Takes over the partition and makes its dispatcher.
    pub(crate) async fn adopt(
        flow: Arc<Flow>,
        partition: Partition,
        stores: Stores,
        room: mpsc::UnboundedSender<Partition>,
        stop: CancellationToken,
    ) -> Result<(Self, Handle), StoreError> {
        let mut lanes = Lanes::new();
        for key in stores.held.adopt(&flow.plan.name, &partition).await? {
            lanes.adopt(key.hash, key.count);
        }
        let (sender, inbox) = mpsc::channel(2);
        let blocked = Arc::new(AtomicBool::new(false));
        let handle = Handle { inbox: sender, blocked: blocked.clone() };
        let scan = Scan { after: None, under_way: false, next: Instant::now() };
        let dispatcher = Self {
            flow,
            partition,
            stores,
            inbox,
            blocked,
            room,
            lanes,
            attempts: FuturesUnordered::new(),
            permit: None,
            queue: Queue::new(),
            writing: None,
            loads: FuturesUnordered::new(),
            scan,
            window_bytes: 0,
            window_count: 0,
            loaded_bytes: 0,
            stop,
        };
        Ok((dispatcher, handle))
    }

    /// Works until it is told to stop; then finishes what is out and writes what is decided.
    pub(crate) async fn run(mut self) {
        while !(self.stop.is_cancelled() && self.is_idle()) {
            self.lanes.wake(Instant::now());
            self.start_attempts();
            self.start_loads();
            self.start_write();
            self.step().await;
        }
    }

    fn is_idle(&self) -> bool {
        self.attempts.is_empty() && self.writing.is_none() && self.queue.is_empty()
    }

    async fn step(&mut self) {
        let stopping = self.stop.is_cancelled();
        let has_room = self.window_bytes < WINDOW_BYTES && self.window_count < WINDOW_COUNT;
        let wake = self.lanes.next_wake().unwrap_or(self.scan.next).min(self.scan.next);
        tokio::select! {
            Some((key, attempted)) = self.attempts.next(), if !self.attempts.is_empty() => {
                self.attempted(key, attempted);
                while let Some(Some((key, attempted))) = self.attempts.next().now_or_never() {
                    self.attempted(key, attempted);
                }
            }
            written = poll_some(&mut self.writing), if self.writing.is_some() => {
                self.writing = None;
                self.written(written);
            }
            Some(loaded) = self.loads.next(), if !self.loads.is_empty() => self.loaded(loaded),
            permit = poll_some(&mut self.permit), if self.permit.is_some() && !stopping => {
                self.permit = None;
                self.start_attempt(permit);
            }
            Some(command) = self.inbox.recv(), if has_room && !stopping => self.command(command),
            () = tokio::time::sleep_until(wake), if !stopping => {}
            () = self.stop.cancelled(), if !stopping => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Batch(deliveries) => deliveries.into_iter().for_each(|delivery| self.admit(delivery)),
            Command::Replay(items, mut test) => {
                items.into_iter().for_each(|item| self.admit_replay(item, test.take()))
            }
        }
        if self.blocked.swap(false, Ordering::AcqRel) {
            // The router is gone only when the hub stops.
            let _ = self.room.send(self.partition.clone());
        }
    }

    fn admit(&mut self, delivery: Delivery) {
        match self.flow.admit(&delivery.event) {
            Admission::Skip => {
                count(&self.flow.counters.filtered);
                delivery.complete();
            }
            Admission::Take(key) => self.push(Work::from_broker(delivery, key, None)),
            Admission::Refuse(step, fault) => {
                self.push(Work::from_broker(delivery, None, Some((step, fault))))
            }
        }
    }

    /// A replayed item joins the end of its key's queue. One whose key or filter had failed is evaluated again.
    fn admit_replay(&mut self, item: ReplayItem, test: Option<oneshot::Sender<TestOutcome>>) {
        let evaluate = matches!(item.letter.step.as_str(), "key" | "filter");
        let mut work = Work::from_replay(item, test);
        if evaluate {
            match self.flow.admit(&work.event) {
                Admission::Take(key) => work.key = key,
                Admission::Refuse(step, fault) => work.refused = Some((step, fault)),
                Admission::Skip => {
                    let settlement = Settlement::Delivered { held: None, replay: work.replay };
                    self.queue.push(settlement, After::Finished { delivery: None, weight: 0 });
                    return;
                }
            }
        }
        if work.test.is_some() {
            // A person's test does not wait for its key, nor for a closed gate.
            self.window_add(work.weight());
            self.launch(u64::MAX, work, Permit::of_a_test());
            return;
        }
        self.push(work);
    }

    fn push(&mut self, work: Work) {
        let (key, weight) = (work.lane(self.flow.plan.order), work.weight());
        self.window_add(weight);
        if let Push::Behind(work) = self.lanes.push(key, work) {
            let row = work.to_held(&self.flow, None);
            let (delivery, _) = split(work.origin);
            self.queue.push(Settlement::Hold(vec![row]), After::Appended { key, delivery, weight });
        }
    }

    fn start_attempts(&mut self) {
        if self.stop.is_cancelled() {
            return;
        }
        while self.lanes.has_ready() && self.permit.is_none() {
            match self.flow.gate.try_enter() {
                Some(permit) => self.start_attempt(permit),
                None => self.permit = Some(Gate::enter(self.flow.gate.clone()).boxed()),
            }
        }
    }

    fn start_attempt(&mut self, permit: Permit) {
        if let Some((key, work)) = self.lanes.start() {
            self.launch(key, work, permit);
        }
    }

    fn launch(&mut self, key: KeyHash, work: Work, permit: Permit) {
        let attempt = attempt(self.flow.clone(), work, permit);
        self.attempts.push(attempt.map(move |attempted| (key, attempted)).boxed());
    }

    fn attempted(&mut self, key: KeyHash, attempted: Attempted) {
        let decided = decide(&self.flow, attempted, rand::random());
        let throttle = match decided.decision {
            Decision::Throttle(wait) => Some(wait),
            _ => None,
        };
        self.flow.gate.report(&decided.attempted.result, throttle);
        self.settle(key, decided);
    }

    fn settle(&mut self, key: KeyHash, mut decided: Decided) {
        let letter =
            matches!(decided.decision, Decision::DeadLetter(_)).then(|| dead_letter(&self.flow, &decided));
        decided.announce(&self.flow, letter.as_ref().map(|letter| letter.id.as_str()));
        if let Some(waiting) = decided.attempted.work.test.take() {
            // The person may have stopped waiting; the result is in the store all the same.
            let _ = waiting.send((decided.outcome(), decided.record()));
        }
        let work = decided.attempted.work;
        match (decided.decision, letter) {
            (Decision::Retry(wait), _) => self.retry(key, work, wait),
            (Decision::Throttle(_) | Decision::Hold, _) => self.lanes.put_back(key, work),
            (_, Some(letter)) => {
                let (weight, replay) = (work.weight(), work.replay);
                let (delivery, held) = split(work.origin);
                self.finish(key, weight, delivery, held, Settlement::DeadLetter { letter, held, replay });
            }
            (_, None) => self.done(key, work),
        }
    }

    fn done(&mut self, key: KeyHash, work: Work) {
        let (weight, replay) = (work.weight(), work.replay);
        match split(work.origin) {
            (Some(delivery), _) if replay.is_none() => {
                delivery.complete();
                self.window_remove(weight);
                self.lanes.finished(key);
            }
            (delivery, held) => {
                self.finish(key, weight, delivery, held, Settlement::Delivered { held, replay })
            }
        }
    }

    fn finish(
        &mut self,
        key: KeyHash,
        weight: usize,
        delivery: Option<Delivery>,
        held: Option<HeldId>,
        settlement: Settlement,
    ) {
        if held.is_some() {
            self.loaded_bytes = self.loaded_bytes.saturating_sub(weight);
            self.queue.push(settlement, After::Removed { key });
            self.lanes.finished_held(key);
        } else {
            self.queue.push(settlement, After::Finished { delivery, weight });
            self.lanes.finished(key);
        }
    }

    fn retry(&mut self, key: KeyHash, work: Work, wait: Duration) {
        let (until, due) = (Instant::now() + wait, due_at(self.flow.clock.now(), wait));
        match work.held_id() {
            Some(held) => {
                let (attempts, tried, first_tried_at) =
                    (work.attempts.clone(), work.tried, work.first_tried_at);
                self.queue
                    .push(Settlement::Again { held, attempts, tried, first_tried_at, due }, After::Kept);
                if wait <= HORIZON {
                    self.lanes.wait(key, work, until);
                } else {
                    self.loaded_bytes = self.loaded_bytes.saturating_sub(work.weight());
                    for parked in self.lanes.park(key, held) {
                        self.loaded_bytes = self.loaded_bytes.saturating_sub(parked.weight());
                    }
                }
            }
            None if wait <= LANE_WAIT_MAX => self.lanes.wait(key, work, until),
            None => self.spill(key, work, due, until),
        }
    }

    /// The head and everything queued behind it go to the store in one write, in order.
    fn spill(&mut self, key: KeyHash, mut head: Work, due: Timestamp, until: Instant) {
        let behind = self.lanes.spill(key);
        let weight = head.weight() + behind.iter().map(Work::weight).sum::<usize>();
        let mut rows = vec![head.to_held(&self.flow, Some(due))];
        rows.extend(behind.iter().map(|work| work.to_held(&self.flow, None)));
        let (delivery, _) = split(std::mem::replace(&mut head.origin, Origin::Replay));
        let mut deliveries = vec![delivery];
        deliveries.extend(behind.into_iter().map(|work| split(work.origin).0));
        let after = After::Spilled { key, head: Box::new(head), due: until, deliveries, weight };
        self.queue.push(Settlement::Hold(rows), after);
    }

    fn start_write(&mut self) {
        if self.writing.is_none() && !self.queue.is_empty() {
            self.writing = Some(self.queue.write(self.stores.settlements.clone()));
        }
    }

    fn written(&mut self, written: Written) {
        for (after, settled) in written {
            match after {
                After::Kept => {}
                After::Removed { key } => self.lanes.removed(key),
                After::Finished { delivery, weight } => {
                    delivery.into_iter().for_each(Delivery::complete);
                    self.window_remove(weight);
                }
                After::Appended { key, delivery, weight } => {
                    delivery.into_iter().for_each(Delivery::complete);
                    self.window_remove(weight);
                    self.lanes.appended(key, new_rows(&settled).1 > 0);
                }
                After::Spilled { key, head, due, deliveries, weight } => {
                    let count = deliveries.len();
                    deliveries.into_iter().flatten().for_each(Delivery::complete);
                    for _ in 1..count {
                        self.window_count = self.window_count.saturating_sub(1);
                    }
                    self.window_remove(weight);
                    self.spilled(key, *head, due, &settled);
                }
            }
        }
    }

    fn spilled(&mut self, key: KeyHash, mut head: Work, due: Instant, settled: &Settled) {
        let (first, count) = new_rows(settled);
        let Some(first) = first else {
            // Every row was there before: another life of this worker held them, and adoption brings them back.
            self.lanes.spilled(key, 0, 1, None);
            return;
        };
        head.origin = Origin::Held(first);
        let near = due.saturating_duration_since(Instant::now()) <= HORIZON;
        if near {
            self.loaded_bytes += head.weight();
        }
        self.lanes.spilled(key, count, first, near.then_some((head, due)));
    }

    fn start_loads(&mut self) {
        if self.stop.is_cancelled() {
            return;
        }
        while let Some((key, after)) = self.lanes.wants_load() {
            let (held, flow, partition) =
                (self.stores.held.clone(), self.flow.clone(), self.partition.clone());
            self.loads.push(Box::pin(async move {
                let rows = held.behind(&flow.plan.name, &partition, key, after, KEY_PAGE).await;
                Loaded { key: Some(key), rows: wait_on_error(rows).await }
            }));
        }
        if !self.scan.under_way && self.loaded_bytes < LOADED_BYTES && self.scan.next <= Instant::now() {
            self.scan.under_way = true;
            let (held, flow, partition) =
                (self.stores.held.clone(), self.flow.clone(), self.partition.clone());
            let (until, after) = (due_at(self.flow.clock.now(), HORIZON), self.scan.after);
            self.loads.push(Box::pin(async move {
                let rows = held.due(&flow.plan.name, &partition, until, after, PAGE).await;
                Loaded { key: None, rows: wait_on_error(rows).await }
            }));
        }
    }

    fn loaded(&mut self, loaded: Loaded) {
        failpoint("held.loaded");
        let rows = loaded.rows.unwrap_or_else(|error| {
            tracing::warn!(error = %error, partition = %self.partition, "failed to read held events; trying again");
            Vec::new()
        });
        match loaded.key {
            Some(key) => {
                let works: Vec<_> = rows.into_iter().map(|row| (row.id, Work::from_held(row))).collect();
                self.loaded_bytes += works.iter().map(|(_, work)| work.weight()).sum::<usize>();
                self.lanes.loaded(key, works);
            }
            None => self.loaded_heads(rows),
        }
    }

    fn loaded_heads(&mut self, rows: Vec<HeldEvent>) {
        self.scan.under_way = false;
        let now = self.flow.clock.now();
        let last = rows.last().and_then(|row| row.held.due.map(|due| (due, row.id)));
        if last.is_none() {
            self.scan.next = Instant::now() + SCAN_EVERY;
        }
        self.scan.after = last;
        for row in rows {
            let (key, id) = (row.held.key_hash, row.id);
            let due = row.held.due.unwrap_or(now);
            let wait = Duration::try_from(due.duration_since(now)).unwrap_or_default();
            let work = Work::from_held(row);
            let weight = work.weight();
            if self.lanes.load_head(key, id, work, Instant::now() + wait) {
                self.loaded_bytes += weight;
            }
        }
    }

    fn window_add(&mut self, weight: usize) {
        self.window_bytes += weight;
        self.window_count += 1;
    }

    fn window_remove(&mut self, weight: usize) {
        self.window_bytes = self.window_bytes.saturating_sub(weight);
        self.window_count = self.window_count.saturating_sub(1);
    }
}

/// The first new row and how many there are.
fn new_rows(settled: &Settled) -> (Option<HeldId>, u64) {
    match settled {
        Settled::Held(ids) => (ids.first().copied().flatten(), ids.iter().flatten().count() as u64),
        Settled::Done => (None, 0),
    }
}

/// A store that fails is not asked again at once.
async fn wait_on_error<T>(rows: Result<T, StoreError>) -> Result<T, StoreError> {
    if rows.is_err() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    rows
}

async fn poll_some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
