//! The hub: what the API and the command line talk to.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossdock_core::{
    Act, Attempt, Broker, Clock, ConnectionName, ConnectionState, DeadLetters, Event, FlowName, Inbound,
    LetterState, LoggedEvent, NewReplay, Outcome, PublishError, Published, Refusal, Replay, ReplayState,
    Selection, StoreError, StoredConnection,
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::{sync::broadcast, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    flow::{Counters, Flow},
    gate::Gate,
    intake::Intake,
    plan::Plan,
    replay::Replayer,
    runner::{Dispatchers, Runner},
    status::{ConnectionStatus, FlowStatus, Moment, Status},
    stores::Stores,
};

/// What a source is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Durable: so many new events, so many that were there already.
    Taken {
        /// New events.
        new: usize,
        /// Duplicates that were dropped.
        duplicates: usize,
    },
    /// A handshake.
    Reply {
        /// The status.
        status: u16,
        /// The media type.
        content_type: &'static str,
        /// The body.
        body: Bytes,
    },
}

/// Why nothing was taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// No connection or topic of that name takes events: 404.
    #[error("no {what} `{name}` takes events")]
    Unknown {
        /// `connection` or `topic`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// The names that do.
        known: Vec<String>,
    },
    /// The connection's webhook refused it: 401 or 400.
    #[error("the request is refused")]
    Refused(Refusal),
    /// An event of the request was not stored; none of a webhook's events counts as taken: 429 or 503.
    #[error(transparent)]
    NotStored(PublishError),
    /// The hub is stopping: 503.
    #[error("the hub is stopping")]
    Stopping,
}

/// Why an act of a person was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such connection, replay, dead letter…: 404.
    #[error("no {what} `{id}`")]
    NotFound {
        /// The noun.
        what: &'static str,
        /// The name or id that was given.
        id: String,
    },
}

/// An event and what became of it in each flow.
#[derive(Debug, Clone)]
pub struct EventView {
    /// The event.
    pub logged: LoggedEvent,
    /// One entry for each flow that reads the topic.
    pub deliveries: Vec<DeliveryView>,
}

/// Where an event stands in a flow.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryView {
    /// The flow.
    pub flow: FlowName,
    /// `pending` (in the broker or a lane), `held`, `dead`, `replaying`, `replayed`, `discarded`, or `done` (delivered, or
    /// left out by the filter).
    pub state: &'static str,
    /// When a held event is due.
    pub due_at: Option<Timestamp>,
    /// The dead letter.
    pub dead_letter: Option<String>,
}

/// What a test of one dead letter came to.
#[derive(Debug, Clone, Serialize)]
pub struct TestResult {
    /// The dead letter that was sent.
    pub dead_letter: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The try.
    pub attempt: Attempt,
}

/// A change to a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReplayChange {
    /// Pause, resume or cancel it.
    State(ReplayState),
    /// Change its rate; none is as fast as the lanes take them.
    Rate(Option<f64>),
}

/// How many moments a slow receiver may be behind before it misses some.
const MOMENTS: usize = 1024;

/// A running hub. Dropping it stops nothing: call [`Hub::stop`].
pub struct Hub {
    plan: Arc<Plan>,
    broker: Arc<dyn Broker>,
    stores: Stores,
    clock: Arc<dyn Clock>,
    started_at: Timestamp,
    gates: HashMap<ConnectionName, Arc<Gate>>,
    flows: Vec<Arc<Flow>>,
    intake: Intake,
    replayer: Arc<Replayer>,
    moments: broadcast::Sender<Moment>,
    runners: std::sync::Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
}

/// A hub could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the hub while {doing}")]
pub struct StartError {
    /// What we were doing.
    pub doing: String,
    /// What went wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StartError {
    fn new<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        doing: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self { doing, source: source.into() }
    }
}

impl Hub {
    /// Starts every flow of the plan. When it returns, every flow has joined its topics and misses nothing from now on.
    pub async fn start(
        plan: Plan,
        broker: Arc<dyn Broker>,
        stores: Stores,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StartError> {
        let (plan, moments, stop) =
            (Arc::new(plan), broadcast::Sender::new(MOMENTS), CancellationToken::new());
        let stored =
            stores.connections.load().await.map_err(StartError::new("reading the state of connections"))?;
        let gates = gates(&plan, stored, &clock, &stores, &moments);
        let flows = flows(&plan, &gates, &clock, &moments)?;
        let dispatchers = Arc::new(Dispatchers::default());
        let mut runners = Vec::new();
        for flow in &flows {
            let subscription = broker
                .subscribe(&flow.plan.name, &flow.plan.topics)
                .await
                .map_err(StartError::new(format!("subscribing the flow `{}`", flow.plan.name)))?;
            let runner = Runner {
                flow: flow.clone(),
                broker: broker.clone(),
                stores: stores.clone(),
                dispatchers: dispatchers.clone(),
                stop: stop.clone(),
            };
            runners.push(tokio::spawn(runner.run(subscription)));
        }
        let replayer = Arc::new(Replayer::new(stores.clone(), plan.clone(), dispatchers, stop.clone()));
        replayer.resume().await.map_err(StartError::new("resuming replays"))?;
        let intake =
            Intake::new(&plan, &gates, stores.outbox.clone(), clock.clone(), moments.clone(), stop.clone());
        let started_at = clock.now();
        let runners = std::sync::Mutex::new(runners);
        Ok(Arc::new(Self {
            plan,
            broker,
            stores,
            clock,
            started_at,
            gates,
            flows,
            intake,
            replayer,
            moments,
            runners,
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

    /// The hub at a glance.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let flows = self.flows().await?;
        let sum = |count: fn(&FlowStatus) -> u64| flows.iter().map(count).sum();
        let problems = self.problems();
        let state = match (self.is_stopping(), problems.is_empty()) {
            (true, _) => "stopping",
            (false, true) => "running",
            (false, false) => "degraded",
        };
        Ok(Status {
            state,
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started_at,
            accepted: self.intake.accepted(),
            duplicates: self.intake.duplicates(),
            delivered: sum(|flow| flow.delivered),
            failed_attempts: sum(|flow| flow.failed_attempts),
            pending: sum(|flow| flow.pending),
            held: sum(|flow| flow.held),
            dead: sum(|flow| flow.dead),
            problems,
        })
    }

    /// What is wrong, each with what mends it.
    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.intake.last_failure().into_iter().collect();
        for connection in self.connections() {
            let name = &connection.name;
            let why = connection.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            match connection.state {
                ConnectionState::NeedsAuth => problems.push(format!(
                    "connection {name} needs a new credential{why}: mend it, then `crossdock connection resume {name}`"
                )),
                ConnectionState::CircuitOpen => {
                    problems.push(format!("connection {name} does not answer{why}; it is tried again by itself"));
                }
                ConnectionState::Paused => problems.push(format!(
                    "connection {name} is paused{why}: `crossdock connection resume {name}` lets its events flow"
                )),
                ConnectionState::Ok | ConnectionState::Throttled => {}
            }
        }
        problems
    }

    /// Every flow, in the order of the configuration.
    pub async fn flows(&self) -> Result<Vec<FlowStatus>, StoreError> {
        let mut all = Vec::with_capacity(self.flows.len());
        for flow in &self.flows {
            all.push(self.flow_status(flow).await?);
        }
        Ok(all)
    }

    async fn flow_status(&self, flow: &Flow) -> Result<FlowStatus, StoreError> {
        let name = &flow.plan.name;
        let lag = self.broker.lag(name).await.map_err(|source| StoreError::Unavailable {
            doing: "asking the broker how far a flow is",
            source: source.into(),
        })?;
        let (held, next_retry_at) = self.stores.held.count(name).await?;
        let selection = Selection { flow: Some(name.clone()), ..Selection::default() };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(FlowStatus {
            name: name.clone(),
            from: flow.plan.topics.clone(),
            connection: flow.plan.connection.clone(),
            action: flow.plan.action.clone(),
            state: flow.gate.status().state,
            delivered: read(&flow.counters.delivered),
            filtered: read(&flow.counters.filtered),
            failed_attempts: read(&flow.counters.failed_attempts),
            pending: lag.iter().map(|partition| partition.pending).sum(),
            held,
            dead: self.stores.dead_letters.count(&selection).await?,
            next_retry_at,
            lag,
        })
    }

    /// Every connection, in the order of the configuration.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        self.plan.connections.iter().map(|plan| self.gates[&plan.name].status()).collect()
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
        gate.set(paused, act).await?;
        Ok(gate.status())
    }

    /// The events with an id, each with what became of it in each flow.
    pub async fn events(&self, id: &str) -> Result<Vec<EventView>, StoreError> {
        let mut views = Vec::new();
        for logged in self.stores.event_log.find(id).await? {
            let deliveries = self.deliveries(&logged).await?;
            views.push(EventView { logged, deliveries });
        }
        Ok(views)
    }

    async fn deliveries(&self, logged: &LoggedEvent) -> Result<Vec<DeliveryView>, StoreError> {
        let held = self.stores.held.of_event(&logged.position).await?;
        let dead = self.stores.dead_letters.of_event(&logged.position).await?;
        let mut views = Vec::new();
        for flow in self.plan.flows.iter().filter(|flow| flow.topics.contains(&logged.position.topic)) {
            let held = held.iter().find(|held| held.held.flow == flow.name);
            let dead = dead.iter().find(|letter| letter.flow == flow.name);
            let state = match (held, dead) {
                (Some(_), _) => "held",
                (None, Some(letter)) if letter.state == LetterState::Open => "dead",
                (None, Some(letter)) => letter.state.as_str(),
                (None, None) if self.stores.event_log.is_complete(&flow.name, &logged.position).await? => {
                    "done"
                }
                (None, None) => "pending",
            };
            views.push(DeliveryView {
                flow: flow.name.clone(),
                state,
                due_at: held.and_then(|held| held.held.due),
                dead_letter: dead.map(|letter| letter.id.clone()),
            });
        }
        Ok(views)
    }

    /// The stores, for lists.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The dead letters, for lists.
    pub fn dead_letters(&self) -> &dyn DeadLetters {
        self.stores.dead_letters.as_ref()
    }

    /// What time it is for the hub.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes a replay and begins to send it.
    pub async fn replay(&self, replay: NewReplay) -> Result<Replay, ActError> {
        Ok(self.replayer.create(replay).await?)
    }

    /// Pauses, resumes, cancels a replay or changes its rate.
    pub async fn change_replay(&self, id: &str, change: ReplayChange, act: &Act) -> Result<Replay, ActError> {
        self.replayer.change(id, change, act).await
    }

    /// Sends one open dead letter now and waits for the result of that try. Delivered, it counts as replayed.
    pub async fn test_replay(&self, dead_letter: &str, act: &Act) -> Result<TestResult, ActError> {
        self.replayer.test(dead_letter, act).await
    }

    /// What happens from now on, for a live view. A slow receiver misses moments and is told how many.
    pub fn moments(&self) -> broadcast::Receiver<Moment> {
        self.moments.subscribe()
    }

    /// Takes nothing new in, lets what is in flight finish, at most `within`. Returns whether everything had finished.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stop.cancel();
        let runners = std::mem::take(&mut *self.runners.lock().expect("no holder of this lock panics"));
        let aborts: Vec<_> = runners.iter().map(JoinHandle::abort_handle).collect();
        let finished = tokio::time::timeout(within, futures::future::join_all(runners)).await.is_ok();
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        finished
    }

    /// Whether the hub has stopped taking events in.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}

fn gates(
    plan: &Plan,
    stored: Vec<StoredConnection>,
    clock: &Arc<dyn Clock>,
    stores: &Stores,
    moments: &broadcast::Sender<Moment>,
) -> HashMap<ConnectionName, Arc<Gate>> {
    let mut stored: HashMap<_, _> = stored.into_iter().map(|stored| (stored.name.clone(), stored)).collect();
    let gate = |plan: &Arc<crate::plan::ConnectionPlan>| {
        let stored = stored.remove(&plan.name);
        let gate =
            Gate::new(plan.clone(), stored, clock.clone(), stores.connections.clone(), moments.clone());
        (plan.name.clone(), Arc::new(gate))
    };
    plan.connections.iter().map(gate).collect()
}

fn flows(
    plan: &Plan,
    gates: &HashMap<ConnectionName, Arc<Gate>>,
    clock: &Arc<dyn Clock>,
    moments: &broadcast::Sender<Moment>,
) -> Result<Vec<Arc<Flow>>, StartError> {
    let flow = |plan: &Arc<crate::plan::FlowPlan>| {
        let doing = format!("wiring the flow `{}`", plan.name);
        let gate = gates.get(&plan.connection).ok_or_else(|| format!("no connection `{}`", plan.connection));
        let gate = gate.map_err(StartError::new(doing.clone()))?.clone();
        let action =
            gate.plan.connection.action(&plan.action).ok_or_else(|| format!("no action `{}`", plan.action));
        Ok(Arc::new(Flow {
            plan: plan.clone(),
            action: action.map_err(StartError::new(doing))?,
            gate,
            clock: clock.clone(),
            counters: Counters::default(),
            moments: moments.clone(),
        }))
    };
    plan.flows.iter().map(flow).collect()
}
