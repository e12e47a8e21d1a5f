//! The office of the reader: it stays in it by writing, and its writes are refused once another one is in it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crossdock_core::{Epoch, PageMark, RefusedEvent, StoreError};
use futures::future::BoxFuture;
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::cursor::{self, Durability, Progress};
use crate::{
    PostgresOptions,
    errors::Failure,
    pool::{Pools, Purpose},
};

/// The cursor is written at most so often: each write leaves a dead version of its row, and as long as somebody holds an old
/// snapshot none is removed.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// What a reader and its background tasks share.
pub(crate) struct Office {
    pub(crate) options: Arc<PostgresOptions>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) epoch: Epoch,
    state: Mutex<State>,
    /// Rows below this number are gone: their retention is over.
    dropped_to: AtomicI64,
    /// Held while the cursor is written: writes go one after the other.
    writing: tokio::sync::Mutex<()>,
}

struct State {
    fenced: bool,
    /// The moment before the last write that was not refused.
    confirmed: Instant,
    written: Option<Instant>,
    /// Of the pages that were read and not advanced.
    pages: BTreeMap<PageMark, Progress>,
    /// Of the last page that was advanced, until it is written.
    pending: Option<Progress>,
    /// As it is in the database.
    last: Progress,
    /// Whether somebody waits to write it.
    scheduled: bool,
}

impl Office {
    pub(crate) fn new(
        options: Arc<PostgresOptions>,
        pools: Arc<Pools>,
        epoch: Epoch,
        claimed: Instant,
        progress: Progress,
    ) -> Self {
        let state = State {
            last: progress,
            fenced: false,
            confirmed: claimed,
            written: None,
            pages: BTreeMap::new(),
            pending: None,
            scheduled: false,
        };
        Self {
            options,
            pools,
            epoch,
            state: Mutex::new(state),
            dropped_to: AtomicI64::new(0),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Rows below this number are gone.
    pub(crate) fn dropped(&self, below: i64) {
        self.dropped_to.fetch_max(below, Ordering::Relaxed);
    }

    /// A row that was read, if it is still kept.
    pub(crate) fn anchor(&self, anchor: Option<(i64, Uuid)>) -> Option<(i64, Uuid)> {
        anchor.filter(|(seq, _)| *seq >= self.dropped_to.load(Ordering::Relaxed))
    }

    /// A page was read.
    pub(crate) fn read(&self, mark: PageMark, progress: Progress) {
        self.state().pages.insert(mark, progress);
    }

    /// Everything up to this page is done.
    pub(crate) async fn advance(
        self: &Arc<Self>,
        mark: PageMark,
        refused: Vec<RefusedEvent>,
    ) -> Result<(), StoreError> {
        self.in_office()?;
        let (moved, due) = {
            let mut state = self.state();
            let later = state.pages.split_off(&(mark + 1));
            let done = std::mem::replace(&mut state.pages, later);
            state.pending = done.into_values().next_back().or(state.pending.take());
            let moved = state.pending.as_ref().is_some_and(|pending| *pending != state.last);
            (moved, state.written.is_none_or(|written| written.elapsed() >= WRITE_EVERY))
        };
        if !refused.is_empty() || (moved && due) {
            return self.write(refused, Durability::Soon).await;
        }
        if !moved {
            return self.confirm().await;
        }
        self.write_soon();
        Ok(())
    }

    /// Another one may have taken the office if nothing was heard for long: asks.
    pub(crate) async fn confirm(&self) -> Result<(), StoreError> {
        self.in_office()?;
        let confirmed = self.state().confirmed;
        if confirmed.elapsed() < self.options.lease / 3 { Ok(()) } else { self.renew().await }
    }

    /// Stays in office.
    pub(crate) async fn renew(&self) -> Result<(), StoreError> {
        self.in_office()?;
        if self.state().pending.is_some() {
            return self.write(Vec::new(), Durability::Soon).await;
        }
        let (epoch, lease) = (self.epoch, self.options.lease);
        self.said("staying the reader of the outbox", move |connection| {
            Box::pin(async move { cursor::renew(connection, epoch, lease).await })
        })
        .await
    }

    /// Lets go, with everything that was advanced made durable.
    pub(crate) async fn release(&self) -> Result<(), StoreError> {
        self.in_office()?;
        self.write(Vec::new(), Durability::Now).await?;
        let epoch = self.epoch;
        let _one_at_a_time = self.writing.lock().await;
        let released = self.said("letting go of the outbox", move |connection| {
            Box::pin(async move { cursor::release(connection, epoch).await })
        });
        let released = released.await;
        self.state().fenced = true;
        released
    }

    /// Gives the office up: what is in the database is not what this reader knows.
    pub(crate) fn resign(&self) {
        self.state().fenced = true;
    }

    /// Writes what is advanced and not written; what is pending stays so if it fails.
    async fn write(&self, refused: Vec<RefusedEvent>, durability: Durability) -> Result<(), StoreError> {
        let _one_at_a_time = self.writing.lock().await;
        let pending = self.state().pending.clone();
        if pending.is_none() && refused.is_empty() {
            return Ok(());
        }
        let progress = pending.unwrap_or_else(|| self.state().last.clone());
        let office = (self.epoch, self.options.lease);
        let given = Progress { anchor: self.anchor(progress.anchor), ..progress.clone() };
        self.said("moving the cursor of the outbox", move |connection| {
            Box::pin(async move { cursor::store(connection, office, &given, &refused, durability).await })
        })
        .await?;
        let mut state = self.state();
        state.written = Some(Instant::now());
        if state.pending.as_ref() == Some(&progress) {
            state.pending = None;
        }
        state.last = progress;
        Ok(())
    }

    /// Writes what is pending when it is time, if nobody does it before.
    fn write_soon(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().scheduled, true) {
            return;
        }
        let office = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WRITE_EVERY).await;
            office.state().scheduled = false;
            if let Err(error) = office.write(Vec::new(), Durability::Soon).await {
                // Whoever advances or renews next is told.
                tracing::debug!(
                    error = crossdock_core::chain(&error),
                    "the cursor of the outbox was not moved"
                );
            }
        });
    }

    /// Says something to the cursor's row, and remembers the answer.
    async fn said<F>(&self, doing: &'static str, say: F) -> Result<(), StoreError>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<(), Failure>> + Send + 'static,
    {
        let before = Instant::now();
        let answer = self.pools.call(Purpose::Relay, doing, say).await;
        let mut state = self.state();
        match &answer {
            Ok(()) => state.confirmed = state.confirmed.max(before),
            Err(StoreError::Fenced(_)) => state.fenced = true,
            Err(_) => {}
        }
        answer
    }

    fn in_office(&self) -> Result<(), StoreError> {
        if self.state().fenced { Err(cursor::fenced()) } else { Ok(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
