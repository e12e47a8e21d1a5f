//! What a batch does to the items of replays: worked out in memory from rows that are locked, then written.
//!
//! Whoever changes items or counts of a replay locks the replay's row first, so items need no locks of their own.

use std::collections::{BTreeSet, HashMap};

use crossdock_core::{LetterState, ReplayState, ReplayTicket, Settlement, StoreError};
use jiff::Timestamp;
use sqlx::{PgConnection, postgres::PgRow};

use crate::{
    Failure,
    stores::rows::{At, Columns, at},
};

use super::{Batch, letters::LetterNumber};

/// The states of an item, as they are stored.
pub(in crate::stores) mod state {
    pub(in crate::stores) const PENDING: i16 = 0;
    pub(in crate::stores) const HELD: i16 = 1;
    pub(in crate::stores) const DELIVERED: i16 = 2;
    pub(in crate::stores) const FAILED: i16 = 3;
    pub(in crate::stores) const SKIPPED: i16 = 4;
}

/// The number of a replay.
type ReplayNumber = i64;

struct Job {
    state: ReplayState,
    total: u64,
    delivered: u64,
    failed: u64,
    skipped: u64,
    finished_at: Option<Timestamp>,
    changed: bool,
}

struct Item {
    letter: LetterNumber,
    state: i16,
    changed: bool,
}

/// The replays that a batch is about, and their items in it.
#[derive(Default)]
pub(super) struct Items {
    numbers: HashMap<String, ReplayNumber>,
    jobs: HashMap<ReplayNumber, Job>,
    items: HashMap<(ReplayNumber, i64), Item>,
}

/// The tickets of a batch.
fn tickets(batch: &Batch) -> impl Iterator<Item = &ReplayTicket> {
    batch.settlements.iter().flat_map(|settlement| {
        let (rows, ticket) = match settlement {
            Settlement::Hold(rows) => (rows.as_slice(), None),
            Settlement::Delivered { replay, .. } | Settlement::DeadLetter { replay, .. } => {
                (&[][..], replay.as_ref())
            }
            Settlement::Again { .. } => (&[][..], None),
        };
        rows.iter().filter_map(|row| row.replay.as_ref()).chain(ticket)
    })
}

/// Locks the replays, in the order of their numbers, and reads the items.
pub(super) async fn load(connection: &mut PgConnection, batch: &Batch) -> Result<Items, Failure> {
    let ids: BTreeSet<&str> = tickets(batch).map(|ticket| ticket.replay.as_str()).collect();
    let mut items = Items::default();
    if ids.is_empty() {
        return Ok(items);
    }
    // By the unique index of the ids.
    let rows = sqlx::query(
        "SELECT number, id, state, total, delivered, failed, skipped, finished_at FROM crossdock.replays
         WHERE id = ANY ($1) ORDER BY number FOR NO KEY UPDATE",
    )
    .bind(ids.iter().map(|id| id.as_bytes()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        let (number, id) = (row.at(0)?, row.text(1)?);
        items.jobs.insert(number, job(row)?);
        items.numbers.insert(id, number);
    }
    let places = tickets(batch).filter_map(|ticket| items.place(ticket));
    let (replays, numbers): (Vec<_>, Vec<_>) = places.collect::<BTreeSet<_>>().into_iter().unzip();
    // By the primary key.
    let rows = sqlx::query(
        "SELECT i.replay, i.item, i.letter, i.state FROM unnest($1::bigint[], $2::bigint[]) AS n (replay, item)
         JOIN crossdock.replay_items i USING (replay, item)",
    )
    .bind(replays)
    .bind(numbers)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let item = Item { letter: row.at(2)?, state: row.at(3)?, changed: false };
        items.items.insert((row.at(0)?, row.at(1)?), item);
    }
    Ok(items)
}

fn job(row: &PgRow) -> Result<Job, StoreError> {
    let state = ReplayState::parse(row.at(2)?);
    Ok(Job {
        state: state.ok_or_else(|| StoreError::Damaged("the state of a replay is not known".to_owned()))?,
        total: row.number(3)?,
        delivered: row.number(4)?,
        failed: row.number(5)?,
        skipped: row.number(6)?,
        finished_at: row.moment_or_none(7)?,
        changed: false,
    })
}

impl Items {
    fn place(&self, ticket: &ReplayTicket) -> Option<(ReplayNumber, i64)> {
        Some((*self.numbers.get(&ticket.replay)?, i64::try_from(ticket.item).ok()?))
    }

    /// The letters of the items.
    pub(super) fn letters(&self) -> impl Iterator<Item = LetterNumber> {
        self.items.values().map(|item| item.letter)
    }

    /// The item waits as a held event.
    pub(super) fn hold(&mut self, ticket: &ReplayTicket) {
        self.move_on(ticket, &[state::PENDING], state::HELD);
    }

    /// The item was delivered. Gives its letter, and the state from which that becomes `replayed`; none if there is nothing
    /// more to say of the item. One that was skipped while somebody was sending it counts as delivered all the same.
    pub(super) fn deliver(
        &mut self,
        ticket: &ReplayTicket,
        now: Timestamp,
    ) -> Option<(LetterNumber, LetterState)> {
        if let Some((job, letter)) = self.move_on(ticket, &[state::PENDING, state::HELD], state::DELIVERED) {
            job.delivered += 1;
            job.end(now);
            return Some((letter, LetterState::Replaying));
        }
        let (job, letter) = self.move_on(ticket, &[state::SKIPPED], state::DELIVERED)?;
        job.delivered += 1;
        job.skipped = job.skipped.saturating_sub(1);
        job.changed = true;
        Some((letter, LetterState::Open))
    }

    /// The item failed again. False if it was settled before.
    pub(super) fn fail(&mut self, ticket: &ReplayTicket, now: Timestamp) -> bool {
        let Some((job, _)) = self.move_on(ticket, &[state::PENDING, state::HELD], state::FAILED) else {
            return false;
        };
        job.failed += 1;
        job.end(now);
        true
    }

    fn move_on(&mut self, ticket: &ReplayTicket, from: &[i16], to: i16) -> Option<(&mut Job, LetterNumber)> {
        let place = self.place(ticket)?;
        let item = self.items.get_mut(&place).filter(|item| from.contains(&item.state))?;
        (item.state, item.changed) = (to, true);
        Some((self.jobs.get_mut(&place.0)?, item.letter))
    }

    /// Writes what has changed.
    pub(super) async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let changed: Vec<_> = self.items.into_iter().filter(|(_, item)| item.changed).collect();
        if !changed.is_empty() {
            // By the primary key.
            sqlx::query(
                "UPDATE crossdock.replay_items i SET state = n.state
                 FROM unnest($1::bigint[], $2::bigint[], $3::smallint[]) AS n (replay, item, state)
                 WHERE i.replay = n.replay AND i.item = n.item",
            )
            .bind(changed.iter().map(|((replay, _), _)| *replay).collect::<Vec<_>>())
            .bind(changed.iter().map(|((_, item), _)| *item).collect::<Vec<_>>())
            .bind(changed.iter().map(|(_, item)| item.state).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
        }
        let jobs: Vec<_> = self.jobs.into_iter().filter(|(_, job)| job.changed).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        // By the primary key; the rows are locked.
        sqlx::query(
            "UPDATE crossdock.replays r SET state = n.state, delivered = n.delivered, failed = n.failed,
                 skipped = n.skipped, finished_at = n.finished_at
             FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[])
                  AS n (number, state, delivered, failed, skipped, finished_at)
             WHERE r.number = n.number",
        )
        .bind(jobs.iter().map(|(number, _)| *number).collect::<Vec<_>>())
        .bind(jobs.iter().map(|(_, job)| job.state.as_str()).collect::<Vec<_>>())
        .bind(jobs.iter().map(|(_, job)| job.delivered as i64).collect::<Vec<_>>())
        .bind(jobs.iter().map(|(_, job)| job.failed as i64).collect::<Vec<_>>())
        .bind(jobs.iter().map(|(_, job)| job.skipped as i64).collect::<Vec<_>>())
        .bind(jobs.iter().map(|(_, job)| job.finished_at.map(at)).collect::<Vec<Option<At>>>())
        .execute(connection)
        .await?;
        Ok(())
    }
}

impl Job {
    /// Ends with its last item.
    fn end(&mut self, now: Timestamp) {
        self.changed = true;
        if !self.state.is_final() && self.delivered + self.failed + self.skipped == self.total {
            self.state = if self.failed == 0 { ReplayState::Succeeded } else { ReplayState::Failed };
            self.finished_at = Some(now);
        }
    }
}
