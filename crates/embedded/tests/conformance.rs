//! The embedded broker and stores keep the promises of their ports: as they are, and with so little memory that everything
//! is read from the file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Broker, Connections, DeadLetters, Event, EventLog, HeldEvents, Outbox, PageRequest, Replays, Settlements,
    Topic,
};
use crossdock_embedded::{Embedded, Options};
use crossdock_testkit::{HasBroker, HasEventLog, HasOutbox, HasStore, Setup, Subject};
use tempfile::TempDir;

/// A store in a folder of its own. `TIGHT` leaves next to no memory to events and ids.
struct Store<const TIGHT: bool> {
    store: Embedded,
    folder: TempDir,
}

type Roomy = Store<false>;
type Tight = Store<true>;

fn options(setup: &Setup, tight: bool) -> Options {
    let options = Options {
        partitions: setup.partitions,
        topics: setup.topics.clone(),
        groups: setup.groups.clone(),
        event_bytes_max: setup.event_bytes_max,
        queue_events_max: setup.queue_events_max,
        dedupe_window: setup.dedupe_window,
        retention: setup.retention,
        ..Options::default()
    };
    if tight { Options { tail_bytes_max: 4 << 10, recent_ids_max: 64, ..options } } else { options }
}

impl<const TIGHT: bool> Store<TIGHT> {
    async fn open(folder: TempDir, setup: &Setup) -> Self {
        let store = Embedded::open(folder.path(), options(setup, TIGHT), setup.clock.clone()).await;
        Self { store: store.expect("the store opens"), folder }
    }
}

#[async_trait]
impl<const TIGHT: bool> Subject for Store<TIGHT> {
    async fn create(setup: &Setup) -> Self {
        Self::open(tempfile::tempdir().expect("a folder for the test"), setup).await
    }

    async fn reopen(self, setup: &Setup) -> Self {
        self.store.close().await;
        Self::open(self.folder, setup).await
    }

    /// What `kill -9` would leave on the disk, in a new folder.
    async fn crash(self, setup: &Setup) -> Self {
        let image = tempfile::tempdir().expect("a folder for the test");
        copy(self.folder.path(), image.path()).expect("the files can be copied");
        self.store.close().await;
        Self::open(image, setup).await
    }
}

/// Copies the database and its log as they are while the store is open. Should the log begin anew in between, the two do
/// not belong to one moment and are copied again.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let files = |folder: &Path| ["crossdock.db", "crossdock.db-wal"].map(|name| folder.join(name));
    let ([database, log], [database_copy, log_copy]) = (files(from), files(to));
    loop {
        let before = beginning(&log)?;
        fs::copy(&database, &database_copy)?;
        fs::copy(&log, &log_copy)?;
        if beginning(&log)? == before && beginning(&log_copy)? == before {
            return Ok(());
        }
    }
}

/// The header of a write-ahead log: its salt changes when it begins anew.
fn beginning(log: &PathBuf) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(log)?;
    bytes.truncate(32);
    Ok(bytes)
}

impl<const TIGHT: bool> HasBroker for Store<TIGHT> {
    const KEEPS_GAPS: bool = true;
    const KNOWS_TOPICS: bool = true;
    const TELLS_POSITIONS: bool = true;
    const WAKE_MAX: Duration = Duration::from_millis(50);

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.store.clone())
    }
}

#[async_trait]
impl<const TIGHT: bool> HasOutbox for Store<TIGHT> {
    const KNOWS_TOPICS: bool = true;
    const REFUSES_WHEN_BUSY: bool = true;

    fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::new(self.store.clone())
    }

    async fn taken(&self, topic: &Topic) -> Vec<Event> {
        let (mut taken, mut cursor) = (Vec::new(), None);
        loop {
            let request = PageRequest { limit: 500, cursor };
            let page = EventLog::list(&self.store, Some(topic), request).await.expect("the log reads");
            for listed in page.items {
                let found = self.store.find(&listed.id).await.expect("the log reads");
                let whole = found.into_iter().find(|logged| logged.position == listed.position);
                taken.push(whole.expect("what is listed is found").event.as_ref().clone());
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        taken.reverse();
        taken
    }
}

impl<const TIGHT: bool> HasStore for Store<TIGHT> {
    const SHARES_RATES: bool = false;
    const OUTLIVES_ITS_BROKER: bool = false;

    fn settlements(&self) -> Arc<dyn Settlements> {
        Arc::new(self.store.clone())
    }
    fn held(&self) -> Arc<dyn HeldEvents> {
        Arc::new(self.store.clone())
    }
    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(self.store.clone())
    }
    fn replays(&self) -> Arc<dyn Replays> {
        Arc::new(self.store.clone())
    }
    fn connections(&self) -> Arc<dyn Connections> {
        Arc::new(self.store.clone())
    }
}

impl<const TIGHT: bool> HasEventLog for Store<TIGHT> {
    fn event_log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.store.clone())
    }
}

mod broker {
    crossdock_testkit::broker_suite!(super::Roomy);
}

mod broker_tight {
    crossdock_testkit::broker_suite!(super::Tight);
}

mod outbox {
    crossdock_testkit::outbox_suite!(super::Roomy);
}

mod outbox_tight {
    crossdock_testkit::outbox_suite!(super::Tight);
}

mod store {
    crossdock_testkit::store_suite!(super::Roomy);
}

mod event_log {
    crossdock_testkit::event_log_suite!(super::Roomy);
}

mod event_log_tight {
    crossdock_testkit::event_log_suite!(super::Tight);
}

mod random {
    crossdock_testkit::random_store_suite!(super::Roomy);
    crossdock_testkit::random_log_suite!(super::Roomy);
}

mod random_tight {
    crossdock_testkit::random_log_suite!(super::Tight);
}
