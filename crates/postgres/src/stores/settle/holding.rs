//! What a batch does to held rows.
//!
//! Rows are removed first, then kept again, then added: each with one statement, which also counts them (`held_counts`). What the order of the settlements changes is
//! worked out from where the removed rows stood: a delivery that is held again before its row goes was there already, one that is
//! held after it went is new.

use std::collections::{HashMap, hash_map::Entry};

use crossdock_core::{HeldId, NewHeld, Placed, ReplayTicket, Settled, Settlement, StoreError};
use sqlx::{PgConnection, postgres::PgRow};

use crate::{
    Failure,
    stores::{
        places::{Place, partition_of},
        rows::{At, Columns, at, attempts_json, attributes_json},
    },
};

use super::{Batch, Delivery, delivery};

/// Does it, and answers for each settlement.
pub(super) async fn settle(connection: &mut PgConnection, batch: &Batch) -> Result<Vec<Settled>, Failure> {
    let gone = remove(connection, batch).await?;
    again(connection, batch).await?;
    let mut plan = Plan::default();
    for (nth, settlement) in batch.settlements.iter().enumerate() {
        if let Settlement::Hold(rows) = settlement {
            rows.iter().for_each(|row| plan.hold(batch.delivery(row), row, nth, &gone));
        }
    }
    let added = add(connection, &plan.rows).await?;
    let mut placed = plan.wishes.into_iter().map(|wish| match wish {
        Wish::There(id) => Placed { id, new: false },
        Wish::Row { row, first } => Placed { id: added[row].id, new: first && added[row].new },
    });
    let answer = |settlement: &Settlement| match settlement {
        Settlement::Hold(rows) => Settled::Held(placed.by_ref().take(rows.len()).collect()),
        _ => Settled::Done,
    };
    Ok(batch.settlements.iter().map(answer).collect())
}

impl Batch {
    fn delivery(&self, row: &NewHeld) -> Delivery {
        let place = self.places[&(row.flow.clone(), partition_of(&row.position))];
        delivery(place, &row.position, &row.event)
    }
}

/// A row that was removed, and by which settlement.
struct Gone {
    id: HeldId,
    by: usize,
}

/// Removes what is delivered or dead, by the primary key.
async fn remove(connection: &mut PgConnection, batch: &Batch) -> Result<HashMap<Delivery, Gone>, Failure> {
    let mut by: HashMap<HeldId, usize> = HashMap::new();
    for (nth, settlement) in batch.settlements.iter().enumerate() {
        if let Settlement::Delivered { held: Some(id), .. } | Settlement::DeadLetter { held: Some(id), .. } =
            settlement
        {
            by.entry(*id).or_insert(nth);
        }
    }
    if by.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<HeldId> = by.keys().copied().collect();
    let rows = sqlx::query(
        "WITH gone AS (
             DELETE FROM crossdock.held WHERE id = ANY ($1) RETURNING id, place, log_offset, event_hash
         ), counted AS (
             INSERT INTO crossdock.held_counts (place, events) SELECT place, -count(*) FROM gone GROUP BY place
         )
         SELECT id, place, log_offset, event_hash FROM gone",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let gone = |row: &PgRow| {
        let id = row.at(0)?;
        Ok(((row.at(1)?, row.at(2)?, row.at(3)?), Gone { id, by: by[&id] }))
    };
    rows.iter().map(gone).collect()
}

/// Keeps heads until their next attempt, by the primary key. Of a row that is gone nothing is kept; of two words about a row the
/// later one counts.
async fn again(connection: &mut PgConnection, batch: &Batch) -> Result<(), Failure> {
    let mut rows = HashMap::new();
    for settlement in &batch.settlements {
        if let Settlement::Again { held, attempts, tried, first_tried_at, due } = settlement {
            rows.insert(*held, (attempts, i64::from(*tried), first_tried_at.map(at), at(*due)));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let (ids, rows): (Vec<HeldId>, Vec<_>) = rows.into_iter().unzip();
    sqlx::query(
        "UPDATE crossdock.held h SET attempts = n.attempts, tried = n.tried, first_tried_at = n.first_tried_at, due = n.due
         FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
              AS n (id, attempts, tried, first_tried_at, due)
         WHERE h.id = n.id",
    )
    .bind(ids)
    .bind(rows.iter().map(|(attempts, ..)| attempts_json(attempts)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, tried, ..)| *tried).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, _, first, _)| *first).collect::<Vec<Option<At>>>())
    .bind(rows.iter().map(|(.., due)| *due).collect::<Vec<At>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What becomes of a delivery that is to be held.
enum Wish {
    /// It was there, and a later settlement removes it.
    There(HeldId),
    /// It is one of the rows to add; the first wish for it.
    Row { row: usize, first: bool },
}

/// The rows to add, each once, and what each wish comes to.
#[derive(Default)]
struct Plan<'b> {
    rows: Vec<(Delivery, &'b NewHeld)>,
    known: HashMap<Delivery, usize>,
    wishes: Vec<Wish>,
}

impl<'b> Plan<'b> {
    fn hold(&mut self, delivery: Delivery, row: &'b NewHeld, nth: usize, gone: &HashMap<Delivery, Gone>) {
        let wish = match gone.get(&delivery) {
            Some(gone) if nth < gone.by => Wish::There(gone.id),
            _ => match self.known.entry(delivery) {
                Entry::Occupied(known) => Wish::Row { row: *known.get(), first: false },
                Entry::Vacant(new) => {
                    new.insert(self.rows.len());
                    self.rows.push((delivery, row));
                    Wish::Row { row: self.rows.len() - 1, first: true }
                }
            },
        };
        self.wishes.push(wish);
    }
}

/// Adds rows in order; those that are there already stay as they are (`held_delivery`). Ids come from a sequence after the rows
/// are sorted, so they ascend in that order.
async fn add(connection: &mut PgConnection, rows: &[(Delivery, &NewHeld)]) -> Result<Vec<Placed>, Failure> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let added = insert(connection, rows).await?;
    let mut placed = HashMap::with_capacity(rows.len());
    for row in &added {
        placed.insert((row.at(0)?, row.at(1)?, row.at(2)?), Placed { id: row.at(3)?, new: true });
    }
    if placed.len() < rows.len() {
        let there = rows.iter().map(|(delivery, _)| *delivery);
        let there = there.filter(|delivery| !placed.contains_key(delivery)).collect();
        placed.extend(find(connection, there).await?);
    }
    // A row that was there and is gone by now, since another transaction removed it in between: all of it is tried again.
    let found = |(delivery, _): &(Delivery, _)| Ok(*placed.get(delivery).ok_or(sqlx::Error::RowNotFound)?);
    rows.iter().map(found).collect()
}

async fn insert(
    connection: &mut PgConnection,
    rows: &[(Delivery, &NewHeld)],
) -> Result<Vec<PgRow>, sqlx::Error> {
    let ticket = |of: fn(&ReplayTicket) -> &str| {
        let ticket = |(_, row): &(Delivery, &'_ NewHeld)| {
            row.replay.as_ref().map(|ticket| of(ticket).as_bytes().to_vec())
        };
        rows.iter().map(ticket).collect::<Vec<_>>()
    };
    sqlx::query(
        "WITH added AS (
             INSERT INTO crossdock.held (place, log_offset, key_hash, event_hash, due, first_tried_at, item, tried, key, replay,
                                         letter, attempts, event, data)
             SELECT place, log_offset, key_hash, event_hash, due, first_tried_at, item, tried, key, replay, letter, attempts,
                    event, data
             FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],
                         $7::bigint[], $8::bigint[], $9::bytea[], $10::bytea[], $11::bytea[], $12::bytea[], $13::bytea[],
                         $14::bytea[])
                  WITH ORDINALITY AS n (place, log_offset, key_hash, event_hash, due, first_tried_at, item, tried, key, replay,
                                        letter, attempts, event, data, nth)
             ORDER BY nth
             ON CONFLICT (place, log_offset, event_hash) DO NOTHING RETURNING place, log_offset, event_hash, id
         ), counted AS (
             INSERT INTO crossdock.held_counts (place, events) SELECT place, count(*) FROM added GROUP BY place
         )
         SELECT place, log_offset, event_hash, id FROM added",
    )
    .bind(rows.iter().map(|((place, ..), _)| *place).collect::<Vec<_>>())
    .bind(rows.iter().map(|((_, offset, _), _)| *offset).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.key_hash as i64).collect::<Vec<_>>())
    .bind(rows.iter().map(|((.., event), _)| *event).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.due.map(at)).collect::<Vec<Option<At>>>())
    .bind(rows.iter().map(|(_, row)| row.first_tried_at.map(at)).collect::<Vec<Option<At>>>())
    .bind(rows.iter().map(|(_, row)| row.replay.as_ref().map(|ticket| ticket.item as i64)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| i64::from(row.tried)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.key.as_deref().map(str::as_bytes)).collect::<Vec<_>>())
    .bind(ticket(|ticket| &ticket.replay))
    .bind(ticket(|ticket| &ticket.letter))
    .bind(rows.iter().map(|(_, row)| attempts_json(&row.attempts)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| attributes_json(&row.event)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.event.data.as_ref()).collect::<Vec<&[u8]>>())
    .fetch_all(connection)
    .await
}

/// Rows that are there, by `held_delivery`.
async fn find(
    connection: &mut PgConnection,
    deliveries: Vec<Delivery>,
) -> Result<HashMap<Delivery, Placed>, Failure> {
    let (places, offsets, events): (Vec<Place>, Vec<i64>, Vec<i64>) = deliveries.into_iter().collect();
    let rows = sqlx::query(
        "SELECT h.place, h.log_offset, h.event_hash, h.id
         FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS n (place, log_offset, event_hash)
         JOIN crossdock.held h USING (place, log_offset, event_hash)",
    )
    .bind(places)
    .bind(offsets)
    .bind(events)
    .fetch_all(connection)
    .await?;
    let placed =
        |row: &PgRow| Ok(((row.at(0)?, row.at(1)?, row.at(2)?), Placed { id: row.at(3)?, new: false }));
    Ok(rows.iter().map(placed).collect::<Result<_, StoreError>>()?)
}
