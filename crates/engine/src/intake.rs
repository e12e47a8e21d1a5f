//! The entrance: events become durable before anybody is told that they were taken.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossdock_core::{
    Clock, ConnectionName, Event, Inbound, Inbox, Outbox, PublishError, Published, Refusal, Topic, Webhook,
    chain,
};
use tokio::{
    sync::broadcast,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{gate::Gate, plan::Plan, status::Moment, stores::Stores};

/// How long a commit may take until the source is told that it is not known whether there was one.
const APPEND_MAX: Duration = Duration::from_secs(30);
/// How long a failure is told of, if nothing came in since and the outbox knows no reason why it should fail again.
const FAILURE_COUNTS: Duration = Duration::from_secs(60);

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
    /// Taking events in is not among the roles of this worker: 503.
    #[error("this worker takes no events in")]
    NotHere,
}

/// The entrance of a hub.
pub(crate) struct Intake {
    sources: HashMap<String, Source>,
    topics: HashMap<String, Topic>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    moments: broadcast::Sender<Moment>,
    accepted: AtomicU64,
    duplicates: AtomicU64,
    /// Why the last events could not be stored, and when; none since a success.
    failure: Mutex<Option<(String, Instant)>>,
    /// Whether it was told that the outbox is full.
    told_full: AtomicBool,
    /// Whether taking events in is among the roles of the worker.
    ingests: bool,
    stop: CancellationToken,
}

struct Source {
    webhook: Arc<dyn Webhook>,
    topic: Topic,
    gate: Arc<Gate>,
}

impl Intake {
    pub(crate) fn new(
        plan: &Plan,
        gates: &HashMap<ConnectionName, Arc<Gate>>,
        stores: &Stores,
        clock: &Arc<dyn Clock>,
        moments: &broadcast::Sender<Moment>,
        (ingests, stop): (bool, CancellationToken),
    ) -> Self {
        let source = |plan: &Arc<crate::plan::ConnectionPlan>| {
            let webhook = plan.connection.webhook()?;
            let source =
                Source { webhook, topic: Topic::of_source(&plan.name), gate: gates[&plan.name].clone() };
            Some((plan.name.as_str().to_owned(), source))
        };
        Self {
            sources: plan.connections.iter().filter_map(source).collect(),
            topics: plan.topics.iter().map(|topic| (topic.as_str().to_owned(), topic.clone())).collect(),
            outbox: stores.outbox.clone(),
            clock: clock.clone(),
            moments: moments.clone(),
            accepted: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            failure: Mutex::new(None),
            told_full: AtomicBool::new(false),
            ingests,
            stop,
        }
    }

    pub(crate) fn check_source(&self, connection: &str) -> Result<(), IntakeError> {
        self.source(connection).map(drop)
    }

    pub(crate) fn check_topic(&self, topic: &str) -> Result<(), IntakeError> {
        self.topic(topic).map(drop)
    }

    /// Takes a vendor's webhook: verify, read, commit, answer.
    pub(crate) async fn accept(&self, connection: &str, request: Inbound) -> Result<Answer, IntakeError> {
        let source = self.source(connection)?;
        let events = match source.webhook.handle(&request, self.clock.now()) {
            Inbox::Accept(events) => events,
            Inbox::Reply { status, content_type, body } => {
                return Ok(Answer::Reply { status, content_type, body });
            }
            Inbox::Refuse(refusal) => return Err(IntakeError::Refused(refusal)),
        };
        source.gate.saw_event();
        let (mut new, mut duplicates) = (0, 0);
        for result in self.append(&source.topic, events).await {
            match result.map_err(IntakeError::NotStored)? {
                Published::New(_) => new += 1,
                Published::Duplicate => duplicates += 1,
            }
        }
        Ok(Answer::Taken { new, duplicates })
    }

    /// Takes events for a topic: commit, answer for each one.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        events: Vec<Event>,
    ) -> Result<Vec<Result<Published, PublishError>>, IntakeError> {
        let topic = self.topic(topic)?;
        Ok(self.append(topic, events).await)
    }

    fn source(&self, connection: &str) -> Result<&Source, IntakeError> {
        let source = self.sources.get(connection);
        let source = source.ok_or_else(|| unknown("connection", connection, &self.sources))?;
        self.check_open().map(|()| source)
    }

    fn topic(&self, topic: &str) -> Result<&Topic, IntakeError> {
        let topic = self.topics.get(topic).ok_or_else(|| unknown("topic", topic, &self.topics))?;
        self.check_open().map(|()| topic)
    }

    fn check_open(&self) -> Result<(), IntakeError> {
        if !self.ingests {
            return Err(IntakeError::NotHere);
        }
        if self.stop.is_cancelled() { Err(IntakeError::Stopping) } else { Ok(()) }
    }

    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let watched = self.moments.receiver_count() > 0;
        let names: Vec<_> = if watched { events.iter().map(names_of).collect() } else { Vec::new() };
        let count = events.len();
        // Who is told that it is not known sends the events again, with the same ids.
        let results = timeout(APPEND_MAX, self.outbox.append(topic, events)).await;
        let results = results.unwrap_or_else(|_| vec![Err(PublishError::Unknown); count]);
        for result in &results {
            self.note(result);
        }
        for ((event, kind, key), result) in names.into_iter().zip(&results) {
            if let Ok(published) = result {
                let duplicate = *published == Published::Duplicate;
                let moment = Moment::Accepted { topic: topic.clone(), event, kind, key, duplicate };
                // Nobody listening any more is no error.
                let _ = self.moments.send(moment);
            }
        }
        results
    }

    fn note(&self, result: &Result<Published, PublishError>) {
        match result {
            Ok(published) => {
                let counter =
                    if *published == Published::Duplicate { &self.duplicates } else { &self.accepted };
                counter.fetch_add(1, Ordering::Relaxed);
                let was_full = self.told_full.swap(false, Ordering::Relaxed);
                if self.lock().take().is_some() || was_full {
                    tracing::info!("events are stored again");
                }
            }
            Err(error @ (PublishError::Unavailable(_) | PublishError::Unknown)) => {
                let mut failure = self.lock();
                if failure.is_none() {
                    tracing::error!(
                        error = chain(error),
                        "events are refused with 503 until they can be stored again"
                    );
                }
                *failure = Some((format!("intake is stopped: {error}"), Instant::now()));
            }
            Err(PublishError::Busy) => self.note_full(),
            Err(PublishError::UnknownTopic(_) | PublishError::TooLarge { .. }) => {}
        }
    }

    /// An outbox that is full says so until it has room; one that is merely busy has room in a moment.
    fn note_full(&self) {
        if let Some(why) = self.outbox.refusal()
            && !self.told_full.swap(true, Ordering::Relaxed)
        {
            tracing::error!(why, "events are refused with 503 until there is room again");
        }
    }

    /// Why events are refused at this moment, for people.
    pub(crate) fn problem(&self) -> Option<String> {
        let refusal = self.outbox.refusal().map(|why| format!("intake is stopped: {why}"));
        let failure = self.lock();
        // If nobody sends anything, nothing shows that it is over.
        let counts = |since: &Instant| refusal.is_some() || since.elapsed() < FAILURE_COUNTS;
        let failure = failure.as_ref().filter(|(_, since)| counts(since)).map(|(why, _)| why.clone());
        failure.or(refusal)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.failure.lock().expect("no holder of this lock panics")
    }
}

fn names_of(event: &Event) -> (String, String, Option<String>) {
    (event.id.clone(), event.kind.clone(), event.key.clone())
}

fn unknown<T>(what: &'static str, name: &str, known: &HashMap<String, T>) -> IntakeError {
    let mut known: Vec<_> = known.keys().cloned().collect();
    known.sort_unstable();
    IntakeError::Unknown { what, name: name.to_owned(), known }
}
