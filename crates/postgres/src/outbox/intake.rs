//! Taking events in: everything that came in a moment shares one commit.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{Event, Outbox, PublishError, Published, Topic};
use sqlx::Row;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::append::{self, Batch, Prepared};
use crate::{
    Postgres, PostgresOptions, errors,
    errors::Failure,
    pool::{self, Pools, Purpose},
};

/// Data of events that may wait to be committed, in bytes.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Events that share a commit, unless one call has more.
const BATCH_EVENTS_MAX: usize = 5_000;
/// And their bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How often the relay's lag is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// A failure of the writer counts for so long if nobody tries again, but the database answers.
const FAILURE_COUNTS: Duration = Duration::from_secs(5);

/// The writer of events that come in.
pub(crate) struct Intake {
    requests: mpsc::UnboundedSender<Request>,
    shared: Arc<Shared>,
    watch: JoinHandle<()>,
}

struct Shared {
    options: Arc<PostgresOptions>,
    pools: Arc<Pools>,
    closed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Events that wait to be committed, and their bytes.
    queued: (usize, usize),
    /// Events that wait for the relay.
    waiting: u64,
    failure: Option<(String, Instant)>,
}

/// A call that waits for its commit.
struct Request {
    events: Vec<Prepared>,
    reply: oneshot::Sender<Answers>,
}

type Answers = Vec<Result<Published, PublishError>>;

impl Intake {
    pub(crate) fn start(options: Arc<PostgresOptions>, pools: Arc<Pools>) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let shared =
            Arc::new(Shared { options, pools, closed: AtomicBool::new(false), state: Mutex::default() });
        // It ends when nobody can send any more, with everything answered.
        tokio::spawn(write(shared.clone(), received));
        let watch = tokio::spawn(watch(shared.clone()));
        Self { requests, shared, watch }
    }

    /// Takes no more, and answers what waits.
    pub(crate) async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        let limit = Instant::now() + self.shared.options.call_timeout;
        while self.shared.state().queued.0 > 0 && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.watch.abort();
    }

    /// Waits for the commit of these events. All of them are refused if they find no room.
    async fn append(&self, events: Vec<Prepared>) -> Answers {
        let count = events.len();
        if count == 0 {
            return Vec::new();
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return vec![Err(PublishError::Unavailable("the store is closed".to_owned())); count];
        }
        if !self.shared.admit(&events) {
            return vec![Err(PublishError::Busy); count];
        }
        let (reply, answered) = oneshot::channel();
        let sent = self.requests.send(Request { events, reply });
        match sent {
            Ok(()) => answered.await.unwrap_or_else(|_| vec![Err(PublishError::Unknown); count]),
            Err(_) => vec![Err(PublishError::Unavailable("the store is closed".to_owned())); count],
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Makes room for a call. One that is larger than the room is let in alone.
    fn admit(&self, events: &[Prepared]) -> bool {
        let bytes: usize = events.iter().map(Prepared::bytes).sum();
        let mut state = self.state();
        let (events_queued, bytes_queued) = state.queued;
        let fits = events_queued == 0
            || (events_queued + events.len() <= self.options.queue_events_max
                && bytes_queued + bytes <= QUEUE_BYTES_MAX);
        let admitted = fits && state.waiting < self.options.waiting_events_max;
        if admitted {
            state.queued = (events_queued + events.len(), bytes_queued + bytes);
        }
        admitted
    }

    fn leave(&self, events: &[Prepared]) {
        let bytes: usize = events.iter().map(Prepared::bytes).sum();
        let mut state = self.state();
        state.queued = (state.queued.0 - events.len(), state.queued.1 - bytes);
    }
}

#[async_trait]
impl Outbox for Postgres {
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let options = self.options();
        if options.topics.as_ref().is_some_and(|topics| !topics.contains(topic)) {
            return vec![Err(PublishError::UnknownTopic(topic.clone())); events.len()];
        }
        let mut answers: Vec<Option<_>> = Vec::with_capacity(events.len());
        let mut prepared = Vec::with_capacity(events.len());
        for event in events {
            match Prepared::new(topic, event, options.event_bytes_max) {
                Ok(event) => {
                    prepared.push(event);
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut taken = self.inner.intake.append(prepared).await.into_iter();
        let answer =
            |answer: Option<_>| answer.or_else(|| taken.next()).unwrap_or(Err(PublishError::Unknown));
        answers.into_iter().map(answer).collect()
    }

    fn refusal(&self) -> Option<String> {
        let state = self.inner.intake.shared.state();
        let waiting_max = self.options().waiting_events_max;
        if state.waiting >= waiting_max {
            let waiting = state.waiting;
            return Some(format!(
                "{waiting} events wait for the relay, and no more come in from {waiting_max} on"
            ));
        }
        state.failure.as_ref().map(|(why, _)| format!("the database takes no events: {why}"))
    }
}

/// Commits what waits, until nobody can send any more.
async fn write(shared: Arc<Shared>, mut received: mpsc::UnboundedReceiver<Request>) {
    while let Some(first) = received.recv().await {
        let mut requests = vec![first];
        let (mut events, mut bytes) = size(&requests[0]);
        while events < BATCH_EVENTS_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(next) = received.try_recv() else { break };
            let more = size(&next);
            (events, bytes) = (events + more.0, bytes + more.1);
            requests.push(next);
        }
        commit(&shared, requests).await;
    }
}

fn size(request: &Request) -> (usize, usize) {
    (request.events.len(), request.events.iter().map(Prepared::bytes).sum())
}

/// Commits calls together. If the database refuses a value, each is tried alone: one call's events are not another one's fault.
async fn commit(shared: &Arc<Shared>, requests: Vec<Request>) {
    let mut replies = Vec::with_capacity(requests.len());
    let mut events = Vec::new();
    for request in requests {
        replies.push((request.reply, request.events.len()));
        events.extend(request.events);
    }
    let batch = Arc::new(Batch::new(events));
    let result = written(shared, batch.clone()).await;
    shared.leave(batch.events());
    if let Err(Failure::Sql(error)) = &result
        && replies.len() > 1
        && errors::code(error).is_some_and(|code| code.starts_with("22"))
    {
        let mut from = 0;
        for (reply, count) in replies {
            let alone = Arc::new(batch.part(from..from + count));
            let result = written(shared, alone.clone()).await;
            // Nobody waits any more: the client went away.
            let _ = reply.send(answers(&alone, &result, 0..count));
            from += count;
        }
        return;
    }
    let mut from = 0;
    for (reply, count) in replies {
        let _ = reply.send(answers(&batch, &result, from..from + count));
        from += count;
    }
}

/// Writes a batch, and remembers whether it went well.
async fn written(shared: &Arc<Shared>, batch: Arc<Batch>) -> Result<append::Fresh, Failure> {
    let limit = shared.options.call_timeout;
    let result = async {
        let connection = shared.pools.of(Purpose::Intake).acquire().await?;
        pool::on(connection, limit, move |connection| Box::pin(append::append(connection, batch))).await
    }
    .await;
    shared.state().failure = match &result {
        Ok(_) => None,
        Err(failure) => Some((why(failure), Instant::now())),
    };
    result
}

fn why(failure: &Failure) -> String {
    match failure {
        Failure::Sql(error) => errors::text(error),
        Failure::Refused(error) => crossdock_core::chain(error),
    }
}

fn answers(batch: &Batch, result: &Result<append::Fresh, Failure>, range: std::ops::Range<usize>) -> Answers {
    match result {
        Ok(fresh) => range.map(|n| Ok(batch.published(n, fresh))).collect(),
        Err(Failure::Sql(error)) if errors::leaves_open(error) => {
            vec![Err(PublishError::Unknown); range.len()]
        }
        Err(failure) => vec![Err(PublishError::Unavailable(why(failure))); range.len()],
    }
}

/// Two rows: what is behind the position, and what is missing before it and may still come.
const WAITING: &str = "
    SELECT greatest(last_value - position, 0) + coalesce((SELECT sum(upper(gap) - lower(gap)) FROM unnest(gaps) gap), 0)::bigint
    FROM crossdock.outbox_seq_seq, crossdock.outbox_cursor";

/// Looks how far the relay is behind, and whether a database that failed answers again.
async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let waiting =
            shared.pools.call(Purpose::Intake, "looking how many events wait for the relay", |connection| {
                Box::pin(async move {
                    let row = sqlx::query(WAITING).fetch_one(connection).await?;
                    Ok(row.try_get::<i64, _>(0)?)
                })
            });
        let waiting = waiting.await;
        let mut state = shared.state();
        match waiting {
            Ok(waiting) => {
                state.waiting = waiting.unsigned_abs();
                state.failure.take_if(|(_, since)| since.elapsed() > FAILURE_COUNTS);
            }
            Err(error) => {
                tracing::debug!(error = crossdock_core::chain(&error), "the database does not answer");
                let why = || (crossdock_core::chain(&error), Instant::now());
                state.failure.get_or_insert_with(why);
            }
        }
    }
}
