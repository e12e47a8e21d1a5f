//! The held events port, and the statements that write held events.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use crossdock_core::{
    Adopted, Attempt, FlowName, HeldEvent, HeldEvents, HeldId, HeldKey, NewHeld, Partition, Placed, Position,
    ReplayTicket, StoreError,
};
use jiff::Timestamp;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use crate::{
    Embedded, Inner,
    catalog::{Catalog, FlowNumber},
    errors,
    owners::Owners,
    pack,
    place::{Part, Place, moment, nanoseconds},
    replays,
    rows::{self, Columns, PAGE_BYTES},
    task::Failure,
};

const COLUMNS: &str =
    "id, flow, place, key_hash, due, tried, first_tried_at, key, replay, item, letter, attempts, event";

#[async_trait]
impl HeldEvents for Embedded {
    async fn adopt(&self, flow: &FlowName, partition: &Partition) -> Result<Adopted, StoreError> {
        let now = nanoseconds(self.inner.clock.now());
        let (owners, catalog) = (self.inner.owners.clone(), self.inner.catalog.clone());
        let (flow, partition) = (flow.clone(), partition.clone());
        self.inner
            .write("taking over held events", move |connection| {
                Box::pin(take_over(connection, owners, catalog, (flow, partition), now))
            })
            .await
    }

    async fn due(
        &self,
        flow: &FlowName,
        partition: &Partition,
        until: Timestamp,
        after: Option<(Timestamp, HeldId)>,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        let Some((flow, part)) = self.inner.find(flow, partition) else { return Ok(Vec::new()) };
        let (after, id) = after.map_or((i64::MIN, i64::MIN), |(due, id)| (nanoseconds(due), id));
        let select = "WHERE flow = ? AND part = ? AND due IS NOT NULL AND due <= ? AND (due, id) > (?, ?)
                      ORDER BY due, id LIMIT ?";
        let values = [flow, part, nanoseconds(until), after, id, limit as i64];
        self.inner.held("reading due events", select, &values, PAGE_BYTES).await
    }

    async fn behind(
        &self,
        flow: &FlowName,
        partition: &Partition,
        key_hash: u64,
        after: HeldId,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        let Some((flow, part)) = self.inner.find(flow, partition) else { return Ok(Vec::new()) };
        let select = "WHERE flow = ? AND part = ? AND key_hash = ? AND id > ? ORDER BY id LIMIT ?";
        let values = [flow, part, key_hash as i64, after, limit as i64];
        self.inner.held("reading the events of a key", select, &values, PAGE_BYTES).await
    }

    async fn count(&self, flow: &FlowName) -> Result<(u64, Option<Timestamp>), StoreError> {
        let Some(flow) = self.inner.catalog.flow(flow) else { return Ok((0, None)) };
        let (count, due): (i64, Option<i64>) =
            sqlx::query_as("SELECT count(*), min(due) FROM held WHERE flow = ?")
                .bind(flow)
                .fetch_one(&self.inner.readers)
                .await
                .map_err(|error| errors::store_error("counting held events", error))?;
        Ok((count as u64, due.map(moment)))
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<HeldEvent>, StoreError> {
        let Some(place) = self.inner.catalog.place(position) else { return Ok(Vec::new()) };
        let doing = "reading the held deliveries of an event";
        // All of them: one a flow.
        self.inner.held(doing, "WHERE place = ?", &[place.0], usize::MAX).await
    }
}

impl Embedded {
    /// How many events each flow holds, for flows that hold any: also those that are no longer in the configuration, whose
    /// events wait until the flow is back.
    pub async fn held_by_flow(&self) -> Result<Vec<(FlowName, u64)>, StoreError> {
        let counts: Vec<(FlowNumber, i64)> = sqlx::query_as("SELECT flow, count(*) FROM held GROUP BY flow")
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|error| errors::store_error("counting held events", error))?;
        let named = |(flow, count)| Some((self.inner.catalog.flow_name(flow)?, count as u64));
        Ok(counts.into_iter().filter_map(named).collect())
    }
}

impl Inner {
    pub(crate) fn find(&self, flow: &FlowName, partition: &Partition) -> Option<(FlowNumber, Part)> {
        Some((self.catalog.flow(flow)?, self.catalog.part(&partition.topic, partition.number)?))
    }

    async fn held(
        &self,
        doing: &'static str,
        select: &str,
        values: &[i64],
        bytes_max: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM held {select}"));
        let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
        rows::page(
            query.fetch(&self.readers),
            bytes_max,
            |row| read(&self.catalog, row),
            |held| held.held.event.weight() + attempts_weight(&held.held.attempts),
        )
        .await
        .map_err(|failure| failure.into_store_error(doing))
    }
}

fn read(catalog: &Catalog, row: &SqliteRow) -> Result<HeldEvent, StoreError> {
    let id: i64 = row.at(0)?;
    let damaged = |why: &str| errors::damaged(&format!("the held event {id}: {why}"));
    let replay = match (
        row.at::<Option<String>, _>(8)?,
        row.at::<Option<i64>, _>(9)?,
        row.at::<Option<String>, _>(10)?,
    ) {
        (Some(replay), Some(item), Some(letter)) => Some(ReplayTicket { replay, item: item as u64, letter }),
        _ => None,
    };
    let held = NewHeld {
        flow: catalog.flow_name(row.at(1)?).ok_or_else(|| damaged("its flow is not known"))?,
        position: catalog.position(Place(row.at(2)?)).ok_or_else(|| damaged("its topic is not known"))?,
        key_hash: row.at::<i64, _>(3)? as u64,
        due: row.at::<Option<i64>, _>(4)?.map(moment),
        tried: row.at(5)?,
        first_tried_at: row.at::<Option<i64>, _>(6)?.map(moment),
        key: row.at(7)?,
        replay,
        attempts: serde_json::from_str(row.at(11)?).map_err(|_| damaged("its attempts are not readable"))?,
        event: pack::open_single(row.at(12)?).map_err(damaged)?,
    };
    Ok(HeldEvent { id, held })
}

/// The writer makes one change at a time: what the former owner settles comes before this, or not at all.
async fn take_over(
    connection: &mut SqliteConnection,
    owners: Arc<Owners>,
    catalog: Arc<Catalog>,
    (flow, partition): (FlowName, Partition),
    now: i64,
) -> Result<Adopted, Failure> {
    let owner = owners.next(flow, partition);
    let part = catalog.part(&owner.partition.topic, owner.partition.number);
    let keys = match (catalog.flow(&owner.flow), part) {
        (Some(flow), Some(part)) => adopt(connection, flow, part, now).await?,
        _ => Vec::new(),
    };
    Ok(Adopted { owner, keys })
}

async fn adopt(
    connection: &mut SqliteConnection,
    flow: FlowNumber,
    part: Part,
    now: i64,
) -> Result<Vec<HeldKey>, Failure> {
    sqlx::query(
        "UPDATE held SET due = ?3 WHERE due IS NULL AND id IN
         (SELECT min(id) FROM held WHERE flow = ?1 AND part = ?2 GROUP BY key_hash)",
    )
    .bind(flow)
    .bind(part)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let keys: Vec<(i64, i64)> =
        sqlx::query_as("SELECT key_hash, count(*) FROM held WHERE flow = ? AND part = ? GROUP BY key_hash")
            .bind(flow)
            .bind(part)
            .fetch_all(connection)
            .await?;
    Ok(keys.into_iter().map(|(hash, count)| HeldKey { hash: hash as u64, count: count as u64 }).collect())
}

struct HeldRow {
    flow: FlowNumber,
    place: Place,
    held: NewHeld,
}

/// Holds deliveries, in order; those that are held already stay as they are.
pub(crate) async fn hold(
    connection: &mut SqliteConnection,
    catalog: &Arc<Catalog>,
    held: Vec<NewHeld>,
) -> Result<Vec<Placed>, Failure> {
    let mut new = Vec::with_capacity(held.len());
    for held in held {
        let flow = catalog.flow_or_new(connection, &held.flow).await?;
        let place = catalog.place_or_new(connection, &held.position).await?;
        new.push(HeldRow { flow, place, held });
    }
    let head = "INSERT INTO held (flow, place, part, key_hash, due, tried, first_tried_at, key, replay, item, letter, \
                attempts, event)";
    let tail = "ON CONFLICT (place, flow) DO NOTHING RETURNING place, flow, id";
    let written = rows::insert(connection, (head, 13, tail), &new, |query, HeldRow { flow, place, held }| {
        let replay = held.replay.as_ref();
        query
            .bind(*flow)
            .bind(place.0)
            .bind(place.part())
            .bind(held.key_hash as i64)
            .bind(held.due.map(nanoseconds))
            .bind(held.tried)
            .bind(held.first_tried_at.map(nanoseconds))
            .bind(held.key.clone())
            .bind(replay.map(|ticket| ticket.replay.clone()))
            .bind(replay.map(|ticket| ticket.item as i64))
            .bind(replay.map(|ticket| ticket.letter.clone()))
            .bind(attempts_json(&held.attempts))
            .bind(pack::single(&held.event))
    })
    .await?;
    let mut ids = HashMap::new();
    for row in &written {
        ids.insert((row.at::<i64, _>(0)?, row.at::<i64, _>(1)?), row.at::<HeldId, _>(2)?);
    }
    let mut placed = Vec::with_capacity(new.len());
    for row in &new {
        placed.push(match ids.remove(&(row.place.0, row.flow)) {
            Some(id) => Placed { id, new: true },
            None => Placed { id: held_id(connection, row).await?, new: false },
        });
    }
    for (row, placed) in new.iter().zip(&placed) {
        // A row that was there before settles no replay, so the item is not held by it.
        if let (Some(ticket), true) = (&row.held.replay, placed.new) {
            replays::hold_item(connection, ticket).await?;
        }
    }
    Ok(placed)
}

async fn held_id(connection: &mut SqliteConnection, row: &HeldRow) -> Result<HeldId, Failure> {
    let id = sqlx::query_scalar("SELECT id FROM held WHERE place = ? AND flow = ?")
        .bind(row.place.0)
        .bind(row.flow)
        .fetch_one(connection)
        .await?;
    Ok(id)
}

/// Keeps a head until its next attempt.
pub(crate) async fn again(
    connection: &mut SqliteConnection,
    held: HeldId,
    attempts: &[Attempt],
    (tried, first_tried_at, due): (u32, Option<Timestamp>, Timestamp),
) -> Result<(), Failure> {
    sqlx::query("UPDATE held SET attempts = ?, tried = ?, first_tried_at = ?, due = ? WHERE id = ?")
        .bind(attempts_json(attempts))
        .bind(tried)
        .bind(first_tried_at.map(nanoseconds))
        .bind(nanoseconds(due))
        .bind(held)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes held events.
pub(crate) async fn remove(connection: &mut SqliteConnection, held: &[HeldId]) -> Result<(), Failure> {
    if held.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM held WHERE id IN (SELECT value FROM json_each(?))")
        .bind(rows::json_list(held.iter().copied()))
        .execute(connection)
        .await?;
    Ok(())
}

/// About what attempts take in memory.
pub(crate) fn attempts_weight(attempts: &[Attempt]) -> usize {
    let texts = |attempt: &Attempt| {
        let texts = [&attempt.request, &attempt.code, &attempt.excerpt, &attempt.replay];
        attempt.message.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    };
    attempts.iter().map(|attempt| size_of::<Attempt>() + texts(attempt)).sum()
}

/// Attempts as they are stored.
pub(crate) fn attempts_json(attempts: &[Attempt]) -> String {
    serde_json::to_string(attempts).expect("attempts are texts and numbers")
}
