//! The event log port: the outbox, read for people.
//!
//! Where an event stands in the broker is known from what became of a delivery of it: a held row or a dead letter names the
//! place. Of an event that went through without one, only that it was relayed is known.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{
    Event, EventLog, EventSummary, FlowName, LoggedEvent, OutboxEvent, Page, PageRequest, Position,
    StoreError, Topic, hash_key,
};
use sqlx::{Postgres as Sql, QueryBuilder, Row, ValueRef, postgres::PgRow};

use crate::{
    Postgres, errors,
    outbox::{COLUMNS, DATA, Decoder, Fields, NAMES, Read, row_id},
    pool::Purpose,
};

use super::{
    cursor,
    places::partition_of,
    rows::{Columns, position},
};

/// Whether the relay is past a row, or has refused it for good. The cursor has one row.
const RELAYED: &str = "seq <= c.position AND NOT c.gaps @> seq";

#[async_trait]
impl EventLog for Postgres {
    /// Rows that are no events are passed over: the relay shows them with what it refused.
    async fn list(&self, topic: Option<&Topic>, page: PageRequest) -> Result<Page<EventSummary>, StoreError> {
        let from = cursor::read(&page)?;
        let (mut last, mut events, mut more) = (from.last.0, Vec::new(), true);
        // One more than asked for tells whether there is a next page.
        while more && events.len() <= from.limit {
            let want = from.limit + 1 - events.len();
            let rows = self.behind(topic, last, want).await?;
            more = rows.len() == want;
            for row in &rows {
                last = row.at(0)?;
                events.extend(self.summary(row)?.map(|summary| (last, summary)));
            }
        }
        let next = (events.len() > from.limit).then(|| cursor::behind(events[from.limit - 1].0, 0));
        events.truncate(from.limit);
        let mut items: Vec<EventSummary> = events.into_iter().map(|(_, event)| event).collect();
        let positions = self.positions(items.iter().map(|event| event.id.as_str())).await?;
        for event in &mut items {
            let name = (event.topic.clone(), event.source.clone(), event.id.clone());
            event.position = positions.get(&name).cloned();
        }
        Ok(Page { items, next })
    }

    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError> {
        // Full partitions have an index by id, which the relay makes; the one that is written to is read through.
        let mut query = QueryBuilder::<Sql>::new(format!(
            "SELECT {NAMES}, {RELAYED}, created_at FROM crossdock.outbox CROSS JOIN crossdock.outbox_cursor c WHERE id = "
        ));
        query.push_bind(row_id(id)).push(" ORDER BY seq DESC");
        let rows = self.ask("looking an event up", query).await?;
        let positions = self.positions([id]).await?;
        let mut found = Vec::new();
        for row in &rows {
            let Some(OutboxEvent { topic, event, .. }) = self.event(row)? else { continue };
            // Another id may have the same hash.
            if event.id == id {
                let name = (topic.clone(), event.source.clone(), event.id.clone());
                found.push(LoggedEvent {
                    position: positions.get(&name).cloned(),
                    relayed: row.at(COLUMNS)?,
                    accepted_at: row.moment(COLUMNS + 1)?,
                    event: Arc::new(event),
                    topic,
                });
            }
        }
        Ok(found)
    }

    /// True if a delivery was moved to the store. What else became of it, the broker knows.
    async fn is_complete(&self, flow: &FlowName, position: &Position) -> Result<bool, StoreError> {
        let Some(place) = self.place(flow, &partition_of(position)).await? else { return Ok(false) };
        let offset = position.offset as i64;
        self.call(Purpose::Admin, "looking for a delivery", move |connection| {
            Box::pin(async move {
                // By `held_delivery` and `letters_delivery`.
                let query = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT FROM crossdock.held WHERE place = $1 AND log_offset = $2)
                         OR EXISTS (SELECT FROM crossdock.letters WHERE place = $1 AND log_offset = $2)",
                );
                Ok(query.bind(place).bind(offset).fetch_one(connection).await?)
            })
        })
        .await
    }
}

/// What names an event: topic, source and id.
type EventName = (Topic, String, String);

impl Postgres {
    /// Rows with a lower number, the newest first: by the index of a full partition on topic and number, or by the primary key. Payloads stay where they are.
    async fn behind(&self, topic: Option<&Topic>, last: i64, limit: usize) -> Result<Vec<PgRow>, StoreError> {
        let mut query = QueryBuilder::<Sql>::new(format!(
            "SELECT seq, id, aggregatetype, aggregateid, type, NULL::bytea, contenttype, source, subject, headers,
                 tracingspancontext, attributes, created_at, {RELAYED}, created_at, coalesce(octet_length(payload), 0)
             FROM crossdock.outbox CROSS JOIN crossdock.outbox_cursor c WHERE seq < "
        ));
        query.push_bind(last);
        if let Some(topic) = topic {
            query.push(" AND aggregatetype = ").push_bind(topic.as_str());
        }
        query.push(" ORDER BY seq DESC LIMIT ").push(limit);
        self.ask("reading the outbox", query).await
    }

    fn summary(&self, row: &PgRow) -> Result<Option<EventSummary>, StoreError> {
        let Some(OutboxEvent { topic, event, .. }) = self.event(row)? else { return Ok(None) };
        let logged = LoggedEvent {
            topic,
            position: None,
            relayed: row.at(COLUMNS)?,
            accepted_at: row.moment(COLUMNS + 1)?,
            event: Arc::new(event),
        };
        let bytes: i32 = row.at(COLUMNS + 2)?;
        let data_bytes = usize::try_from(bytes).unwrap_or_default();
        Ok(Some(EventSummary { data_bytes, ..EventSummary::from(&logged) }))
    }

    /// The event of a row, as the relay reads it; none if it is no event.
    fn event(&self, row: &PgRow) -> Result<Option<OutboxEvent>, StoreError> {
        let mut fields: Fields<'_> = [None; COLUMNS];
        for (index, field) in fields.iter_mut().enumerate() {
            let value = row.try_get_raw(index).map_err(|error| StoreError::Damaged(errors::text(&error)))?;
            if !value.is_null() {
                *field = Some(value.as_bytes().map_err(|error| StoreError::Damaged(error.to_string()))?);
            }
        }
        let data = fields[DATA].map_or_else(Bytes::new, Bytes::copy_from_slice);
        let mut decoder = Decoder::new(&self.options().source);
        let read = decoder.read(fields, data).map_err(|why| StoreError::Damaged(why.to_owned()))?;
        Ok(match read.read {
            Read::Event(event) => Some(event),
            Read::Malformed(_) => None,
        })
    }

    /// Where events stand in the broker, as far as held rows (`held_event`) and letters (`letters_event`) tell.
    async fn positions<'i>(
        &self,
        ids: impl IntoIterator<Item = &'i str>,
    ) -> Result<HashMap<EventName, Position>, StoreError> {
        let hashes: BTreeSet<i64> = ids.into_iter().map(|id| hash_key(id) as i64).collect();
        if hashes.is_empty() {
            return Ok(HashMap::new());
        }
        let hashes: Vec<i64> = hashes.into_iter().collect();
        let rows = self.call(Purpose::Admin, "looking for deliveries of events", move |connection| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT p.topic, p.partition, h.log_offset, h.event
                     FROM crossdock.held h JOIN crossdock.places p USING (place) WHERE h.event_hash = ANY ($1)
                     UNION ALL
                     SELECT p.topic, p.partition, l.log_offset, b.event
                     FROM crossdock.letters l JOIN crossdock.letter_bodies b USING (number)
                     JOIN crossdock.places p USING (place) WHERE l.event_hash = ANY ($1)",
                );
                Ok(query.bind(hashes).fetch_all(connection).await?)
            })
        });
        let mut positions = HashMap::new();
        for row in &rows.await? {
            let attributes: &[u8] = row.at(3)?;
            let event: Event = serde_json::from_slice(attributes)
                .map_err(|_| StoreError::Damaged("the attributes of an event are not readable".to_owned()))?;
            let position = position(row, 0, 1, 2)?;
            positions.insert((position.topic.clone(), event.source, event.id), position);
        }
        Ok(positions)
    }
}
