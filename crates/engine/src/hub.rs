//! The hub: what the API and the command line talk to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crossdock_core::{
    Act, Broker, Clock, ConnectionName, ConnectionState, DeadLetters, Event, FlowName, Inbound, NewReplay,
    OutboxLog, PublishError, Published, Replay, StoreError,
};
use futures::future::join_all;
use jiff::Timestamp;
use tokio::{sync::broadcast, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    acts::{ActError, ReplayChange, TestResult, to_the_end},
    dispatchers::Dispatchers,
    feed::Feeder,
    flow::Flow,
    gate::Gate,
    intake::{Answer, Intake, IntakeError},
    joining::{Joined, join},
    limit::within,
    plan::Plan,
    progress::{Progress, Watching},
    relay::{Relay, Watch},
    replay::Replayer,
    roles::Roles,
    runner::Runner,
    sharing::Sharing,
    status::{ConnectionStatus, Moment},
    stores::Stores,
    wiring::{StartError, flows, gates},
};

/// How many moments a slow receiver may be behind before it misses some.
const MOMENTS: usize = 1024;

/// Starts the relay: once flows have joined and those of others have begun.
fn relay(
    outbox: Arc<dyn OutboxLog>,
    (joined, others): (Arc<Joined>, Vec<Arc<Flow>>),
    broker: &Arc<dyn Broker>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> (Arc<Watch>, JoinHandle<()>) {
    let watch = Arc::new(Watch::new(clock.clone()));
    let (broker, stop) = (broker.clone(), stop.clone());
    let relay = Relay { outbox, joined, others, broker, watch: watch.clone(), stop };
    (watch, tokio::spawn(relay.run()))
}

/// A running hub. Dropping it stops nothing: call [`Hub::stop`].
pub struct Hub {
    pub(crate) plan: Arc<Plan>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) stores: Stores,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started_at: Timestamp,
    pub(crate) gates: HashMap<ConnectionName, Arc<Gate>>,
    pub(crate) flows: Vec<Arc<Flow>>,
    pub(crate) intake: Intake,
    /// What the relay tells of itself; none if this worker has none.
    pub(crate) relay: Option<Arc<Watch>>,
    pub(crate) progress: Arc<Progress>,
    /// The flows that this worker delivers.
    pub(crate) delivered: Vec<Arc<Flow>>,
    /// Whether taking events in is among the roles of this worker.
    pub(crate) ingests: bool,
    replayer: Arc<Replayer>,
    moments: broadcast::Sender<Moment>,
    runners: Mutex<Vec<(FlowName, JoinHandle<()>)>>,
    relaying: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Hub {
    /// Starts what the worker's roles ask for of the plan. When it returns, every flow that this worker delivers has joined its
    /// topics, and misses nothing from now on. A broker that is away fails the start only where the outbox is its log; elsewhere
    /// events are taken in, flows join as soon as they can, and nothing is relayed before they have. Nor is it before the groups
    /// have begun of flows that only other workers deliver.
    pub async fn start(
        plan: Plan,
        broker: Arc<dyn Broker>,
        stores: Stores,
        clock: Arc<dyn Clock>,
        roles: Roles,
    ) -> Result<Arc<Self>, StartError> {
        let (plan, moments, stop) =
            (Arc::new(plan), broadcast::Sender::new(MOMENTS), CancellationToken::new());
        let stored = within("reading the state of connections", stores.connections.load()).await;
        let stored = stored.map_err(StartError::new("reading the state of connections"))?;
        let gates = gates(&plan, stored, &clock, &stores, &moments);
        let flows = flows(&plan, &gates, &clock, &moments)?;
        let dispatchers = Arc::new(Dispatchers::default());
        let delivered = if roles.deliver { flows.clone() } else { Vec::new() };
        let may_wait = stores.outbox_log.is_some();
        let subscriptions = join(&broker, &delivered, may_wait).await?;
        let joined = Arc::new(Joined::new(&subscriptions));
        let feeder = Feeder { stores: stores.clone(), plan: plan.clone(), dispatchers: dispatchers.clone() };
        let replayer = Arc::new(Replayer::new(feeder, roles.deliver, stop.clone()));
        if roles.deliver {
            replayer.follow().await.map_err(StartError::new("resuming replays"))?;
        }
        let run = |(flow, subscription): (&Arc<Flow>, _)| {
            let (flow, broker, stores) = (flow.clone(), broker.clone(), stores.clone());
            let (dispatchers, stop, name) = (dispatchers.clone(), stop.clone(), flow.plan.name.clone());
            let runner = Runner { flow, broker, stores, dispatchers, joined: joined.clone(), stop };
            (name, tokio::spawn(runner.run(subscription)))
        };
        let runners = Mutex::new(delivered.iter().zip(subscriptions).map(run).collect());
        let intake = Intake::new(&plan, &gates, &stores, &clock, &moments, (roles.ingest, stop.clone()));
        let started_at = clock.now();
        if stores.shared {
            let (connections, gates) = (stores.connections.clone(), gates.clone());
            let replayer = roles.deliver.then(|| replayer.clone());
            tokio::spawn(Sharing { connections, gates, replayer, stop: stop.clone() }.run());
        }
        let progress = Arc::new(Progress::default());
        let watching = Watching {
            flows: delivered.clone(),
            broker: broker.clone(),
            dispatchers: dispatchers.clone(),
            alone: !stores.shared,
            stop: stop.clone(),
        };
        tokio::spawn(watching.run(progress.clone()));
        let outbox = stores.outbox_log.clone().filter(|_| roles.relay);
        let others = if roles.deliver { Vec::new() } else { flows.clone() };
        let relay = outbox.map(|outbox| relay(outbox, (joined, others), &broker, &clock, &stop));
        let (relay, relaying) = relay.unzip();
        Ok(Arc::new(Self {
            plan,
            broker,
            stores,
            clock,
            started_at,
            gates,
            flows,
            intake,
            relay,
            progress,
            delivered,
            ingests: roles.ingest,
            replayer,
            moments,
            runners,
            relaying: Mutex::new(relaying),
            stop,
        }))
    }

    /// Whether a connection of this name takes events now: what [`Hub::accept`] asks first, without a body.
    pub fn check_source(&self, connection: &str) -> Result<(), IntakeError> {
        self.intake.check_source(connection)
    }

    /// Whether a topic of this name takes events now: what [`Hub::publish`] asks first, without a body.
    pub fn check_topic(&self, topic: &str) -> Result<(), IntakeError> {
        self.intake.check_topic(topic)
    }

    /// Takes a vendor's webhook for a connection; answers after the durable commit.
    pub async fn accept(&self, connection: &str, request: Inbound) -> Result<Answer, IntakeError> {
        self.intake.accept(connection, request).await
    }

    /// Takes events for a topic; answers for each one after the durable commit.
    pub async fn publish(
        &self,
        topic: &str,
        events: Vec<Event>,
    ) -> Result<Vec<Result<Published, PublishError>>, IntakeError> {
        self.intake.publish(topic, events).await
    }

    /// Pauses (`paused`) or resumes (`ok`) a connection.
    pub async fn set_connection(
        &self,
        name: &str,
        state: ConnectionState,
        act: &Act,
    ) -> Result<ConnectionStatus, ActError> {
        let gate = self.gates.iter().find(|(known, _)| known.as_str() == name).map(|(_, gate)| gate);
        let gate = gate.ok_or_else(|| ActError::NotFound { what: "connection", id: name.to_owned() })?;
        let paused = match state {
            ConnectionState::Paused => true,
            ConnectionState::Ok => false,
            other => {
                let text =
                    format!("a connection cannot be set to `{}`: say `paused` or `ok`", other.as_str());
                return Err(StoreError::Conflict(text).into());
            }
        };
        let (gate, act) = (gate.clone(), act.clone());
        to_the_end(async move {
            gate.set(paused, &act).await?;
            Ok(gate.status())
        })
        .await
    }

    /// The stores, for lists.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The dead letters, for lists.
    pub fn dead_letters(&self) -> &dyn DeadLetters {
        self.stores.dead_letters.as_ref()
    }

    /// Makes a replay and begins to send it. Goes to its end also when the caller does not wait for it.
    pub async fn replay(&self, replay: NewReplay) -> Result<Replay, ActError> {
        let replayer = self.replayer.clone();
        to_the_end(async move { replayer.create(replay).await }).await
    }

    /// Pauses, resumes, cancels a replay or changes its rate. Goes to its end also when the caller does not wait for it.
    pub async fn change_replay(&self, id: &str, change: ReplayChange, act: &Act) -> Result<Replay, ActError> {
        let (replayer, id, act) = (self.replayer.clone(), id.to_owned(), act.clone());
        to_the_end(async move { replayer.change(&id, change, &act).await }).await
    }

    /// Sends one open dead letter now and waits for the result of that try, for two minutes at the most. Delivered, it
    /// counts as replayed. Goes to its end also when the caller does not wait for it.
    pub async fn test_replay(&self, dead_letter: &str, act: &Act) -> Result<TestResult, ActError> {
        let (replayer, id, act) = (self.replayer.clone(), dead_letter.to_owned(), act.clone());
        to_the_end(async move { replayer.test(&id, &act).await }).await
    }

    /// What happens from now on, for a live view. A slow receiver misses moments and is told how many.
    pub fn moments(&self) -> broadcast::Receiver<Moment> {
        self.moments.subscribe()
    }

    /// Takes nothing new in, lets what is in flight finish, at most `within`; what has not by then is dropped. Returns
    /// whether everything had finished.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stop.cancel();
        let mut runners = std::mem::take(&mut *self.runners());
        let mut relaying = self.relaying.lock().expect("no holder of this lock panics").take();
        let ends = join_all(runners.iter_mut().map(|(_, task)| task).chain(&mut relaying));
        let ended = timeout(within, ends).await;
        if let Some(relaying) = relaying {
            // It gives up by itself before that; what it had not advanced comes again.
            relaying.abort();
        }
        for (flow, task) in runners.into_iter().filter(|(_, task)| !task.is_finished()) {
            task.abort();
            if task.await.is_err_and(|error| error.is_panic()) {
                tracing::error!(%flow, "a flow ended badly");
            }
        }
        ended.is_ok_and(|ends| ends.iter().all(Result::is_ok))
    }

    /// The flows that nobody runs any more although the hub is not stopping.
    pub(crate) fn flows_ended(&self) -> Vec<FlowName> {
        if self.is_stopping() {
            return Vec::new();
        }
        self.runners().iter().filter(|(_, task)| task.is_finished()).map(|(flow, _)| flow.clone()).collect()
    }

    /// Whether nobody runs the relay any more although the hub is not stopping.
    pub(crate) fn relay_ended(&self) -> bool {
        let relaying = self.relaying.lock().expect("no holder of this lock panics");
        !self.is_stopping() && relaying.as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn runners(&self) -> MutexGuard<'_, Vec<(FlowName, JoinHandle<()>)>> {
        self.runners.lock().expect("no holder of this lock panics")
    }

    /// Whether the hub has stopped taking events in.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}
