//! Held events come back: heads shortly before they are due, then the rest of their key.

use std::{sync::Arc, time::Duration};

use crossdock_core::{HeldEvent, HeldEvents, HeldId, Partition, StoreError, chain, failpoint, span};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    decide::due_at,
    flow::Flow,
    lanes::{KeyHash, Lanes},
    limit::within,
    work::Work,
};

/// Held heads that come due within this time are in memory.
pub(crate) const HORIZON: Duration = Duration::from_secs(60);
/// How often the store is asked for heads that come due; well inside the horizon.
const SCAN_EVERY: Duration = Duration::from_secs(20);
/// Rows are loaded while fewer bytes of them are in memory.
const LOADED_BYTES: usize = 4 << 20;
/// How many due heads are read at a time.
const PAGE: usize = 512;
/// How many rows of one key are read at a time.
const KEY_PAGE: usize = 64;
/// A store that fails, or does not answer, is not asked again at once.
const AGAIN: Duration = Duration::from_secs(1);

/// Rows that were read: of a key, or due heads.
pub(crate) struct Loaded {
    key: Option<KeyHash>,
    rows: Result<Vec<HeldEvent>, StoreError>,
}

/// Reads held events of one partition in one flow.
pub(crate) struct Reload {
    held: Arc<dyn HeldEvents>,
    flow: Arc<Flow>,
    partition: Partition,
    reads: FuturesUnordered<BoxFuture<'static, Loaded>>,
    /// The last due head that was read.
    after: Option<(Timestamp, HeldId)>,
    scanning: bool,
    next_scan: Instant,
    loaded_bytes: usize,
}

impl Reload {
    pub(crate) fn new(held: Arc<dyn HeldEvents>, flow: Arc<Flow>, partition: Partition) -> Self {
        Self {
            held,
            flow,
            partition,
            reads: FuturesUnordered::new(),
            after: None,
            scanning: false,
            next_scan: Instant::now(),
            loaded_bytes: 0,
        }
    }

    /// When the store is to be asked for due heads; none while it is being asked, or while there is no room for more.
    pub(crate) fn next_scan(&self) -> Option<Instant> {
        (!self.scanning && self.has_room()).then_some(self.next_scan)
    }

    pub(crate) fn is_under_way(&self) -> bool {
        !self.reads.is_empty()
    }

    /// The next rows. Only while something is under way. Cancellation is safe.
    pub(crate) async fn next(&mut self) -> Loaded {
        match self.reads.next().await {
            Some(loaded) => loaded,
            None => std::future::pending().await,
        }
    }

    /// A row came into memory.
    pub(crate) fn came(&mut self, weight: usize) {
        self.loaded_bytes += weight;
    }

    /// A row left memory.
    pub(crate) fn gone(&mut self, weight: usize) {
        self.loaded_bytes = self.loaded_bytes.saturating_sub(weight);
    }

    /// Begins to read what the lanes want, as far as there is room.
    pub(crate) fn start(&mut self, lanes: &mut Lanes<Work>) {
        while self.has_room()
            && let Some((key, after)) = lanes.wants_load()
        {
            let (held, flow, partition) = (self.held.clone(), self.flow.clone(), self.partition.clone());
            self.reads.push(Box::pin(async move {
                let rows = held.behind(&flow.plan.name, &partition, key, after, KEY_PAGE);
                Loaded { key: Some(key), rows: answer(rows).await }
            }));
        }
        if self.next_scan().is_some_and(|next| next <= Instant::now()) {
            self.scanning = true;
            let (held, flow, partition) = (self.held.clone(), self.flow.clone(), self.partition.clone());
            let (until, after) = (due_at(self.flow.clock.now(), HORIZON), self.after);
            self.reads.push(Box::pin(async move {
                let rows = held.due(&flow.plan.name, &partition, until, after, PAGE);
                Loaded { key: None, rows: answer(rows).await }
            }));
        }
    }

    fn has_room(&self) -> bool {
        self.loaded_bytes < LOADED_BYTES
    }

    /// Hands rows to the lanes.
    pub(crate) fn loaded(&mut self, loaded: Loaded, lanes: &mut Lanes<Work>) {
        failpoint("held.loaded");
        match (loaded.key, loaded.rows) {
            (Some(key), Ok(rows)) => self.loaded_key(key, rows, lanes),
            (None, Ok(rows)) => self.loaded_heads(rows, lanes),
            (key, Err(error)) => {
                tracing::warn!(
                    flow = %self.flow.plan.name, partition = %self.partition, error = chain(&error),
                    "failed to read held events; trying again"
                );
                match key {
                    Some(key) => lanes.load_failed(key),
                    None => self.scanning = false,
                }
            }
        }
    }

    fn loaded_key(&mut self, key: KeyHash, rows: Vec<HeldEvent>, lanes: &mut Lanes<Work>) {
        let now = self.flow.clock.now();
        let first_due = rows.first().and_then(|row| row.held.due).filter(|due| *due > now);
        let works: Vec<_> = rows.into_iter().map(|row| (row.id, Work::from_held(row))).collect();
        works.iter().for_each(|(_, work)| self.came(work.weight()));
        lanes.loaded(key, works, first_due.map(|due| Instant::now() + span(now, due)));
    }

    fn loaded_heads(&mut self, rows: Vec<HeldEvent>, lanes: &mut Lanes<Work>) {
        self.scanning = false;
        let now = self.flow.clock.now();
        self.after = rows.last().and_then(|row| row.held.due.map(|due| (due, row.id)));
        if self.after.is_none() {
            self.next_scan = Instant::now() + SCAN_EVERY;
        }
        for row in rows {
            let (key, id, due) = (row.held.key_hash, row.id, row.held.due.unwrap_or(now));
            let work = Work::from_held(row);
            let weight = work.weight();
            if lanes.load_head(key, id, work, Instant::now() + span(now, due)) {
                self.came(weight);
            }
        }
    }
}

/// Waits for the store, and after a failure a little longer.
async fn answer(
    rows: impl Future<Output = Result<Vec<HeldEvent>, StoreError>>,
) -> Result<Vec<HeldEvent>, StoreError> {
    let rows = within("reading held events", rows).await;
    if rows.is_err() {
        tokio::time::sleep(AGAIN).await;
    }
    rows
}
