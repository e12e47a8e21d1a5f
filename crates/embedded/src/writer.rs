//! The one writer: everything that is queued goes into one commit.
//!
//! While a commit reaches the disk the next ones gather, so many callers share one flush. A task that fails is undone by
//! itself and the others stay; if the disk fails, everybody is told so and the next commit tries again.

use std::{collections::VecDeque, panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration};

use crossdock_core::{Clock, PublishError, StoreError, failpoint};
use futures::FutureExt;
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    append::{Append, Staged},
    catalog::SharedCatalog,
    errors::{self, Kind},
    groups::{self, Unwritten},
    lock::Lock,
    log::{self, TopicLog},
    options::Options,
    place::nanoseconds,
    recent,
    request::{Load, Request},
    room::Room,
    schema,
    seen::{Merged, Recent, Runs},
    task::{Task, run_in_savepoint, text_of},
};

/// The longest that finished deliveries wait to be written.
const PROGRESS_WITHIN: Duration = Duration::from_millis(5);
/// Requests and bytes in one commit: enough to share a flush, little enough that nobody waits long.
const REQUESTS_MAX: usize = 2048;
const BYTES_MAX: usize = 4 << 20;
/// The log of SQLite is emptied by the writer itself when it has grown to this size and the background has not managed.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// At this size it waits for readers, so that the log can begin anew.
const WAL_BYTES_WAITED_FOR: u64 = 4 * WAL_BYTES_MAX;
/// How often the size of that log is looked at.
const COMMITS_A_LOOK: u32 = 64;
/// How often there is a step of housekeeping while there is no idle moment for it. Ids come in at most as fast as this
/// clears them away: a full memory of them is a run, and a run costs some 18 steps.
const COMMITS_A_STEP: u32 = 8;
/// The longest that a write may take before its callers are told that the disk does not answer.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
const SILENT: &str = "the disk does not answer";
/// How soon after a failed commit it is tried again without being asked, and how often that is logged.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const TOLD_EVERY: Duration = Duration::from_secs(30);

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
    pub(crate) room: Arc<Room>,
    /// None while a transaction is under way, and after a failure whose outcome is not known: the next commit then begins
    /// by opening it again.
    pub(crate) connection: Option<SqliteConnection>,
    /// There while commits fail.
    pub(crate) failing: Option<Failing>,
    /// Why events were refused in the last commit.
    pub(crate) refused: Option<String>,
    /// Nobody else may open the folder before the last commit has ended.
    pub(crate) lock: Arc<Lock>,
}

/// Since commits fail.
pub(crate) struct Failing {
    tried_at: Instant,
    told_at: Instant,
}

/// One group commit. Whatever happens to the transaction, everyone in here is answered.
#[derive(Default)]
struct Commit {
    appends: VecDeque<Append>,
    staged: Staged,
    tasks: Vec<Waiting>,
    merges: Vec<oneshot::Sender<()>>,
    merged: Option<Merged>,
    close: Option<oneshot::Sender<()>>,
}

/// A task, and why it was undone.
struct Waiting {
    task: Box<dyn Task>,
    refused: Option<StoreError>,
}

/// A commit that failed.
struct Broken {
    error: sqlx::Error,
    /// It may have reached the file all the same.
    unknown: bool,
}

impl From<sqlx::Error> for Broken {
    fn from(error: sqlx::Error) -> Self {
        Self { error, unknown: false }
    }
}

/// Runs a writer to its end. Should it panic, everybody who asks from then on gets an error, and the log says so.
pub(crate) async fn run(writer: Writer, requests: mpsc::UnboundedReceiver<Request>) {
    let room = writer.room.clone();
    if let Err(panic) = AssertUnwindSafe(writer.run(requests)).catch_unwind().await {
        let why = text_of(panic.as_ref());
        tracing::error!(panic = why, "the writer of the embedded store has ended: restart the process");
        room.set_write(Some(errors::WRITER_ENDED.to_owned()));
    }
}

impl Writer {
    /// Writes until it is told to close or nobody can ask any more.
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let (mut progress_at, mut commits) = (Instant::now(), 0u32);
        let closed = loop {
            let mut batch = Vec::new();
            let failed_at = self.failing.as_ref().map(|failing| failing.tried_at);
            let due = !self.unwritten.is_empty() && failed_at.is_none();
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => batch.push(request),
                    None => break None,
                },
                () = tokio::time::sleep_until(progress_at + PROGRESS_WITHIN), if due => {}
                () = tokio::time::sleep_until(failed_at.unwrap_or(progress_at) + AGAIN_AFTER), if failed_at.is_some() => {}
                () = self.unwritten.added(), if !due && failed_at.is_none() => continue,
                () = tokio::time::sleep(Duration::from_millis(1)), if self.runs.has_work() && failed_at.is_none() => {
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
            if let Some(closed) = self.commit_all(batch, with_progress).await {
                break Some(closed);
            }
            if let Some(why) = self.refused.take()
                && let Some(closed) = self.refuse_waiting(&mut requests, why).await
            {
                break Some(closed);
            }
            if with_progress {
                progress_at = Instant::now();
            }
            commits = commits.wrapping_add(1);
            if commits.is_multiple_of(COMMITS_A_LOOK) {
                self.keep_wal_small().await;
            }
            if commits.is_multiple_of(COMMITS_A_LOOK)
                || commits.is_multiple_of(COMMITS_A_STEP) && self.runs.has_work()
            {
                self.housekeeping().await;
            }
        };
        // The last commit may have failed for the sake of others; what is finished needs no room.
        if !self.unwritten.is_empty() {
            self.commit(Vec::new(), true).await;
        }
        self.close().await;
        requests.close();
        while let Ok(request) = requests.try_recv() {
            self.refuse(request);
        }
        drop(self.lock);
        if let Some(closed) = closed {
            // Whoever closed it may have stopped waiting.
            let _ = closed.send(());
        }
    }

    /// Commits requests, together if all is well. While commits fail, what needs no room (progress), each task, and at last the
    /// appends are tried by themselves, so that what makes room does not fail with what takes it.
    async fn commit_all(&mut self, batch: Vec<Request>, with_progress: bool) -> Option<oneshot::Sender<()>> {
        if self.failing.is_none() {
            return self.commit(batch, with_progress).await;
        }
        self.commit(Vec::new(), true).await;
        let (appends, others): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|request| matches!(request, Request::Append(_)));
        let mut closed = None;
        for request in others {
            closed = self.commit(vec![request], false).await.or(closed);
        }
        self.commit(appends, false).await.or(closed)
    }

    /// Refuses the appends that wait already when others were refused: a later event of a key must not be taken when an earlier
    /// one was not, and whoever sent both has not been told yet.
    async fn refuse_waiting(
        &mut self,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        why: String,
    ) -> Option<oneshot::Sender<()>> {
        let (error, mut others) = (PublishError::Unavailable(why), Vec::new());
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Append(append) => {
                    self.load.release(append.events.len(), append.bytes);
                    append.refuse(&error);
                }
                other => others.push(other),
            }
        }
        if others.is_empty() { None } else { self.commit_all(others, false).await }
    }

    /// Commits requests; gives back who waits for the closing, if that was among them.
    async fn commit(&mut self, batch: Vec<Request>, with_progress: bool) -> Option<oneshot::Sender<()>> {
        let mut commit = Commit::of(batch);
        let (events, bytes) = commit.load();
        let with_progress = with_progress || commit.close.is_some();
        let progress = if with_progress { self.unwritten.take() } else { Vec::new() };
        let written = AssertUnwindSafe(timeout(WRITE_WITHIN, self.write(&mut commit, &progress)));
        let result = match written.catch_unwind().await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Broken { error: io_error(SILENT), unknown: true }),
            Err(panic) => {
                let why = format!("the writer panicked: {}", text_of(panic.as_ref()));
                Err(Broken { error: io_error(&why), unknown: true })
            }
        };
        self.load.release(events, bytes);
        if result.is_err() {
            progress.iter().for_each(|progress| progress.touch());
        }
        self.note(&result);
        self.finish(commit, result)
    }

    /// Says once that commits fail, from time to time that they still do, and once that they do no longer.
    fn note(&mut self, result: &Result<(), Broken>) {
        let now = Instant::now();
        match (result, &mut self.failing) {
            (Ok(()), None) => {}
            (Ok(()), failing) => {
                tracing::info!("the embedded store can be written again");
                *failing = None;
                self.room.set_write(None);
            }
            (Err(broken), failing) => {
                let why = errors::text(&broken.error);
                let told = failing.as_ref().filter(|failing| now - failing.told_at < TOLD_EVERY);
                let told_at = told.map_or(now, |failing| failing.told_at);
                if told.is_none() {
                    tracing::error!(
                        error = why,
                        "the embedded store cannot be written; nothing new is taken"
                    );
                }
                *failing = Some(Failing { tried_at: now, told_at });
                self.room.set_write(Some(why));
            }
        }
    }

    fn finish(&mut self, commit: Commit, result: Result<(), Broken>) -> Option<oneshot::Sender<()>> {
        match result {
            Ok(()) => {
                // The run holds what was in memory before this commit, so that goes first.
                if let Some(merged) = commit.merged {
                    self.runs.merged(merged);
                    self.recent.lock().clear();
                }
                commit.staged.committed(&self.recent);
                for Waiting { task, refused } in commit.tasks {
                    task.answer(refused.map_or(Ok(()), Err));
                }
            }
            Err(broken) => {
                let error = broken.publish_error();
                if !commit.staged.is_untouched() || !commit.appends.is_empty() {
                    self.refused = Some(errors::text(&broken.error));
                }
                commit.staged.failed(&error);
                commit.appends.into_iter().for_each(|append| append.refuse(&error));
                for Waiting { task, refused } in commit.tasks {
                    let error = refused.unwrap_or_else(|| broken.store_error(task.doing()));
                    task.answer(Err(error));
                }
            }
        }
        for merge in commit.merges {
            // Whether it happened is looked up by whoever asked.
            let _ = merge.send(());
        }
        commit.close
    }

    /// One transaction. The connection is put back only if its state is known.
    async fn write(&mut self, commit: &mut Commit, progress: &[Arc<groups::Progress>]) -> Result<(), Broken> {
        let mut connection = self.begin().await?;
        if let Err(error) = self.fill(&mut connection, commit, progress).await {
            // SQLite rolls back by itself on some errors and then refuses to do it again. After an error that should not be,
            // what is in memory may not fit the file. In both cases the next commit begins anew, from the file.
            let expected = errors::kind(&error) == Kind::Environment;
            if self.roll_back(&mut connection).await.is_ok() && expected {
                self.connection = Some(connection);
            }
            return Err(error.into());
        }
        match execute(&mut connection, "COMMIT").await {
            Ok(()) => self.connection = Some(connection),
            Err(error) => return Err(Broken { unknown: !errors::is_full(&error), error }),
        }
        if !commit.staged.is_empty() {
            failpoint("append.after_commit");
        }
        if !progress.is_empty() {
            failpoint("completed.after_commit");
        }
        Ok(())
    }

    /// Begins a transaction. After a failure whose outcome is not known it opens the file again and takes the truth from it:
    /// inside the transaction, when the commit that was lost sight of has ended one way or the other.
    async fn begin(&mut self) -> Result<SqliteConnection, sqlx::Error> {
        if let Some(mut connection) = self.connection.take() {
            execute(&mut connection, "BEGIN IMMEDIATE").await?;
            return Ok(connection);
        }
        let mut connection = schema::writer(&self.file, false, &self.options).await?;
        execute(&mut connection, "BEGIN IMMEDIATE").await?;
        self.catalog.load(&mut connection).await?;
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            partition.reset(log::end_of(&mut connection, partition.part).await?);
        }
        self.runs = Runs::load(&mut connection, self.options.recent_ids_max).await?;
        recent::load(&mut connection, &self.recent).await?;
        Ok(connection)
    }

    async fn roll_back(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        execute(connection, "ROLLBACK").await?;
        self.catalog.load(connection).await
    }

    async fn fill(
        &mut self,
        connection: &mut SqliteConnection,
        commit: &mut Commit,
        progress: &[Arc<groups::Progress>],
    ) -> Result<(), sqlx::Error> {
        if self.failing.is_some() {
            // A commit that changes nothing would tell nothing about the disk.
            schema::touch(connection).await?;
        }
        for waiting in &mut commit.tasks {
            waiting.refused = self.task(connection, &mut waiting.task).await?.err();
        }
        if !progress.is_empty() {
            let rows: Vec<_> = progress.iter().map(|progress| progress.row()).collect();
            failpoint("completed.before_commit");
            groups::write(connection, &rows).await?;
        }
        self.stage(connection, commit).await?;
        let now = nanoseconds(self.clock.now());
        // With new events only, for which room was found: what was accepted never has to wait for a run to fit.
        let full = self.recent.lock().len() >= self.options.recent_ids_max && !commit.staged.is_empty();
        if full || !commit.merges.is_empty() {
            // Before this commit's events are in the file: their ids are not in `recent` yet.
            commit.merged = recent::merge(connection, &self.runs, &self.recent, now).await?;
        }
        if !commit.staged.is_empty() {
            commit.staged.write(connection, now).await?;
            failpoint("append.before_commit");
        }
        Ok(())
    }

    /// Runs a task; what it refuses is undone, and the others stay. An error means that the transaction cannot go on.
    async fn task(
        &mut self,
        connection: &mut SqliteConnection,
        task: &mut Box<dyn Task>,
    ) -> Result<Result<(), StoreError>, sqlx::Error> {
        let result = run_in_savepoint(connection, task).await?;
        if result.is_err() {
            // Names that the task had made are gone with it.
            self.catalog.load(connection).await?;
        }
        Ok(result)
    }

    async fn stage(
        &mut self,
        connection: &mut SqliteConnection,
        commit: &mut Commit,
    ) -> Result<(), sqlx::Error> {
        if !commit.appends.is_empty() || self.room.is_file_full() {
            let bytes: usize = commit.appends.iter().map(|append| append.bytes).sum();
            self.room.look_at_file(connection, bytes + self.recent.run_bytes()).await?;
        }
        // A failed write says nothing about this one.
        let full = self.room.full();
        let refusal = full.clone().map(PublishError::Unavailable);
        while let Some(append) = commit.appends.pop_front() {
            match &refusal {
                Some(error) => {
                    self.refused.clone_from(&full);
                    append.refuse(error);
                }
                None => commit.staged.add(append, &self.recent, &self.runs, connection).await?,
            }
        }
        Ok(())
    }

    /// One step of what nobody waits for.
    async fn housekeeping(&mut self) {
        let Err(error) = timeout(WRITE_WITHIN, self.tidy()).await.unwrap_or_else(|_| Err(io_error(SILENT)))
        else {
            return;
        };
        let (why, now) = (errors::text(&error), Instant::now());
        tracing::warn!(error = why, "failed to tidy the ids that were seen; trying again later");
        self.failing = Some(Failing { tried_at: now, told_at: now });
        self.room.set_write(Some(why));
    }

    /// Forgets ids that are old or too many, and makes few runs of many.
    async fn tidy(&mut self) -> Result<(), sqlx::Error> {
        let window = i64::try_from(self.options.dedupe_window.as_nanos()).unwrap_or(i64::MAX);
        let before = nanoseconds(self.clock.now()).saturating_sub(window);
        let mut connection = self.begin().await?;
        self.runs.expire(&mut connection, before, self.options.dedupe_ids_max).await?;
        self.runs.step(&mut connection).await?;
        execute(&mut connection, "COMMIT").await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn keep_wal_small(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let bytes = std::fs::metadata(self.file.with_extension("db-wal")).map_or(0, |wal| wal.len());
        let sql = match bytes {
            WAL_BYTES_WAITED_FOR.. => "PRAGMA wal_checkpoint(RESTART)",
            WAL_BYTES_MAX.. => "PRAGMA wal_checkpoint(PASSIVE)",
            _ => {
                self.connection = Some(connection);
                return;
            }
        };
        match timeout(WRITE_WITHIN, execute(&mut connection, sql)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %errors::text(&error), "failed to checkpoint the embedded store");
            }
            // It is still at it: the next commit opens another connection.
            Err(_) => return,
        }
        self.connection = Some(connection);
    }

    async fn close(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let closed = timeout(WRITE_WITHIN, async {
            execute(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
            connection.close().await
        });
        if let Err(error) = closed.await.unwrap_or_else(|_| Err(io_error(SILENT))) {
            tracing::warn!(error = %errors::text(&error), "the embedded store was not closed in order; nothing is lost");
        }
    }

    /// Answers a request that came too late.
    fn refuse(&self, request: Request) {
        match request {
            Request::Append(append) => {
                self.load.release(append.events.len(), append.bytes);
                append.refuse(&PublishError::Unavailable(errors::CLOSED.to_owned()));
            }
            Request::Task(task) => task.answer(Err(errors::closed())),
            Request::Merge(done) | Request::Close(done) => drop(done.send(())),
        }
    }
}

impl Commit {
    fn of(batch: Vec<Request>) -> Self {
        let mut commit = Self::default();
        for request in batch {
            match request {
                Request::Append(append) => commit.appends.push_back(append),
                Request::Task(task) => commit.tasks.push(Waiting { task, refused: None }),
                Request::Merge(done) => commit.merges.push(done),
                Request::Close(done) => commit.close = Some(done),
            }
        }
        commit
    }

    /// Events and bytes that wait in it.
    fn load(&self) -> (usize, usize) {
        self.appends
            .iter()
            .fold((0, 0), |(events, bytes), append| (events + append.events.len(), bytes + append.bytes))
    }
}

impl Broken {
    fn publish_error(&self) -> PublishError {
        if self.unknown { PublishError::Unknown } else { errors::publish_error(&self.error) }
    }

    fn store_error(&self, doing: &'static str) -> StoreError {
        if self.unknown { errors::unknown(doing, &self.error) } else { errors::share(doing, &self.error) }
    }
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}

fn io_error(why: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(why.to_owned()))
}
