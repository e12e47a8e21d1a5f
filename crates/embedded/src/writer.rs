//! The one writer: everything that is queued goes into one commit.
//!
//! While a commit reaches the disk the next ones gather, so many callers share one flush. A task that fails is undone by
//! itself and the others stay; if the disk fails, everybody is told so and the next commit tries again.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossdock_core::{Clock, StoreError, failpoint};
use futures::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    append::{Append, Staged},
    catalog::SharedCatalog,
    errors::{self, Kind},
    groups::{self, Unwritten},
    log::{self, TopicLog},
    options::Options,
    place::{Place, nanoseconds},
    schema,
    seen::{self, Merged, Recent, Runs},
};

/// The longest that finished deliveries wait to be written.
const PROGRESS_WITHIN: Duration = Duration::from_millis(5);
/// Requests and bytes in one commit: enough to share a flush, little enough that nobody waits long.
const REQUESTS_MAX: usize = 2048;
const BYTES_MAX: usize = 4 << 20;
/// The log of SQLite is emptied by the writer itself when it has grown to this size and the background has not managed.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// How often the size of that log is looked at.
const COMMITS_A_LOOK: u32 = 64;
/// The longest that a write may take before its callers are told that the disk does not answer.
const WRITE_WITHIN: Duration = Duration::from_secs(60);

/// A change that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite refused.
    Sql(sqlx::Error),
    /// The port's own refusal: nothing is wrong with the file.
    Refused(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// A change that somebody waits for.
pub(crate) trait Task: Send {
    /// Makes the change inside the transaction.
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Result<(), Failure>>;
    /// Answers, after the commit or instead of it.
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
    /// What it does, for errors.
    fn doing(&self) -> &'static str;
}

/// What the writer is asked for.
pub(crate) enum Request {
    Append(Append),
    Task(Box<dyn Task>),
    /// Move the ids that are in memory to a run, so that the log may be trimmed.
    Merge(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// What waits to be written.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) events: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
}

impl Load {
    /// Takes room for an append, or none if there is not enough.
    pub(crate) fn take(&self, events: usize, bytes: usize, options: &Options) -> bool {
        // A single append may be larger than the queue; it is then alone in it.
        let fits = |now: usize, more: usize, max: usize| now == 0 || now + more <= max;
        let waiting = (self.events.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        if !fits(waiting.0, events, options.queue_events_max)
            || !fits(waiting.1, bytes, options.queue_bytes_max)
        {
            return false;
        }
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Gives the room back.
    pub(crate) fn release(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Owns the connection that writes.
pub(crate) struct Writer {
    pub(crate) file: PathBuf,
    pub(crate) options: Arc<Options>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) catalog: SharedCatalog,
    pub(crate) topics: Vec<Arc<TopicLog>>,
    pub(crate) unwritten: Arc<Unwritten>,
    pub(crate) recent: Arc<Recent>,
    pub(crate) runs: Runs,
    pub(crate) load: Arc<Load>,
    /// None after a failure whose outcome is not known: the next commit begins by opening it again.
    pub(crate) connection: Option<SqliteConnection>,
}

/// One group commit.
#[derive(Default)]
struct Commit {
    staged: Staged,
    tasks: Vec<(Box<dyn Task>, Result<(), StoreError>)>,
    merges: Vec<oneshot::Sender<()>>,
    merged: Option<Merged>,
    close: Option<oneshot::Sender<()>>,
}

impl Writer {
    /// Writes until it is told to close or nobody can ask any more.
    pub(crate) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let (mut progress_at, mut commits) = (Instant::now(), 0u32);
        loop {
            let mut batch = Vec::new();
            let due = !self.unwritten.is_empty();
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => batch.push(request),
                    None => break,
                },
                () = tokio::time::sleep_until(progress_at + PROGRESS_WITHIN), if due => {}
                () = self.unwritten.added(), if !due => continue,
                () = tokio::time::sleep(Duration::from_millis(1)), if self.runs.has_work() => {
                    self.housekeeping().await;
                    continue;
                }
            }
            let mut bytes = batch.first().map_or(0, Request::bytes);
            while batch.len() < REQUESTS_MAX
                && bytes < BYTES_MAX
                && let Ok(request) = requests.try_recv()
            {
                bytes += request.bytes();
                batch.push(request);
            }
            let with_progress = progress_at.elapsed() >= PROGRESS_WITHIN || batch.is_empty();
            if let Some(closed) = self.commit(batch, with_progress).await {
                self.close().await;
                // Whoever closed it may have stopped waiting.
                let _ = closed.send(());
                return;
            }
            if with_progress {
                progress_at = Instant::now();
            }
            commits += 1;
            if commits.is_multiple_of(COMMITS_A_LOOK) {
                self.keep_wal_small().await;
                self.housekeeping().await;
            }
        }
        self.close().await;
    }

    /// Commits requests; gives back who waits for the closing, if that was among them.
    async fn commit(&mut self, batch: Vec<Request>, with_progress: bool) -> Option<oneshot::Sender<()>> {
        let (events, bytes) = batch.iter().fold((0, 0), |(events, bytes), request| match request {
            Request::Append(append) => (events + append.events.len(), bytes + append.bytes),
            _ => (events, bytes),
        });
        let closing = batch.iter().any(|request| matches!(request, Request::Close(_)));
        let progress = if with_progress || closing { self.unwritten.take() } else { Vec::new() };
        let mut commit = Commit::default();
        let written = tokio::time::timeout(WRITE_WITHIN, self.write(&mut commit, batch, &progress)).await;
        let result = written.unwrap_or_else(|_| {
            self.connection = None;
            Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the disk does not answer",
            )))
        });
        self.load.release(events, bytes);
        if result.is_err() {
            progress.iter().for_each(|progress| progress.touch());
        }
        self.finish(commit, result)
    }

    fn finish(&mut self, commit: Commit, result: Result<(), sqlx::Error>) -> Option<oneshot::Sender<()>> {
        match result {
            Ok(()) => {
                // The run holds what was in memory before this commit, so that goes first.
                if let Some(merged) = commit.merged {
                    self.runs.merged(merged);
                    self.recent.lock().clear();
                }
                commit.staged.committed(&self.recent);
                for (task, result) in commit.tasks {
                    task.answer(result);
                }
            }
            Err(error) => {
                tracing::error!(error = %errors::text(&error), "the embedded store cannot be written; nothing new is taken");
                commit.staged.failed(&errors::publish_error(&error));
                for (task, result) in commit.tasks {
                    let doing = task.doing();
                    task.answer(result.and_then(|()| Err(errors::share(doing, &error))));
                }
            }
        }
        for merge in commit.merges {
            let _ = merge.send(());
        }
        commit.close
    }

    async fn write(
        &mut self,
        commit: &mut Commit,
        batch: Vec<Request>,
        progress: &[Arc<groups::Progress>],
    ) -> Result<(), sqlx::Error> {
        let opened = self.reopen().await;
        let mut result = match (&opened, self.connection.as_mut()) {
            (Ok(()), Some(connection)) => execute(connection, "BEGIN IMMEDIATE").await,
            _ => opened,
        };
        // Every request goes into the commit, also after an error, so that all of them are answered.
        for request in batch {
            match request {
                Request::Append(append) => {
                    result = result.and(self.append(commit, append).await);
                }
                Request::Task(task) if result.is_ok() => result = self.task(commit, task).await,
                Request::Task(task) => commit.tasks.push((task, Ok(()))),
                Request::Merge(done) => commit.merges.push(done),
                Request::Close(done) => commit.close = Some(done),
            }
        }
        let result = match result {
            Ok(()) => self.end(commit, progress).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.roll_back().await;
        }
        result
    }

    async fn append(&mut self, commit: &mut Commit, append: Append) -> Result<(), sqlx::Error> {
        match self.connection.as_mut() {
            Some(connection) => commit.staged.add(append, &self.recent, &self.runs, connection).await,
            None => {
                commit.staged.refuse(append);
                Ok(())
            }
        }
    }

    /// Runs a task; what it refuses is undone, and the others stay.
    async fn task(&mut self, commit: &mut Commit, mut task: Box<dyn Task>) -> Result<(), sqlx::Error> {
        let Some(connection) = self.connection.as_mut() else {
            commit.tasks.push((task, Ok(())));
            return Ok(());
        };
        let result = run_in_savepoint(connection, &mut task).await;
        let undone = match result {
            Ok(()) => {
                commit.tasks.push((task, Ok(())));
                return Ok(());
            }
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Sql(error)) if errors::kind(&error) == Kind::Environment => {
                commit.tasks.push((task, Ok(())));
                return Err(error);
            }
            Err(Failure::Sql(error)) => Err(errors::share(task.doing(), &error)),
        };
        commit.tasks.push((task, undone));
        // Names that the task had made are gone with it.
        self.catalog.load(connection).await
    }

    async fn end(
        &mut self,
        commit: &mut Commit,
        progress: &[Arc<groups::Progress>],
    ) -> Result<(), sqlx::Error> {
        let Some(connection) = self.connection.as_mut() else { return Ok(()) };
        let now = nanoseconds(self.clock.now());
        if !progress.is_empty() {
            let rows: Vec<_> = progress.iter().map(|progress| progress.row()).collect();
            failpoint("completed.before_commit");
            groups::write(connection, &rows).await?;
        }
        let appended = !commit.staged.is_empty();
        if appended {
            commit.staged.write(connection, now).await?;
            failpoint("append.before_commit");
        }
        let full = self.recent.lock().len() >= self.options.recent_ids_max;
        if full || !commit.merges.is_empty() {
            // What this commit appends stays in memory: it is not in `recent` yet.
            commit.merged = merge(connection, &self.runs, &self.recent, &self.topics, now).await?;
        }
        execute(connection, "COMMIT").await.inspect_err(|_| self.connection = None)?;
        if appended {
            failpoint("append.after_commit");
        }
        if !progress.is_empty() {
            failpoint("completed.after_commit");
        }
        Ok(())
    }

    async fn roll_back(&mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        let undone = async {
            execute(connection, "ROLLBACK").await?;
            self.catalog.load(connection).await
        };
        // SQLite rolls back by itself on some errors and then refuses to do it again: begin anew, from the file.
        if undone.await.is_err() {
            self.connection = None;
        }
    }

    /// After a failure whose outcome is not known: opens the file again and takes the truth from it.
    async fn reopen(&mut self) -> Result<(), sqlx::Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        let mut connection = schema::writer(&self.file, false, &self.options).await?;
        self.catalog.load(&mut connection).await?;
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            partition.reset(log::end_of(&mut connection, partition.part).await?);
        }
        self.runs = Runs::load(&mut connection).await?;
        load_recent(&mut connection, &self.recent).await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// One step of what nobody waits for.
    async fn housekeeping(&mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        let window = i64::try_from(self.options.dedupe_window.as_nanos()).unwrap_or(i64::MAX);
        let before = nanoseconds(self.clock.now()).saturating_sub(window);
        let step = async {
            execute(connection, "BEGIN IMMEDIATE").await?;
            self.runs.expire(connection, before, self.options.dedupe_ids_max).await?;
            self.runs.step(connection).await?;
            execute(connection, "COMMIT").await
        };
        if let Err(error) = step.await {
            tracing::warn!(error = %errors::text(&error), "failed to tidy the ids that were seen; trying again later");
            self.connection = None;
        }
    }

    async fn keep_wal_small(&mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        let bytes = std::fs::metadata(self.file.with_extension("db-wal")).map_or(0, |wal| wal.len());
        if bytes < WAL_BYTES_MAX {
            return;
        }
        if let Err(error) = execute(connection, "PRAGMA wal_checkpoint(PASSIVE)").await {
            tracing::warn!(error = %errors::text(&error), "failed to checkpoint the embedded store");
        }
    }

    async fn close(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let closed = async {
            execute(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
            connection.close().await
        };
        if let Err(error) = closed.await {
            tracing::warn!(error = %errors::text(&error), "the embedded store was not closed in order; nothing is lost");
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.bytes,
            _ => 0,
        }
    }
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}

async fn run_in_savepoint(
    connection: &mut SqliteConnection,
    task: &mut Box<dyn Task>,
) -> Result<(), Failure> {
    execute(connection, "SAVEPOINT task").await?;
    let result = task.run(connection).await;
    if let Err(Failure::Refused(_)) = &result {
        execute(connection, "ROLLBACK TO task").await?;
    } else if let Err(Failure::Sql(error)) = &result
        && errors::kind(error) != Kind::Environment
    {
        execute(connection, "ROLLBACK TO task").await?;
    }
    if !matches!(&result, Err(Failure::Sql(error)) if errors::kind(error) == Kind::Environment) {
        execute(connection, "RELEASE task").await?;
    }
    result
}

/// Moves the ids in memory to a run, and remembers how far the log is in runs.
async fn merge(
    connection: &mut SqliteConnection,
    runs: &Runs,
    recent: &Recent,
    topics: &[Arc<TopicLog>],
    now: i64,
) -> Result<Option<Merged>, sqlx::Error> {
    let ids = recent.lock().clone();
    if ids.is_empty() {
        return Ok(None);
    }
    let merged = runs.merge(connection, &ids, now).await?;
    for partition in topics.iter().flat_map(|topic| &topic.partitions) {
        sqlx::query("UPDATE partitions SET merged_to = ? WHERE id = ?")
            .bind(partition.end() as i64)
            .bind(partition.part)
            .execute(&mut *connection)
            .await?;
    }
    Ok(Some(merged))
}

/// Reads the ids that are in the log and in no run.
pub(crate) async fn load_recent(
    connection: &mut SqliteConnection,
    recent: &Recent,
) -> Result<(), sqlx::Error> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT l.place, l.ids FROM partitions p JOIN log l
         ON l.place >= (p.id << 46) + p.merged_to AND l.place < (p.id + 1) << 46",
    )
    .fetch_all(connection)
    .await?;
    let mut recent = recent.lock();
    recent.clear();
    for (place, ids) in rows {
        recent.extend(seen::ids(&ids).zip(place..).map(|(id, place)| (id, Place(place))));
    }
    Ok(())
}
