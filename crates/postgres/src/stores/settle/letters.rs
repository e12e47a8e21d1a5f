//! What a batch does to dead letters: worked out in memory from rows that are locked, then written.

mod write;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crossdock_core::{Attempt, DeadLetter, LetterState, Settlement};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    Failure,
    stores::{
        letter,
        places::{Place, partition_of},
        rows::{self, Columns},
    },
};

use super::{
    Batch, Delivery, delivery,
    groups::{Group, Groups},
    items::Items,
};

/// The number of a letter.
pub(in crate::stores) type LetterNumber = i64;

/// A letter, as it is known in the course of a batch.
struct Slot {
    /// None until it is written for the first time.
    number: Option<LetterNumber>,
    delivery: Delivery,
    state: LetterState,
    group: Group,
    settled_at: Option<Timestamp>,
    /// By how much its count of replays grows.
    replays: u32,
    /// Every try; none where the batch says nothing of them.
    attempts: Option<Vec<Attempt>>,
    /// What it was made from, if it is not stored yet.
    origin: Option<Arc<DeadLetter>>,
    /// What it died of, if that is new.
    content: Option<Arc<DeadLetter>>,
    changed: Changed,
}

/// What of a letter that is stored is to be written.
#[derive(Default)]
struct Changed {
    state: bool,
    attempts: bool,
}

/// The letters that a batch is about.
#[derive(Default)]
pub(super) struct Letters {
    slots: Vec<Slot>,
    by_number: HashMap<LetterNumber, usize>,
    by_delivery: HashMap<Delivery, usize>,
    groups: Groups,
}

impl Batch {
    pub(super) fn place(&self, letter: &DeadLetter) -> Place {
        self.places[&(letter.flow.clone(), partition_of(&letter.position))]
    }

    fn buried(&self) -> impl Iterator<Item = Delivery> {
        self.settlements.iter().filter_map(|settlement| match settlement {
            Settlement::DeadLetter { letter, .. } => {
                Some(delivery(self.place(letter), &letter.position, &letter.event))
            }
            _ => None,
        })
    }
}

/// Locks and reads the letters that are there, in the order of their numbers: those of the items, and those of the deliveries
/// that died.
pub(super) async fn load(
    connection: &mut PgConnection,
    batch: &Batch,
    items: &Items,
) -> Result<Letters, Failure> {
    let buried: BTreeSet<Delivery> = batch.buried().collect();
    let numbers: Vec<LetterNumber> = items.letters().collect();
    let mut letters = Letters::default();
    if buried.is_empty() && numbers.is_empty() {
        return Ok(letters);
    }
    let (places, offsets, events): (Vec<Place>, Vec<i64>, Vec<i64>) = buried.iter().copied().collect();
    // By the primary key and by `letters_delivery`.
    let rows = sqlx::query(
        "WITH chosen AS MATERIALIZED (
             SELECT unnest($1::bigint[]) AS number UNION
             SELECT l.number FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS n (place, log_offset, event_hash)
             JOIN crossdock.letters l USING (place, log_offset, event_hash)
         )
         SELECT number, place, log_offset, event_hash, state, failure_group, settled_at FROM crossdock.letters
         WHERE number = ANY (ARRAY (SELECT number FROM chosen)) ORDER BY number FOR NO KEY UPDATE",
    )
    .bind(numbers)
    .bind(places)
    .bind(offsets)
    .bind(events)
    .fetch_all(&mut *connection)
    .await?;
    let mut again = Vec::new();
    for row in &rows {
        let (number, delivery) = (row.at(0)?, (row.at(1)?, row.at(2)?, row.at(3)?));
        if buried.contains(&delivery) {
            again.push(number);
        }
        letters.by_number.insert(number, letters.slots.len());
        letters.by_delivery.insert(delivery, letters.slots.len());
        letters.slots.push(Slot {
            number: Some(number),
            delivery,
            state: letter::state_of(row.at(4)?),
            group: Group::Number(row.at(5)?),
            settled_at: row.moment_or_none(6)?,
            replays: 0,
            attempts: None,
            origin: None,
            content: None,
            changed: Changed::default(),
        });
    }
    if !again.is_empty() {
        letters.load_attempts(connection, again).await?;
    }
    Ok(letters)
}

impl Letters {
    /// Of letters that die again: their attempts, by the primary key.
    async fn load_attempts(
        &mut self,
        connection: &mut PgConnection,
        numbers: Vec<LetterNumber>,
    ) -> Result<(), Failure> {
        let sql = "SELECT number, attempts FROM crossdock.letter_bodies WHERE number = ANY ($1)";
        for row in sqlx::query(sql).bind(numbers).fetch_all(connection).await? {
            let slot = self.by_number[&row.at::<LetterNumber, _>(0)?];
            self.slots[slot].attempts = Some(rows::attempts(row.at(1)?)?);
        }
        Ok(())
    }

    /// A replay delivered the letter, if that is in this state.
    pub(super) fn replayed(&mut self, number: LetterNumber, from: LetterState, now: Timestamp) {
        let Some(slot) = self.by_number.get(&number).map(|slot| &mut self.slots[*slot]) else { return };
        if slot.state != from {
            return;
        }
        self.groups.count(&slot.group, from, -1);
        self.groups.count(&slot.group, LetterState::Replayed, 1);
        slot.state = LetterState::Replayed;
        slot.settled_at = Some(now);
        slot.replays += 1;
        slot.changed.state = true;
    }

    /// A delivery died. The same one again adds the attempts that are new; if its replay failed, it is open again with what
    /// failed it now.
    pub(super) fn bury(&mut self, place: Place, letter: &Arc<DeadLetter>, failed: bool) {
        let delivery = delivery(place, &letter.position, &letter.event);
        let Some(slot) = self.by_delivery.get(&delivery).map(|slot| &mut self.slots[*slot]) else {
            return self.add(delivery, letter);
        };
        let attempts = slot.attempts.get_or_insert_default();
        for attempt in &letter.attempts {
            if !attempts.contains(attempt) {
                attempts.push(attempt.clone());
                slot.changed.attempts = true;
            }
        }
        if failed {
            self.groups.count(&slot.group, slot.state, -1);
            slot.group = self.groups.died(letter);
            slot.state = LetterState::Open;
            slot.settled_at = None;
            slot.replays += 1;
            slot.content = Some(letter.clone());
            slot.changed = Changed { state: true, attempts: true };
        }
    }

    fn add(&mut self, delivery: Delivery, letter: &Arc<DeadLetter>) {
        self.by_delivery.insert(delivery, self.slots.len());
        self.slots.push(Slot {
            number: None,
            delivery,
            state: LetterState::Open,
            group: self.groups.died(letter),
            settled_at: None,
            replays: 0,
            attempts: Some(letter.attempts.clone()),
            origin: Some(letter.clone()),
            content: None,
            changed: Changed::default(),
        });
    }

    /// Writes what is new and what has changed, and counts it in the groups.
    pub(super) async fn write(self, connection: &mut PgConnection) -> Result<(), Failure> {
        let numbers = self.groups.number(connection).await?;
        let number_of = |slot: &Slot| numbers.of(&slot.group);
        let (new, stored): (Vec<Slot>, Vec<Slot>) =
            self.slots.into_iter().partition(|slot| slot.number.is_none());
        write::insert(connection, &new, number_of).await?;
        write::update(connection, &stored, number_of).await?;
        Ok(self.groups.write(connection, &numbers).await?)
    }
}
