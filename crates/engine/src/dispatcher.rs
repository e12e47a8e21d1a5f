//! The dispatcher: owns one partition in one flow. Single-threaded, so the life of a key needs no lock.
//!
//! `attempt → decide → settle`, for first attempts, retries, held events and replays alike.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossdock_core::{
    Adopted, Attempt, Class, Decision, Delivery, Fault, HeldId, Outcome, Owner, Partition, Placed, Settled,
    Settlement, Tried,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::Activity,
    attempt::{Attempted, attempt},
    decide::{Decided, decide, due_at},
    flow::{Admission, Flow, count},
    gate::{Gate, Permit},
    lanes::{KeyHash, Lanes, Push},
    reload::{HORIZON, Reload},
    settle::{After, Fenced, Queue, Written, dead_letter, split},
    stores::Stores,
    work::{Origin, Resend, Work},
};

/// Waits up to this stay in the lane; longer ones go to the store, where they survive a restart.
const LANE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a delivery that fails may stay in its lane, however short its waits are.
const LANE_STAY_MAX: Duration = Duration::from_secs(5);
/// Filters and keys are evaluated for so long at a time; then others get their turn.
const ADMIT_SLICE: Duration = Duration::from_millis(2);
/// Deliveries that a partition has in memory: by bytes, and by number, which is enough for some hundred keys at a time.
const WINDOW_BYTES: usize = 4 << 20;
const WINDOW_COUNT: usize = 1024;

/// What a dispatcher is told.
pub(crate) enum Command {
    /// New deliveries of the partition.
    Batch(Vec<Delivery>),
    /// The next item of a replay.
    Replay(Box<Resend>),
}

/// How others reach a dispatcher.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) inbox: mpsc::Sender<Command>,
    /// Set while the router holds a batch back; the dispatcher then says when it has room.
    pub(crate) blocked: Arc<AtomicBool>,
    pub(crate) activity: Arc<Activity>,
}

/// The dispatcher's end of its handle.
pub(crate) struct Inbox {
    commands: mpsc::Receiver<Command>,
    blocked: Arc<AtomicBool>,
    activity: Arc<Activity>,
}

impl Handle {
    /// A handle, and what the dispatcher that is to be made gets of it. What is handed over waits there until then.
    pub(crate) fn new() -> (Self, Inbox) {
        let (sender, commands) = mpsc::channel(2);
        let (blocked, activity) = (Arc::new(AtomicBool::new(false)), Arc::new(Activity::default()));
        let handle = Self { inbox: sender, blocked: blocked.clone(), activity: activity.clone() };
        (handle, Inbox { commands, blocked, activity })
    }
}

/// Owns one partition in one flow.
pub(crate) struct Dispatcher {
    flow: Arc<Flow>,
    partition: Partition,
    owner: Owner,
    stores: Stores,
    inbox: Inbox,
    room: mpsc::UnboundedSender<Partition>,
    lanes: Lanes<Work>,
    attempts: FuturesUnordered<BoxFuture<'static, (KeyHash, Attempted)>>,
    permit: Option<BoxFuture<'static, Permit>>,
    queue: Queue,
    writing: Option<BoxFuture<'static, Written>>,
    reload: Reload,
    /// Deliveries that were handed over and not yet looked at.
    handed: VecDeque<Delivery>,
    window_bytes: usize,
    window_count: usize,
    stop: CancellationToken,
}

impl Dispatcher {
    /// The dispatcher of a partition that was taken over.
    pub(crate) fn new(
        flow: Arc<Flow>,
        stores: Stores,
        Adopted { owner, keys }: Adopted,
        inbox: Inbox,
        room: mpsc::UnboundedSender<Partition>,
        stop: CancellationToken,
    ) -> Self {
        let (mut lanes, partition) = (Lanes::new(), owner.partition.clone());
        keys.into_iter().for_each(|key| lanes.adopt(key.hash, key.count));
        let reload = Reload::new(stores.held.clone(), flow.clone(), partition.clone());
        Self {
            flow,
            partition,
            owner,
            stores,
            inbox,
            room,
            lanes,
            attempts: FuturesUnordered::new(),
            permit: None,
            queue: Queue::new(),
            writing: None,
            reload,
            handed: VecDeque::new(),
            window_bytes: 0,
            window_count: 0,
            stop,
        }
    }

    /// Works until it is told to stop; then finishes what is out and writes what is decided. If the partition has another
    /// owner by now, it ends at once, and completes nothing of what it has: that one has it too.
    pub(crate) async fn run(mut self) -> Result<(), Fenced> {
        loop {
            let stopping = self.stop.is_cancelled();
            if stopping && self.is_idle() {
                return Ok(());
            }
            self.lanes.wake(Instant::now());
            if stopping {
                // Its place at the gate is for others.
                self.permit = None;
            } else {
                self.admit_some();
                self.start_attempts();
                self.reload.start(&mut self.lanes);
            }
            self.start_write();
            self.inbox.activity.has(self.window_count + self.handed.len());
            self.step(stopping).await?;
        }
    }

    fn is_idle(&self) -> bool {
        self.attempts.is_empty() && self.writing.is_none() && self.queue.is_empty()
    }

    async fn step(&mut self, stopping: bool) -> Result<(), Fenced> {
        let has_room =
            self.handed.is_empty() && self.window_bytes < WINDOW_BYTES && self.window_count < WINDOW_COUNT;
        let wake = [self.lanes.next_wake(), self.reload.next_scan()].into_iter().flatten().min();
        tokio::select! {
            Some((key, attempted)) = self.attempts.next(), if !self.attempts.is_empty() => {
                self.attempted(key, attempted);
                while let Some(Some((key, attempted))) = self.attempts.next().now_or_never() {
                    self.attempted(key, attempted);
                }
            }
            written = poll_some(&mut self.writing), if self.writing.is_some() => {
                self.writing = None;
                self.written(written?);
            }
            loaded = self.reload.next(), if self.reload.is_under_way() => {
                self.reload.loaded(loaded, &mut self.lanes);
            }
            permit = poll_some(&mut self.permit), if self.permit.is_some() && !stopping => {
                self.permit = None;
                self.start_attempt(permit);
            }
            Some(command) = self.inbox.commands.recv(), if has_room && !stopping => self.command(command),
            () = sleep_until(wake), if wake.is_some() && !stopping => {}
            () = tokio::task::yield_now(), if !self.handed.is_empty() && !stopping => {}
            () = self.stop.cancelled(), if !stopping => {}
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Batch(deliveries) => self.handed.extend(deliveries),
            Command::Replay(resend) => self.admit_replay(*resend),
        }
        if self.inbox.blocked.swap(false, Ordering::AcqRel) {
            // The router is gone only when the hub stops.
            let _ = self.room.send(self.partition.clone());
        }
    }

    /// Looks at deliveries that were handed over, for a short while: a filter may be slow, and others want their turn.
    fn admit_some(&mut self) {
        let began = Instant::now();
        while let Some(delivery) = self.handed.pop_front() {
            self.admit(delivery);
            if began.elapsed() >= ADMIT_SLICE {
                return;
            }
        }
    }

    fn admit(&mut self, delivery: Delivery) {
        match self.flow.admit(&delivery.event) {
            Admission::Skip => {
                count(&self.flow.counters.filtered);
                self.inbox.activity.step();
                delivery.complete();
            }
            Admission::Take(key) => self.push(Work::from_broker(delivery, key, None)),
            Admission::Refuse(step, fault) => {
                self.push(Work::from_broker(delivery, None, Some((step, fault))))
            }
        }
    }

    /// A replayed item joins the end of its key's queue. One whose key or filter had failed is evaluated again.
    fn admit_replay(&mut self, resend: Resend) {
        let evaluate = matches!(resend.item.letter.step.as_str(), "key" | "filter");
        let mut work = Work::from_replay(resend);
        if work.is_called_off() {
            return;
        }
        if evaluate {
            match self.flow.admit(&work.event) {
                Admission::Take(key) => work.key = key,
                Admission::Refuse(step, fault) => work.refused = Some((step, fault)),
                Admission::Skip => {
                    if let Some(waiting) = work.test.take() {
                        // The person may have stopped waiting.
                        let _ = waiting
                            .send(Tried { outcome: Outcome::Delivered, attempt: self.left_out(&work) });
                    }
                    let settlement = Settlement::Delivered { held: None, replay: work.replay };
                    self.queue.push(settlement, After::Kept);
                    return;
                }
            }
        }
        if work.test.is_some() {
            // A person's test does not wait for its key, nor for a closed gate.
            self.window_add(work.weight());
            self.launch(u64::MAX, work, Permit::of_a_test(self.flow.gate.clone()));
            return;
        }
        self.push(work);
    }

    /// What a test is told of an event that the flow's filter leaves out by now.
    fn left_out(&self, work: &Work) -> Attempt {
        let fault = Fault::new(Class::Bug, "the flow's filter leaves the event out now: nothing was sent");
        Attempt { class: None, ..Attempt::failed(work.tried, self.flow.clock.now(), 0, None, &fault) }
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
        while self.lanes.has_ready() && self.permit.is_none() {
            match self.flow.gate.try_enter() {
                Some(permit) => self.start_attempt(permit),
                None => self.permit = Some(Gate::enter(self.flow.gate.clone()).boxed()),
            }
        }
    }

    fn start_attempt(&mut self, permit: Permit) {
        while let Some((key, work)) = self.lanes.start() {
            if !work.is_called_off() {
                return self.launch(key, work, permit);
            }
            // The store has given it back.
            self.window_remove(work.weight());
            self.lanes.finished(key);
        }
    }

    fn launch(&mut self, key: KeyHash, work: Work, permit: Permit) {
        self.inbox.activity.call_begins();
        let attempt = attempt(self.flow.clone(), work, permit);
        self.attempts.push(attempt.map(move |attempted| (key, attempted)).boxed());
    }

    fn attempted(&mut self, key: KeyHash, attempted: Attempted) {
        self.inbox.activity.call_ends();
        let mut decided = decide(&self.flow, attempted, rand::random());
        let throttle = match decided.decision {
            Decision::Throttle(wait) => Some(wait),
            _ => None,
        };
        let attempted = &mut decided.attempted;
        attempted.permit.report(&attempted.result, throttle);
        self.settle(key, decided);
    }

    fn settle(&mut self, key: KeyHash, mut decided: Decided) {
        let letter =
            matches!(decided.decision, Decision::DeadLetter(_)).then(|| dead_letter(&self.flow, &decided));
        decided.announce(&self.flow, letter.as_ref().map(|letter| letter.id.as_str()));
        if let Some(waiting) = decided.attempted.work.test.take() {
            // The person may have stopped waiting; the result is in the store all the same.
            let _ = waiting.send(Tried { outcome: decided.outcome(), attempt: decided.record() });
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
            self.reload.gone(weight);
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
                let again = Settlement::Again { held, attempts, tried, first_tried_at, due };
                if wait <= HORIZON {
                    self.queue.push(again, After::Kept);
                    self.lanes.wait(key, work, until);
                } else {
                    self.queue.push(again, After::Parked { key });
                    self.reload.gone(work.weight());
                    for parked in self.lanes.park(key, held, until) {
                        self.reload.gone(parked.weight());
                    }
                }
            }
            None if self.may_wait_in_lane(&work, wait) => self.lanes.wait(key, work, until),
            None => self.spill(key, work, due, until),
        }
    }

    /// A lane is for short waits: what fails for longer goes to the store, where it leaves the window to other keys and
    /// keeps its count of attempts over a restart.
    fn may_wait_in_lane(&self, work: &Work, wait: Duration) -> bool {
        wait <= LANE_WAIT_MAX
            && work.since.elapsed() + wait <= LANE_STAY_MAX
            && self.window_count < WINDOW_COUNT / 2
            && self.window_bytes < WINDOW_BYTES / 2
    }

    /// The head and everything queued behind it go to the store in one write, in order.
    fn spill(&mut self, key: KeyHash, mut head: Work, due: Timestamp, until: Instant) {
        let (called_off, behind): (Vec<_>, Vec<_>) =
            self.lanes.spill(key).into_iter().partition(Work::is_called_off);
        called_off.iter().for_each(|work| self.window_remove(work.weight()));
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
            let (store, flow, owner) =
                (self.stores.settlements.clone(), self.flow.clone(), self.owner.clone());
            self.writing = Some(self.queue.write(store, flow, owner));
        }
    }

    fn written(&mut self, written: Vec<(After, Settled)>) {
        self.inbox.activity.step();
        for (after, settled) in written {
            match after {
                After::Kept => {}
                After::Parked { key } => self.lanes.parked(key),
                After::Removed { key } => self.lanes.removed(key),
                After::Finished { delivery, weight } => {
                    delivery.into_iter().for_each(Delivery::complete);
                    self.window_remove(weight);
                }
                After::Appended { key, delivery, weight } => {
                    delivery.into_iter().for_each(Delivery::complete);
                    self.window_remove(weight);
                    self.lanes.appended(key);
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
        let rows = placed(settled);
        let Some(first) = rows.first() else {
            tracing::error!(partition = %self.partition, "the store did not say where it holds an event");
            return;
        };
        if !first.new {
            let lowest = rows.iter().map(|row| row.id).min().unwrap_or(first.id);
            self.lanes.spilled_before(key, rows.len() as u64, lowest);
            return;
        }
        head.origin = Origin::Held(first.id);
        let near = due.saturating_duration_since(Instant::now()) <= HORIZON;
        if near {
            self.reload.came(head.weight());
        }
        self.lanes.spilled(key, rows.len() as u64, first.id, near.then_some((head, due)));
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

fn placed(settled: &Settled) -> &[Placed] {
    match settled {
        Settled::Held(rows) => rows,
        Settled::Done => &[],
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

async fn poll_some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
