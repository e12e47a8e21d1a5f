//! A hub with one flow `billing` from the topic `orders` to a connection that follows a script.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{
    Act, Action, Broker, BrokerError, CircuitPolicy, Class, Clock, Connection, ConnectionName,
    ConnectionState, Connections, DeadLetters, Event, Fault, FlowName, Group, GroupLag, Item, Jitter,
    LetterState, LetterSummary, NewReplay, Output, Owner, PageRequest, Partition, PublishError, Published,
    Replay, ReplayItem, ReplayState, Replays, RetryPolicy, Schedule, Selection, Settled, Settlement,
    Settlements, Signal, StoreError, StoredConnection, Subscription, Topic, Tried, Wait,
};
use crossdock_engine::{ConnectionPlan, FlowPlan, Hub, Order, Plan, Roles, Stores};
use crossdock_expr::Program;
use crossdock_testkit::{Disk, ManualClock, Memory, Setup};
use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

/// How long a condition may take to come true, on the paused clock.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// The wall clock of a test: goes on with the paused time of the runtime.
struct RuntimeClock {
    start: Timestamp,
    began: Instant,
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        self.start + self.began.elapsed()
    }
}

/// A call as it arrived. The event's data is its id, so that is what a call carries.
#[derive(Debug, Clone)]
pub struct Call {
    pub event: String,
    /// The how-maniest of this event, from 1.
    pub nth: u32,
    pub idempotency_key: String,
    /// After the start of the test.
    pub at: Duration,
    /// How many other calls were out.
    pub beside: usize,
}

/// What a call is answered, after how long.
pub type Answer = (Duration, Result<(), Fault>);
type Script = dyn Fn(&Call) -> Answer + Send + Sync;

/// The other side.
pub struct Remote {
    script: Mutex<Arc<Script>>,
    calls: Mutex<Vec<Call>>,
    counts: Mutex<HashMap<String, u32>>,
    out: AtomicUsize,
    began: Instant,
}

impl Remote {
    fn new(began: Instant) -> Self {
        let script: Arc<Script> = Arc::new(|_| ok());
        let (script, calls, counts) = (Mutex::new(script), Mutex::default(), Mutex::default());
        Self { script, calls, counts, out: AtomicUsize::new(0), began }
    }

    /// From now on every call is answered so.
    pub fn answers(&self, script: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        *locked(&self.script) = Arc::new(script);
    }

    /// Every call so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        locked(&self.calls).clone()
    }

    /// How often each event came.
    pub fn counts(&self) -> HashMap<String, u32> {
        locked(&self.counts).clone()
    }

    fn arrived(&self, item: &Item) -> Call {
        let event = String::from_utf8(item.body.bytes.to_vec()).expect("ids are text");
        let mut counts = locked(&self.counts);
        let nth = counts.entry(event.clone()).and_modify(|count| *count += 1).or_insert(1);
        let call = Call {
            event,
            nth: *nth,
            idempotency_key: item.idempotency_key.clone(),
            at: self.began.elapsed(),
            beside: self.out.fetch_add(1, Ordering::SeqCst),
        };
        locked(&self.calls).push(call.clone());
        call
    }
}

struct Gone<'a>(&'a AtomicUsize);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Action for Remote {
    async fn call(&self, items: &[Item]) -> Vec<Output> {
        let mut outputs = Vec::new();
        for item in items {
            let call = self.arrived(item);
            let _gone = Gone(&self.out);
            let script = locked(&self.script).clone();
            let (after, result) = script(&call);
            tokio::time::sleep(after).await;
            let status = result.as_ref().err().and_then(|fault| fault.status).or(Some(200));
            outputs.push(Output { request: Some("POST /orders".to_owned()), status, result });
        }
        outputs
    }
}

struct Shop(Arc<Remote>);

impl Connection for Shop {
    fn action(&self, name: &str) -> Option<Arc<dyn Action>> {
        (name == "send").then(|| self.0.clone() as Arc<dyn Action>)
    }
}

/// The broker in memory, whose subscriptions break on command.
#[derive(Clone)]
pub struct Fragile {
    memory: Memory,
    broken: Arc<Notify>,
    refuses: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Fragile {
    /// Makes the subscription that is there panic, which no adapter should.
    pub fn panic_now(&self) {
        self.panics.store(true, Ordering::SeqCst);
        self.break_now();
    }

    /// Does not say any more how far a group is, or does again.
    pub fn silence(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// Breaks the subscription that is there.
    pub fn break_now(&self) {
        self.broken.notify_waiters();
    }

    /// Gives no subscription any more, or does again.
    pub fn refuse(&self, refuse: bool) {
        self.refuses.store(refuse, Ordering::SeqCst);
    }
}

fn broken() -> BrokerError {
    BrokerError::Unavailable { doing: "waiting for events", source: "the test broke it".into() }
}

#[async_trait]
impl Broker for Fragile {
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        self.memory.publish(topic, events).await
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(broken());
        }
        let inner = self.memory.subscribe(group, topics).await?;
        Ok(Box::new(Breaking { inner, broken: self.broken.clone(), panics: self.panics.clone() }))
    }

    async fn lag(&self, group: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(broken());
        }
        self.memory.lag(group).await
    }
}

struct Breaking {
    inner: Box<dyn Subscription>,
    broken: Arc<Notify>,
    panics: Arc<AtomicBool>,
}

#[async_trait]
impl Subscription for Breaking {
    async fn next(&mut self) -> Result<Signal, BrokerError> {
        tokio::select! {
            () = self.broken.notified() => {
                assert!(!self.panics.load(Ordering::SeqCst), "the test wants a panic");
                Err(broken())
            }
            signal = self.inner.next() => signal,
        }
    }

    fn pause(&mut self, partition: &Partition) {
        self.inner.pause(partition);
    }

    fn resume(&mut self, partition: &Partition) {
        self.inner.resume(partition);
    }
}

/// Ports for acts of people, in front of the memory: they take their time, and refuse on command.
pub struct Slow {
    memory: Memory,
    refuses: AtomicBool,
    loses: AtomicBool,
}

impl Slow {
    /// Refuses every write from now on, or does no more.
    pub fn refuse(&self, refuse: bool) {
        self.refuses.store(refuse, Ordering::SeqCst);
    }

    /// Loses every answer to what was written from now on, or does no more.
    pub fn lose_answers(&self, lose: bool) {
        self.loses.store(lose, Ordering::SeqCst);
    }

    async fn write(&self) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.refuses.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                doing: "writing an act",
                source: "the test refuses".into(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Connections for Slow {
    async fn load(&self) -> Result<Vec<StoredConnection>, StoreError> {
        self.memory.load().await
    }

    async fn save(
        &self,
        connection: &StoredConnection,
        act: Option<&Act>,
    ) -> Result<StoredConnection, StoreError> {
        self.write().await?;
        let stands = self.memory.save(connection, act).await?;
        if self.loses.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                doing: "writing an act",
                source: "the answer is lost".into(),
            });
        }
        Ok(stands)
    }
}

#[async_trait]
impl Replays for Slow {
    async fn create(&self, replay: NewReplay) -> Result<Replay, StoreError> {
        self.write().await?;
        let replay = self.memory.create(replay).await;
        // The answer takes a while too: who hangs up now has changed the store already.
        tokio::time::sleep(Duration::from_millis(20)).await;
        replay
    }

    async fn get(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        Replays::get(&self.memory, id).await
    }

    async fn list(&self, page: PageRequest) -> Result<crossdock_core::Page<Replay>, StoreError> {
        Replays::list(&self.memory, page).await
    }

    async fn unfinished(&self) -> Result<Vec<Replay>, StoreError> {
        self.memory.unfinished().await
    }

    async fn places(&self, id: &str) -> Result<Vec<(FlowName, Partition)>, StoreError> {
        self.memory.places(id).await
    }

    async fn items(
        &self,
        id: &str,
        flow: &FlowName,
        partition: &Partition,
        from: u64,
        limit: usize,
    ) -> Result<Vec<ReplayItem>, StoreError> {
        self.memory.items(id, flow, partition, from, limit).await
    }

    async fn allow(&self, id: &str, want: u64) -> Result<u64, StoreError> {
        self.memory.allow(id, want).await
    }

    async fn change(&self, id: &str, state: ReplayState, act: &Act) -> Result<Replay, StoreError> {
        self.write().await?;
        self.memory.change(id, state, act).await
    }

    async fn tried(&self, id: &str, tried: &Tried) -> Result<(), StoreError> {
        self.memory.tried(id, tried).await
    }

    async fn set_rate(&self, id: &str, rate: Option<f64>, act: &Act) -> Result<Replay, StoreError> {
        self.write().await?;
        self.memory.set_rate(id, rate, act).await
    }
}

/// Settlements of the memory whose answer gets lost on command: what was asked for has happened all the same.
pub struct Unsure {
    memory: Memory,
    loses: AtomicBool,
    calls: AtomicUsize,
}

impl Unsure {
    /// Loses every second answer from now on.
    pub fn lose_answers(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Settlements for Unsure {
    async fn settle(
        &self,
        owner: Option<&Owner>,
        batch: Vec<Settlement>,
    ) -> Result<Vec<Settled>, StoreError> {
        let settled = self.memory.settle(owner, batch).await?;
        let lost = self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if lost && self.loses.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable { doing: "settling", source: "the answer is lost".into() });
        }
        Ok(settled)
    }
}

/// How the flow and its connection are set up.
#[derive(Clone)]
pub struct Options {
    pub retry: RetryPolicy,
    pub circuit: Option<CircuitPolicy>,
    pub concurrency: usize,
    pub order: Order,
    pub partitions: u32,
    pub filter: Option<&'static str>,
    /// Whether other workers share the stores.
    pub shared: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (retry, order) = (list(&[100, 100, 100, 100]), Order::Key);
        Self { retry, circuit: None, concurrency: 8, order, partitions: 1, filter: None, shared: false }
    }
}

/// A hub with what it stands on.
pub struct Rig {
    pub hub: Arc<Hub>,
    pub remote: Arc<Remote>,
    pub memory: Memory,
    pub broker: Fragile,
    pub acts: Arc<Slow>,
    pub settlements: Arc<Unsure>,
    clock: Arc<RuntimeClock>,
    disk: Disk,
    setup: Setup,
    stores: Stores,
    options: Options,
}

async fn tick(clock: Arc<ManualClock>) {
    const STEP: Duration = Duration::from_millis(5);
    loop {
        tokio::time::sleep(STEP).await;
        clock.advance(STEP);
    }
}

impl Rig {
    /// A hub that has just started with nothing in its store.
    pub async fn new(options: Options) -> Self {
        let began = Instant::now();
        let clock = Arc::new(RuntimeClock { start: Timestamp::now(), began });
        let setup = Setup {
            partitions: options.partitions,
            topics: vec![topic()],
            groups: vec![(flow(), vec![topic()])],
            event_bytes_max: 1 << 20,
            queue_events_max: 100_000,
            dedupe_window: Duration::from_secs(3600),
            retention: Duration::from_secs(3600),
            clock: Arc::new(ManualClock::new()),
        };
        Self::open(Disk::default(), setup, options, clock, Arc::new(Remote::new(began))).await
    }

    async fn open(
        disk: Disk,
        setup: Setup,
        options: Options,
        clock: Arc<RuntimeClock>,
        remote: Arc<Remote>,
    ) -> Self {
        let memory = Memory::open(disk.clone(), &setup);
        let broker = Fragile {
            memory: memory.clone(),
            broken: Arc::default(),
            refuses: Arc::default(),
            silent: Arc::default(),
            panics: Arc::default(),
        };
        let acts = Arc::new(Slow {
            memory: memory.clone(),
            refuses: AtomicBool::default(),
            loses: AtomicBool::default(),
        });
        let loses = AtomicBool::new(false);
        let settlements = Arc::new(Unsure { memory: memory.clone(), loses, calls: AtomicUsize::new(0) });
        let shared = Arc::new(memory.clone());
        let stores = Stores {
            outbox: shared.clone(),
            outbox_log: None,
            settlements: settlements.clone(),
            held: shared.clone(),
            dead_letters: shared.clone(),
            replays: acts.clone(),
            connections: acts.clone(),
            event_log: shared,
            shared: options.shared,
        };
        if options.shared {
            // The store's time, by which workers share a rate, goes on with that of the test.
            tokio::spawn(tick(setup.clock.clone()));
        }
        let plan = plan(&options, &remote);
        let roles = Roles::default();
        let hub = Hub::start(plan, Arc::new(broker.clone()), stores.clone(), clock.clone(), roles);
        let hub = hub.await.expect("the hub starts");
        Self { hub, remote, memory, broker, acts, settlements, clock, disk, setup, stores, options }
    }

    /// One more worker of the same hub.
    pub async fn worker(&self, roles: Roles) -> Arc<Hub> {
        self.worker_on(self.stores.clone(), roles).await
    }

    /// The same on stores of the test's own.
    pub async fn worker_on(&self, stores: Stores, roles: Roles) -> Arc<Hub> {
        self.worker_of(Arc::new(self.broker.clone()), stores, roles).await
    }

    /// The same with a broker of the test's own.
    pub async fn worker_of(&self, broker: Arc<dyn Broker>, stores: Stores, roles: Roles) -> Arc<Hub> {
        let plan = plan(&self.options, &self.remote);
        let hub = Hub::start(plan, broker, stores, self.clock.clone(), roles);
        hub.await.expect("the worker starts")
    }

    /// The stores, to put others in their place.
    pub fn stores(&self) -> Stores {
        self.stores.clone()
    }

    /// Stops the hub and starts another one over what it left in the store.
    pub async fn restart(self, options: Options) -> Self {
        assert!(self.hub.stop(Duration::from_secs(20)).await, "everything finishes in time");
        self.memory.close();
        let Self { remote, clock, disk, setup, .. } = self;
        Self::open(disk, setup, options, clock, remote).await
    }

    /// Publishes events with these ids, all of one key each.
    pub async fn publish(&self, events: impl IntoIterator<Item = (String, &str)>) {
        let events: Vec<_> = events.into_iter().map(|(id, key)| event(&id, key)).collect();
        for result in self.hub.publish("orders", events).await.expect("the topic is there") {
            assert!(matches!(result, Ok(Published::New(_))), "{result:?}");
        }
    }

    /// So many events `e0`, `e1`… of one key that are rejected and become dead letters.
    pub async fn dead(&self, count: usize) {
        self.dead_of(count, &["k"]).await;
    }

    /// The same of several keys, in turn.
    pub async fn dead_of(&self, count: usize, keys: &[&str]) {
        self.remote.answers(|_| (Duration::ZERO, Err(Fault::new(Class::Rejected, "no"))));
        self.publish((0..count).map(|n| (format!("e{n}"), keys[n % keys.len()]))).await;
        self.until("every letter is there", async || self.letters(LetterState::Open).await == count as u64)
            .await;
        self.remote.answers(|_| ok());
    }

    /// Waits until it is so.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < PATIENCE, "in vain: {what}; the calls were {:#?}", self.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the other side was called so often.
    pub async fn until_called(&self, times: usize) {
        self.until(&format!("{times} calls"), async || self.remote.calls().len() >= times).await;
    }

    fn tail(&self) -> Vec<Call> {
        let calls = self.remote.calls();
        calls[calls.len().saturating_sub(10)..].to_vec()
    }

    /// How many dead letters are in a state.
    pub async fn letters(&self, state: LetterState) -> u64 {
        let selection = Selection { state: Some(state), ..Selection::default() };
        self.memory.count(&selection).await.expect("the memory answers")
    }

    /// The open dead letters, at most a hundred.
    pub async fn open_letters(&self) -> Vec<LetterSummary> {
        let selection = Selection::default();
        DeadLetters::list(&self.memory, &selection, PageRequest::first(100)).await.expect("a list").items
    }

    /// Sends every open dead letter again.
    pub async fn replay_all(&self, rate: Option<f64>) -> Replay {
        let new = NewReplay { selection: Selection::default(), rate, test: false, act: act() };
        self.hub.replay(new).await.expect("there are open letters")
    }

    /// A replay as the store has it.
    pub async fn replay(&self, id: &str) -> Replay {
        Replays::get(&self.memory, id).await.expect("the memory answers").expect("the replay is there")
    }

    /// Pauses or resumes the connection.
    pub async fn set_connection(&self, state: ConnectionState) {
        self.hub.set_connection("shop", state, &act()).await.expect("the store takes it");
    }

    /// How the connection is shown.
    pub fn connection(&self) -> ConnectionState {
        self.hub.connections()[0].state
    }

    /// How the connection is kept.
    pub async fn kept(&self) -> Option<ConnectionState> {
        self.memory.load().await.expect("the memory answers").first().map(|kept| kept.state)
    }

    /// Lets time go by.
    pub async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn plan(options: &Options, remote: &Arc<Remote>) -> Plan {
    let filter = options
        .filter
        .map(|source| Program::compile(source, &crossdock_expr::Scope::new(&["event"])).expect("a program"));
    let connection = ConnectionName::new("shop").expect("a name");
    let billing = FlowPlan {
        name: flow(),
        topics: vec![topic()],
        key: None,
        filter,
        map: None,
        connection: connection.clone(),
        action: "send".to_owned(),
        fields: Vec::new(),
        order: options.order,
        retry: options.retry.clone(),
    };
    let shop = ConnectionPlan {
        name: connection,
        connector: "script".to_owned(),
        connection: Arc::new(Shop(remote.clone())),
        concurrency: options.concurrency,
        circuit: options.circuit,
    };
    Plan { flows: vec![Arc::new(billing)], connections: vec![Arc::new(shop)], topics: vec![topic()] }
}

pub fn topic() -> Topic {
    Topic::new("orders").expect("a name")
}

pub fn flow() -> FlowName {
    FlowName::new("billing").expect("a name")
}

pub fn event(id: &str, key: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/shop".to_owned(),
        kind: "order.paid".to_owned(),
        subject: None,
        time: None,
        content_type: Some("text/plain".to_owned()),
        schema: None,
        key: Some(key.to_owned()),
        extensions: Vec::new(),
        data: Bytes::from(id.to_owned()),
    }
}

/// Ann, because.
pub fn act() -> Act {
    Act { actor: "ann".to_owned(), reason: "because".to_owned() }
}

/// A list of waits in milliseconds, without jitter and without a limit of age.
pub fn list(waits: &[u64]) -> RetryPolicy {
    RetryPolicy {
        schedule: Schedule::List(waits.iter().copied().map(Duration::from_millis).collect()),
        jitter: Jitter::Ratio(0.0),
        max_age: None,
        ..RetryPolicy::default()
    }
}

/// The answer of a system that works.
pub fn ok() -> Answer {
    (Duration::from_millis(5), Ok(()))
}

/// An answer with a fault of this class.
pub fn fault(class: Class) -> Answer {
    (Duration::from_millis(5), Err(Fault::new(class, class.as_str())))
}

/// The same, with a wait that the other side asks for.
pub fn fault_for(class: Class, seconds: u64) -> Answer {
    let wait = Some(Wait::For(Duration::from_secs(seconds)));
    (Duration::from_millis(5), Err(Fault { wait, ..Fault::new(class, class.as_str()) }))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}
