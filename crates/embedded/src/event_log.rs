//! The event log port: the log, read for people.

use std::sync::Arc;

use async_trait::async_trait;
use crossdock_core::{
    Completed, Event, EventLog, EventSummary, FlowName, LoggedEvent, Page, PageRequest, Position, StoreError,
    Topic,
};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use crate::{
    Embedded, Inner, cursor, errors, pack,
    place::{Place, moment},
    rows::{self, Columns},
    seen,
};

const DOING: &str = "reading the log";

/// Packs that are in memory at a time while a list is read; one may be as large as the largest event.
const PACKS: usize = 4;

#[async_trait]
impl EventLog for Embedded {
    async fn list(&self, topic: Option<&Topic>, page: PageRequest) -> Result<Page<EventSummary>, StoreError> {
        let from = cursor::read(&page)?;
        let (mut last, mut events) = (from.last, Vec::new());
        // One more than asked for tells whether there is a next page.
        while events.len() <= from.limit {
            let rows = self.inner.packs_behind(topic, last).await?;
            for row in &rows {
                self.inner.summarize(row, &mut last, &mut events)?;
            }
            if rows.len() < PACKS {
                break;
            }
        }
        let next = (events.len() > from.limit).then(|| {
            let (at, place, _) = &events[from.limit - 1];
            cursor::behind(*at, *place)
        });
        events.truncate(from.limit);
        Ok(Page { items: events.into_iter().map(|(.., event)| event).collect(), next })
    }

    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError> {
        let inner = &self.inner;
        let failed = |error| errors::store_error(DOING, error);
        let mut connection = inner.readers.acquire().await.map_err(failed)?;
        let mut found = Vec::new();
        for place in seen::find(&inner.recent, &mut connection, id).await.map_err(failed)? {
            let row = sqlx::query(
                "SELECT place, accepted_at, events FROM log WHERE place <= ? ORDER BY place DESC LIMIT 1",
            )
            .bind(place.0)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
            // An id is remembered for longer than its event may be kept.
            let Some(row) = row else { continue };
            let first = Place(row.at(0)?);
            if first.part() != place.part() {
                continue;
            }
            let index = (place.0 - first.0) as usize;
            let mut event = None;
            pack::open(row.at(2)?, index, |next| event = event.take().or(Some(next)))
                .map_err(|why| errors::damaged(&format!("the log at {}: {why}", place.0)))?;
            if let Some(event) = event.filter(|event| event.id == id) {
                found.push(inner.logged(row.at(1)?, place, event)?);
            }
        }
        found.sort_by(|one, other| {
            other.accepted_at.cmp(&one.accepted_at).then(other.position.cmp(&one.position))
        });
        Ok(found)
    }

    async fn is_complete(&self, flow: &FlowName, position: &Position) -> Result<bool, StoreError> {
        let inner = &self.inner;
        let (Some(number), Some(place)) = (inner.catalog.flow(flow), inner.catalog.place(position)) else {
            return Ok(false);
        };
        if let Some(group) = inner.groups.get(flow)
            && let Some(progress) = group.progress.iter().find(|progress| progress.log.part == place.part())
        {
            return Ok(progress.lock().contains(position.offset));
        }
        // A flow that is no longer in the configuration: what it had finished.
        let stored: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT completed FROM positions WHERE flow = ? AND part = ?")
                .bind(number)
                .bind(place.part())
                .fetch_optional(&inner.readers)
                .await
                .map_err(|error| errors::store_error(DOING, error))?;
        let completed = stored.and_then(|bytes| Completed::decode(&bytes));
        Ok(completed.is_some_and(|completed| completed.contains(position.offset)))
    }
}

impl Inner {
    /// The next packs of one topic or of all that hold events behind `last`, the newest first.
    async fn packs_behind(
        &self,
        topic: Option<&Topic>,
        last: (i64, i64),
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT place, accepted_at, events FROM log WHERE ");
        query.push("(accepted_at, place) < (").push_bind(last.0).push(", ").push_bind(last.1).push(")");
        if let Some(topic) = topic {
            let parts = rows::json_list(self.catalog.parts_of(topic));
            query.push(" AND place >> 46 IN (SELECT value FROM json_each(").push_bind(parts).push("))");
        }
        query.push(" ORDER BY accepted_at DESC, place DESC LIMIT ").push(PACKS);
        query.build().fetch_all(&self.readers).await.map_err(|error| errors::store_error(DOING, error))
    }

    /// Adds the events of a pack that stand behind `last`, the newest first; the pack itself becomes the last.
    fn summarize(
        &self,
        row: &SqliteRow,
        last: &mut (i64, i64),
        events: &mut Vec<(i64, i64, EventSummary)>,
    ) -> Result<(), StoreError> {
        let (first, at): (i64, i64) = (row.at(0)?, row.at(1)?);
        let (mut place, mut pack) = (first, Vec::new());
        pack::open(row.at(2)?, 0, |event| {
            if (at, place) < *last {
                pack.push((
                    place,
                    self.logged(at, Place(place), event).map(|logged| EventSummary::from(&logged)),
                ));
            }
            place += 1;
        })
        .map_err(|why| errors::damaged(&format!("the log at {first}: {why}")))?;
        for (place, summary) in pack.into_iter().rev() {
            events.push((at, place, summary?));
        }
        *last = (at, first);
        Ok(())
    }

    fn logged(&self, at: i64, place: Place, event: Arc<Event>) -> Result<LoggedEvent, StoreError> {
        let position = self
            .catalog
            .position(place)
            .ok_or_else(|| errors::damaged(&format!("the log at {}: its topic is not known", place.0)))?;
        let topic = position.topic.clone();
        // The outbox is the broker's log.
        Ok(LoggedEvent { topic, position: Some(position), relayed: true, accepted_at: moment(at), event })
    }
}
