//! The held events port. Held rows are written by `settle` alone.

use async_trait::async_trait;
use crossdock_core::{
    Adopted, FlowName, HeldEvent, HeldEvents, HeldId, HeldKey, NewHeld, Owner, Partition, Position,
    ReplayTicket, StoreError,
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};

use crate::{Failure, Postgres, pool::Purpose};

use super::{
    places::Place,
    rows::{self, Columns, PAGE_BYTES, at},
};

/// What [`read`] reads.
const COLUMNS: &str = "h.id, p.flow, p.topic, p.partition, h.log_offset, h.key_hash, h.due, h.tried, h.first_tried_at, \
                       h.key, h.replay, h.item, h.letter, h.attempts, h.event, h.data";
/// About what a row takes in memory; of a payload that stands apart only its length is read.
const WEIGHT: &str = "256 + octet_length(attempts) + octet_length(event) + octet_length(data)";

#[async_trait]
impl HeldEvents for Postgres {
    async fn adopt(&self, flow: &FlowName, partition: &Partition) -> Result<Adopted, StoreError> {
        let name = (flow.clone(), partition.clone());
        let place = self.places([name.clone()].into()).await?[&name];
        let now = self.now();
        loop {
            // Two steps: what is still under way when nobody waits any more cannot fence somebody who came later.
            let before = self.epoch(place).await?;
            let adopting = self.write("taking over held events", move |connection| {
                Box::pin(async move { adopt(connection, place, before, now).await })
            });
            // None: somebody else came in between.
            if let Some((epoch, keys)) = adopting.await? {
                return Ok(Adopted { owner: Owner { flow: name.0, partition: name.1, epoch }, keys });
            }
        }
    }

    async fn due(
        &self,
        flow: &FlowName,
        partition: &Partition,
        until: Timestamp,
        after: Option<(Timestamp, HeldId)>,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        let Some(place) = self.place(flow, partition).await? else { return Ok(Vec::new()) };
        // `held_due` gives them in order, from behind `after` on.
        let (what, order) = ("place = $1 AND due IS NOT NULL AND due <= $2", "due, id");
        let after = after.map(|(due, id)| (at(due), id));
        let behind = if after.is_some() { " AND (due, id) > ($3, $4)" } else { "" };
        let sql = page(&format!("{what}{behind}"), order, limit);
        let rows = self.call(Purpose::Delivery, "reading due events", move |connection| {
            Box::pin(async move {
                let mut query = sqlx::query(AssertSqlSafe(sql)).bind(place).bind(at(until));
                if let Some((due, id)) = after {
                    query = query.bind(due).bind(id);
                }
                Ok(query.fetch_all(connection).await?)
            })
        });
        rows.await?.iter().map(read).collect()
    }

    async fn behind(
        &self,
        flow: &FlowName,
        partition: &Partition,
        key_hash: u64,
        after: HeldId,
        limit: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        let Some(place) = self.place(flow, partition).await? else { return Ok(Vec::new()) };
        // `held_key` gives them in order.
        let sql = page("place = $1 AND key_hash = $2 AND id > $3", "id", limit);
        let rows = self.call(Purpose::Delivery, "reading the events of a key", move |connection| {
            Box::pin(async move {
                let query = sqlx::query(AssertSqlSafe(sql)).bind(place).bind(key_hash as i64).bind(after);
                Ok(query.fetch_all(connection).await?)
            })
        });
        rows.await?.iter().map(read).collect()
    }

    async fn count(&self, flow: &FlowName) -> Result<(u64, Option<Timestamp>), StoreError> {
        let flow = flow.clone();
        let row = self.call(Purpose::Delivery, "counting held events", move |connection| {
            Box::pin(async move {
                // The counts of its places, of which there are few, and the first of `held_due` of each.
                let query = sqlx::query(
                    "SELECT (SELECT coalesce(sum(events), 0)::bigint FROM crossdock.held_counts
                             JOIN crossdock.places USING (place) WHERE flow = $1), min(d.due)
                     FROM crossdock.places p
                     LEFT JOIN LATERAL (SELECT due FROM crossdock.held h WHERE h.place = p.place AND due IS NOT NULL
                                        ORDER BY due LIMIT 1) d ON true
                     WHERE p.flow = $1",
                );
                Ok(query.bind(flow.as_str()).fetch_one(connection).await?)
            })
        });
        let row = row.await?;
        Ok((row.number(0)?, row.moment_or_none(1)?))
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<HeldEvent>, StoreError> {
        let position = position.clone();
        let rows = self.call(Purpose::Admin, "reading the held deliveries of an event", move |connection| {
            Box::pin(async move {
                // By `places_partition`, then one look into `held_delivery` a flow. All of them: one a flow.
                let sql = format!(
                    "SELECT {COLUMNS} FROM crossdock.places p JOIN crossdock.held h USING (place)
                     WHERE p.topic = $1 AND p.partition = $2 AND h.log_offset = $3 ORDER BY h.id"
                );
                let query = sqlx::query(AssertSqlSafe(sql))
                    .bind(position.topic.as_str())
                    .bind(i64::from(position.partition))
                    .bind(position.offset as i64);
                Ok(query.fetch_all(connection).await?)
            })
        });
        rows.await?.iter().map(read).collect()
    }
}

impl Postgres {
    /// The epoch of the owner that a place has, by the primary key.
    async fn epoch(&self, place: Place) -> Result<i64, StoreError> {
        self.call(Purpose::Delivery, "reading who owns a partition", move |connection| {
            Box::pin(async move {
                let query = sqlx::query_scalar("SELECT epoch FROM crossdock.places WHERE place = $1");
                Ok(query.bind(place).fetch_one(connection).await?)
            })
        })
        .await
    }

    /// How many events each flow holds, for flows that hold any: also those that are no longer in the configuration, whose
    /// events wait until the flow is back.
    pub async fn held_by_flow(&self) -> Result<Vec<(FlowName, u64)>, StoreError> {
        let rows = self.call(Purpose::Admin, "counting held events", |connection| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT flow, sum(events)::bigint FROM crossdock.held_counts JOIN crossdock.places USING (place)
                     GROUP BY flow HAVING sum(events) > 0 ORDER BY flow",
                );
                Ok(query.fetch_all(connection).await?)
            })
        });
        let named = |row: &PgRow| {
            let flow = FlowName::new(row.at(0)?).map_err(|error| StoreError::Damaged(error.to_string()))?;
            Ok((flow, row.number(1)?))
        };
        rows.await?.iter().map(named).collect()
    }
}

/// Adds up what was counted, one row a place. Rows that somebody else writes meanwhile are not seen, and stay for the next time.
pub(super) async fn add_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH gone AS (DELETE FROM crossdock.held_counts RETURNING place, events)
         INSERT INTO crossdock.held_counts (place, events)
         SELECT place, sum(events) FROM gone GROUP BY place HAVING sum(events) <> 0",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A page of held rows: as many as asked for, and fewer where they are large. The weights are added up from index order,
/// before any large payload is read. The limit stands in the statement, so that its plan is made for it.
fn page(condition: &str, order: &str, limit: usize) -> String {
    format!(
        "SELECT {COLUMNS} FROM (
             SELECT *, sum({WEIGHT}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) - ({WEIGHT}) AS before FROM (
                 SELECT * FROM crossdock.held WHERE {condition} ORDER BY {order} LIMIT {limit}
             ) r
         ) h JOIN crossdock.places p USING (place) WHERE before < {PAGE_BYTES} ORDER BY {order}"
    )
}

fn read(row: &PgRow) -> Result<HeldEvent, StoreError> {
    let ticket = (row.text_or_none(10)?, row.at::<Option<i64>, _>(11)?, row.text_or_none(12)?);
    let replay = match ticket {
        (Some(replay), Some(item), Some(letter)) => Some(ReplayTicket { replay, item: item as u64, letter }),
        _ => None,
    };
    let held = NewHeld {
        flow: FlowName::new(row.at(1)?).map_err(|error| StoreError::Damaged(error.to_string()))?,
        position: rows::position(row, 2, 3, 4)?,
        key_hash: row.at::<i64, _>(5)? as u64,
        due: row.moment_or_none(6)?,
        tried: rows::small(row.number(7)?)?,
        first_tried_at: row.moment_or_none(8)?,
        key: row.text_or_none(9)?,
        replay,
        attempts: rows::attempts(row.at(13)?)?,
        event: rows::event(row.at(14)?, row.at(15)?)?,
    };
    Ok(HeldEvent { id: row.at(0)?, held })
}

/// What the former owner has under way is waited for, since it holds the place's row; what it begins later finds another epoch.
/// The keys are read by a statement that begins afterwards.
async fn adopt(
    connection: &mut PgConnection,
    place: Place,
    before: i64,
    now: Timestamp,
) -> Result<Option<(u64, Vec<HeldKey>)>, Failure> {
    let raise =
        "UPDATE crossdock.places SET epoch = epoch + 1 WHERE place = $1 AND epoch = $2 RETURNING epoch";
    let raised =
        sqlx::query_scalar::<_, i64>(raise).bind(place).bind(before).fetch_optional(&mut *connection);
    let Some(epoch) = raised.await? else { return Ok(None) };
    // The keys from the entries of `held_key` alone, the heads that are whole from those of `held_due`; the others, of which
    // there are few or none, by their ids.
    let rows = sqlx::query(
        "WITH keys AS MATERIALIZED (
             SELECT key_hash, count(*) AS count, min(id) AS lowest FROM crossdock.held WHERE place = $1 GROUP BY key_hash
         ), healed AS (
             UPDATE crossdock.held SET due = $2 WHERE due IS NULL AND id = ANY (ARRAY (
                 SELECT lowest FROM keys EXCEPT
                 SELECT id FROM crossdock.held WHERE place = $1 AND due IS NOT NULL
             ))
         )
         SELECT key_hash, count FROM keys",
    )
    .bind(place)
    .bind(at(now))
    .fetch_all(connection)
    .await?;
    let key = |row: &PgRow| Ok(HeldKey { hash: row.at::<i64, _>(0)? as u64, count: row.number(1)? });
    let keys = rows.iter().map(key).collect::<Result<_, StoreError>>()?;
    Ok(Some((epoch as u64, keys)))
}
