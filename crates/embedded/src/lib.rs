//! The embedded store and broker: everything in one SQLite file, no server.
//!
//! ```text
//! append ─┐                                   ┌─► log, held, letters, replays, positions   (SQLite)
//! settle ─┼─► queue ─► writer: one commit ────┤
//! finish ─┘            for all that wait      └─► tail in memory ─► subscriptions
//!                                                        └─ those that are behind read the log
//! ```
//!
//! **Durability**: every commit is flushed to the disk before anyone is answered (`synchronous=FULL`). **Order**: events of
//! one key stand in one partition, in the order in which they were committed. **Duplicates**: an event whose topic,
//! source and id were seen within the window is dropped. **Errors**: a full or failing disk refuses what is new and
//! loses nothing; it is tried again with the next request. One process at a time.

mod append;
mod audit;
mod background;
mod broker;
mod catalog;
mod connections;
mod cursor;
mod dead_letters;
mod errors;
mod event_log;
mod groups;
mod held;
mod inspect;
mod letters;
mod lock;
mod log;
mod open;
mod options;
mod owners;
mod pack;
mod place;
#[cfg(test)]
mod plans_test;
mod recent;
mod replays;
mod request;
mod room;
mod rows;
mod schema;
mod seen;
#[cfg(test)]
mod seen_test;
mod selection;
mod settle;
mod subscription;
mod task;
mod wal;
mod writer;
#[cfg(test)]
mod writer_test;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crossdock_core::{Clock, StoreError, Topic};
use futures::future::BoxFuture;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    catalog::{Catalog, SharedCatalog},
    groups::Groups,
    lock::Lock,
    log::TopicLog,
    owners::Owners,
    request::{Load, Request},
    room::Room,
    seen::{Recent, Runs},
    task::{Failure, Task},
    writer::Writer,
};
pub use crate::{open::OpenError, options::Options};

/// The embedded store and broker. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    file: PathBuf,
    options: Arc<Options>,
    clock: Arc<dyn Clock>,
    catalog: SharedCatalog,
    topics: HashMap<Topic, Arc<TopicLog>>,
    groups: Groups,
    owners: Arc<Owners>,
    recent: Arc<Recent>,
    readers: SqlitePool,
    requests: mpsc::UnboundedSender<Request>,
    load: Arc<Load>,
    room: Arc<Room>,
    /// True once it is closed.
    closed: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Arc<Lock>>>,
}

impl Embedded {
    /// Whether there is a store in a folder.
    pub fn exists(directory: &Path) -> bool {
        directory.join(errors::FILE).exists()
    }

    /// Opens the store in a folder, which is created if it is not there.
    pub async fn open(directory: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let lock = Arc::new(Lock::take(directory)?);
        let file = directory.join(errors::FILE);
        inspect::inspect(&file).await?;
        let failed = |doing| {
            let file = file.clone();
            move |error| OpenError::database(&file, doing, error)
        };
        let mut connection = schema::writer(&file, true, &options).await.map_err(failed("opening it"))?;
        schema::migrate(&mut connection, &file).await?;
        let catalog = Arc::new(Catalog::default());
        let (groups, recent) = (Groups::default(), Arc::new(Recent::default()));
        let loaded = load(&mut connection, &catalog, &groups, &recent, &options).await;
        let (topics, runs) = loaded.map_err(failed("reading it"))?;
        let readers = schema::readers(&file).await.map_err(failed("opening it for reading"))?;
        let checkpointer = schema::checkpointer(&file).await.map_err(failed("opening it for checkpoints"))?;

        let (requests, received) = mpsc::unbounded_channel();
        let (options, load) = (Arc::new(options), Arc::new(Load::default()));
        let room = Arc::new(Room::new(directory, options.file_bytes_max));
        let writer = Writer {
            file: file.clone(),
            options: options.clone(),
            clock: clock.clone(),
            catalog: catalog.clone(),
            topics: topics.clone(),
            unwritten: groups.unwritten.clone(),
            recent: recent.clone(),
            runs,
            load: load.clone(),
            room: room.clone(),
            connection: Some(connection),
            failing: None,
            refused: None,
            lock: lock.clone(),
        };
        let embedded = Self {
            inner: Arc::new(Inner {
                file,
                options,
                clock,
                catalog,
                topics: topics.into_iter().map(|topic| (topic.topic.clone(), topic)).collect(),
                groups,
                owners: Arc::new(Owners::new()),
                recent,
                readers,
                requests,
                load,
                room: room.clone(),
                closed: watch::Sender::new(false),
                tasks: Mutex::default(),
                lock: Mutex::new(Some(lock)),
            }),
        };
        let tasks = vec![
            tokio::spawn(writer::run(writer, received)),
            tokio::spawn(background::checkpoint(
                checkpointer,
                embedded.inner.file.clone(),
                room,
                embedded.inner.closed.subscribe(),
            )),
            tokio::spawn(background::retain(
                Arc::downgrade(&embedded.inner),
                embedded.inner.closed.subscribe(),
            )),
        ];
        embedded.inner.tasks.lock().expect("no holder of this lock panics").extend(tasks);
        Ok(embedded)
    }

    /// How many partitions a topic has; none if it takes no events.
    pub fn partitions(&self, topic: &Topic) -> Option<usize> {
        self.inner.topics.get(topic).map(|topic| topic.partitions.len())
    }

    /// Writes what is finished and closes the file. Everything that waits is answered first; whoever asks later is told
    /// that it is closed. Closing twice changes nothing.
    pub async fn close(&self) {
        let inner = &self.inner;
        if inner.closed.send_replace(true) {
            return;
        }
        let (done, closed) = oneshot::channel();
        if inner.requests.send(Request::Close(done)).is_ok() {
            // An error means that the writer has ended already.
            let _ = closed.await;
        }
        let tasks = std::mem::take(&mut *inner.tasks.lock().expect("no holder of this lock panics"));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(error = %error, "a task of the embedded store ended badly");
            }
        }
        inner.readers.close().await;
        drop(inner.lock.lock().expect("no holder of this lock panics").take());
    }
}

async fn load(
    connection: &mut SqliteConnection,
    catalog: &SharedCatalog,
    groups: &Groups,
    recent: &Recent,
    options: &Options,
) -> Result<(Vec<Arc<TopicLog>>, Runs), sqlx::Error> {
    use sqlx::Connection as _;

    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    catalog.load(&mut transaction).await?;
    let names = options.all_topics();
    let topics = log::open_topics(&mut transaction, catalog, &names, options.tail_bytes_max).await?;
    for (flow, read) in &options.groups {
        let read: Vec<_> = topics.iter().filter(|topic| read.contains(&topic.topic)).cloned().collect();
        let progress = groups.open(&mut transaction, catalog, flow, &read).await?;
        groups.add(flow, progress);
    }
    let runs = Runs::load(&mut transaction, options.recent_ids_max).await?;
    recent::load(&mut transaction, recent).await?;
    transaction.commit().await?;
    Ok((topics, runs))
}

impl Inner {
    /// Makes a change in the writer's next commit. `change` may refuse; then nothing of it is done.
    async fn write<T, F>(&self, doing: &'static str, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + 'static,
    {
        let (reply, answered) = oneshot::channel();
        let task = Change { doing, change: Some(change), value: None, reply };
        self.requests.send(Request::Task(Box::new(task))).map_err(|_| self.gone())?;
        answered.await.map_err(|_| self.gone())?
    }

    /// Why the writer does not answer.
    fn gone(&self) -> StoreError {
        if *self.closed.borrow() { errors::closed() } else { errors::writer_ended() }
    }
}

/// A change, and who waits for it.
struct Change<T, F> {
    doing: &'static str,
    change: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Task for Change<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Failure>> + Send,
{
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Result<(), Failure>> {
        let change = self.change.take();
        Box::pin(async move {
            if let Some(change) = change {
                self.value = Some(change(connection).await?);
            }
            Ok(())
        })
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        // Nobody waits any more; the change stays.
        let _ = reply.send(result.map(|()| value.expect("a change that was made has a value")));
    }

    fn doing(&self) -> &'static str {
        self.doing
    }
}
