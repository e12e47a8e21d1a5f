//! Consumer groups: how far each one has come in each partition.
//!
//! What is finished is marked in memory at once and written with the next commit, at the latest some milliseconds
//! later.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use crossdock_core::{Completed, FlowName, GroupLag, Offset, Settle};
use sqlx::SqliteConnection;
use tokio::sync::Notify;

use crate::{
    catalog::{Catalog, FlowNumber},
    log::{PartitionLog, TopicLog},
    place::Part,
    rows,
};

/// A group's progress in one partition.
pub(crate) struct Progress {
    flow: FlowNumber,
    pub(crate) log: Arc<PartitionLog>,
    completed: Mutex<Completed>,
    dirty: AtomicBool,
    unwritten: Arc<Unwritten>,
}

/// Progress that is not written yet.
#[derive(Default)]
pub(crate) struct Unwritten {
    list: Mutex<Vec<Arc<Progress>>>,
    added: Notify,
}

impl Unwritten {
    /// Takes what is to be written.
    pub(crate) fn take(&self) -> Vec<Arc<Progress>> {
        let taken = std::mem::take(&mut *self.list.lock().expect("no holder of this lock panics"));
        // What is finished from here on puts it on the list again.
        taken.iter().for_each(|progress| progress.dirty.store(false, Ordering::Release));
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.lock().expect("no holder of this lock panics").is_empty()
    }

    /// Waits until there is something to write. Cancellation is safe.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }
}

impl Progress {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Completed> {
        self.completed.lock().expect("no holder of this lock panics")
    }

    /// Puts it on the list of what is to be written, if it is not there.
    pub(crate) fn touch(self: &Arc<Self>) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.unwritten.list.lock().expect("no holder of this lock panics").push(self.clone());
            self.unwritten.added.notify_one();
        }
    }

    /// The row to write.
    pub(crate) fn row(&self) -> (FlowNumber, Part, Vec<u8>) {
        (self.flow, self.log.part, self.lock().encode())
    }

    fn lag(&self) -> GroupLag {
        let (completed, end) = (self.lock(), self.log.end());
        let finished: u64 = completed.ranges().map(|(start, end)| end - start).sum();
        let committed = completed.mark();
        let pending = end.saturating_sub(committed).saturating_sub(finished);
        GroupLag { partition: self.log.partition.clone(), committed, end, pending }
    }
}

/// A group.
pub(crate) struct Group {
    pub(crate) progress: Vec<Arc<Progress>>,
    /// Held by the member that gets the deliveries; others stand by.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Group {
    /// Whether it reads a partition.
    pub(crate) fn reads(&self, part: Part) -> bool {
        self.progress.iter().any(|progress| progress.log.part == part)
    }

    /// How far it is behind in each partition.
    pub(crate) fn lag(&self) -> Vec<GroupLag> {
        self.progress.iter().map(|progress| progress.lag()).collect()
    }
}

/// Takes the word of the engine.
pub(crate) struct Complete(pub(crate) Arc<Progress>);

impl Settle for Complete {
    fn complete(&self, offset: Offset) {
        self.0.lock().finish(offset);
        self.0.touch();
    }
}

/// Every group by its name.
#[derive(Default)]
pub(crate) struct Groups {
    groups: Mutex<HashMap<FlowName, Arc<Group>>>,
    pub(crate) unwritten: Arc<Unwritten>,
}

impl Groups {
    pub(crate) fn get(&self, name: &FlowName) -> Option<Arc<Group>> {
        self.lock().get(name).cloned()
    }

    /// Finds where a group stands in topics it does not read yet; where it has never been, it begins at the end. Only once
    /// that is committed may it be added.
    pub(crate) async fn open(
        &self,
        connection: &mut SqliteConnection,
        catalog: &Catalog,
        name: &FlowName,
        topics: &[Arc<TopicLog>],
    ) -> Result<Vec<Arc<Progress>>, sqlx::Error> {
        let flow = catalog.flow_or_new(connection, name).await?;
        let existing = self.get(name);
        let mut opened = Vec::new();
        for log in topics.iter().flat_map(|topic| &topic.partitions) {
            if existing.as_ref().is_some_and(|group| group.reads(log.part)) {
                continue;
            }
            let completed = Mutex::new(begin(connection, flow, log).await?);
            let (dirty, unwritten) = (AtomicBool::new(false), self.unwritten.clone());
            opened.push(Arc::new(Progress { flow, log: log.clone(), completed, dirty, unwritten }));
        }
        Ok(opened)
    }

    /// Adds what was opened. Where somebody else was faster, theirs stays.
    pub(crate) fn add(&self, name: &FlowName, opened: Vec<Arc<Progress>>) {
        let mut groups = self.lock();
        let existing = groups.get(name);
        let mut progress = existing.map(|group| group.progress.clone()).unwrap_or_default();
        let turn = existing.map(|group| group.turn.clone()).unwrap_or_default();
        let new = opened.into_iter().filter(|new| existing.is_none_or(|group| !group.reads(new.log.part)));
        progress.extend(new);
        groups.insert(name.clone(), Arc::new(Group { progress, turn }));
    }

    /// The lowest offset of a partition that some group is not finished with; none if no group reads it.
    pub(crate) fn lowest(&self, part: Part) -> Option<Offset> {
        let groups = self.lock();
        let marks =
            groups.values().flat_map(|group| &group.progress).filter(|progress| progress.log.part == part);
        marks.map(|progress| progress.lock().mark()).min()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FlowName, Arc<Group>>> {
        self.groups.lock().expect("no holder of this lock panics")
    }
}

/// Where a group stands in a partition; the first time, at its end.
async fn begin(
    connection: &mut SqliteConnection,
    flow: FlowNumber,
    log: &PartitionLog,
) -> Result<Completed, sqlx::Error> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT completed FROM positions WHERE flow = ? AND part = ?")
            .bind(flow)
            .bind(log.part)
            .fetch_optional(&mut *connection)
            .await?;
    if let Some(stored) = stored {
        let completed = Completed::decode(&stored)
            .ok_or_else(|| sqlx::Error::Decode("the progress of a group is not readable".into()))?;
        // What was trimmed meanwhile (the flow was not in the configuration) is gone.
        let trimmed: i64 = sqlx::query_scalar("SELECT trimmed_to FROM partitions WHERE id = ?")
            .bind(log.part)
            .fetch_one(connection)
            .await?;
        let mut completed = completed;
        completed.finish_range(0, trimmed as u64);
        return Ok(completed);
    }
    let completed = Completed::from(log.end());
    write(connection, &[(flow, log.part, completed.encode())]).await?;
    Ok(completed)
}

/// Writes progress.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    progress: &[(FlowNumber, Part, Vec<u8>)],
) -> Result<(), sqlx::Error> {
    let head = "INSERT INTO positions (flow, part, completed)";
    let tail = "ON CONFLICT DO UPDATE SET completed = excluded.completed";
    rows::insert(connection, (head, 3, tail), progress, |query, (flow, part, completed)| {
        query.bind(*flow).bind(*part).bind(completed.clone())
    })
    .await?;
    Ok(())
}
