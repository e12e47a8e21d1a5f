//! The dead letters port: reading, and giving up.

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{
    Act, Class, ConnectionName, Cursor, DeadLetter, DeadLetters, FailureGroup, GroupId, LetterState,
    LetterSummary, MappedRequest, Page, PageRequest, Position, Selection, StoreError,
};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Embedded, audit,
    catalog::{Catalog, SharedCatalog},
    cursor, errors,
    letters::{self, COUNTERS, state_number, state_of},
    pack,
    place::{Place, moment, nanoseconds},
    rows::Columns,
    selection,
    task::Failure,
};

const SUMMARY: &str = "SELECT l.number, l.id, l.state, g.id, l.event_id, l.kind, l.key, l.flow, g.connection, g.class, \
                       g.status, g.code, l.message, l.tries, l.replays, l.failed_at \
                       FROM letters l JOIN failure_groups g ON g.number = l.failure_group WHERE ";

/// What [`letter`] reads.
pub(crate) const LETTER: &str = "l.number, l.id, l.state, g.id, l.flow, g.step, g.connection, g.action, l.place, l.key, \
                                 b.event, b.request, b.request_body, b.idempotency_key, g.class, g.status, g.code, \
                                 l.message, b.reason, b.advice, b.attempts, l.failed_at, l.replays";
const FROM_LETTER: &str = "FROM letters l JOIN letter_bodies b USING (number) \
                           JOIN failure_groups g ON g.number = l.failure_group";

#[async_trait]
impl DeadLetters for Embedded {
    async fn groups(
        &self,
        selection: &Selection,
        page: PageRequest,
    ) -> Result<Page<FailureGroup>, StoreError> {
        let (inner, from) = (&self.inner, cursor::read(&page)?);
        let state = selection.state.unwrap_or(LetterState::Open);
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM (SELECT g.*, ");
        if selection::is_whole_groups(selection) {
            query.push(format!("g.{} AS n", COUNTERS[state_number(state) as usize]));
        } else {
            query.push("(SELECT count(*) FROM letters l WHERE l.failure_group = g.number AND ");
            selection::push(&mut query, selection, &inner.catalog);
            query.push(") AS n");
        }
        query.push(" FROM failure_groups g WHERE true");
        selection::push_group(&mut query, selection, &inner.catalog);
        query.push(") WHERE n > 0 AND (n < ").push_bind(from.last.0).push(" OR (n = ").push_bind(from.last.0);
        query.push(" AND id > (SELECT id FROM failure_groups WHERE number = ").push_bind(from.last.1);
        query.push("))) ORDER BY n DESC, id LIMIT ").push_bind(from.limit as i64 + 1);
        let rows = query
            .build()
            .fetch_all(&inner.readers)
            .await
            .map_err(|error| errors::store_error("listing failure groups", error))?;
        let next = next(&rows, from.limit, ("n", "number"))?;
        let items: Result<Vec<_>, _> =
            rows.iter().take(from.limit).map(|row| group(&inner.catalog, row)).collect();
        Ok(Page { items: items?, next })
    }

    async fn list(
        &self,
        selection: &Selection,
        page: PageRequest,
    ) -> Result<Page<LetterSummary>, StoreError> {
        let (inner, from) = (&self.inner, cursor::read(&page)?);
        let mut query = QueryBuilder::<Sqlite>::new(SUMMARY);
        selection::push(&mut query, selection, &inner.catalog);
        query
            .push(" AND (l.failed_at, l.number) < (")
            .push_bind(from.last.0)
            .push(", ")
            .push_bind(from.last.1);
        query.push(") ORDER BY l.failed_at DESC, l.number DESC LIMIT ").push_bind(from.limit as i64 + 1);
        let rows = query
            .build()
            .fetch_all(&inner.readers)
            .await
            .map_err(|error| errors::store_error("listing dead letters", error))?;
        let next = next(&rows, from.limit, ("failed_at", "number"))?;
        let items: Result<Vec<_>, _> =
            rows.iter().take(from.limit).map(|row| summary(&inner.catalog, row)).collect();
        Ok(Page { items: items?, next })
    }

    async fn count(&self, selection: &Selection) -> Result<u64, StoreError> {
        let inner = &self.inner;
        let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
        if selection::is_whole_groups(selection) {
            let state = selection.state.unwrap_or(LetterState::Open);
            query.push(format!(
                "coalesce(sum(g.{}), 0) FROM failure_groups g WHERE true",
                COUNTERS[state_number(state) as usize]
            ));
            selection::push_group(&mut query, selection, &inner.catalog);
        } else {
            query.push("count(*) FROM letters l JOIN failure_groups g ON g.number = l.failure_group WHERE ");
            selection::push(&mut query, selection, &inner.catalog);
        }
        let count: i64 = query
            .build_query_scalar()
            .fetch_one(&inner.readers)
            .await
            .map_err(|error| errors::store_error("counting dead letters", error))?;
        Ok(count as u64)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let inner = &self.inner;
        for column in ["l.id", "l.event_id"] {
            let sql = format!("SELECT {LETTER} {FROM_LETTER} WHERE {column} = ? LIMIT 20");
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(id)
                .fetch_all(&inner.readers)
                .await
                .map_err(|error| errors::store_error("reading a dead letter", error))?;
            match rows.as_slice() {
                [] => {}
                [one] => return letter(&inner.catalog, one).map(Some),
                several => return Err(ambiguous(id, several)),
            }
        }
        Ok(None)
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<LetterSummary>, StoreError> {
        let Some(place) = self.inner.catalog.place(position) else { return Ok(Vec::new()) };
        let sql = format!("{SUMMARY} l.place = ? ORDER BY l.number");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(place.0)
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|error| errors::store_error("reading the dead letters of an event", error))?;
        rows.iter().map(|row| summary(&self.inner.catalog, row)).collect()
    }

    async fn discard(&self, selection: &Selection, act: &Act) -> Result<u64, StoreError> {
        if selection.state.is_some_and(|state| state != LetterState::Open) {
            return Ok(0);
        }
        let (catalog, now) = (self.inner.catalog.clone(), nanoseconds(self.inner.clock.now()));
        let (selection, act) = (selection.clone(), act.clone());
        self.inner
            .write("discarding dead letters", move |connection| {
                Box::pin(discard(connection, catalog, selection, act, now))
            })
            .await
    }
}

fn ambiguous(id: &str, letters: &[SqliteRow]) -> StoreError {
    let ids: Result<Vec<&str>, _> = letters.iter().map(|row| row.at(1)).collect();
    match ids {
        Ok(ids) => StoreError::Conflict(format!(
            "the event `{id}` has several dead letters; name one of them: {}",
            ids.join(", ")
        )),
        Err(damaged) => damaged,
    }
}

/// The cursor behind a page, if `rows` has one more than fit on it.
fn next(rows: &[SqliteRow], limit: usize, (one, other): (&str, &str)) -> Result<Option<Cursor>, StoreError> {
    let Some(last) = rows.get(limit - 1).filter(|_| rows.len() > limit) else { return Ok(None) };
    Ok(Some(cursor::behind(last.at(one)?, last.at(other)?)))
}

fn group(catalog: &Catalog, row: &SqliteRow) -> Result<FailureGroup, StoreError> {
    let id: String = row.at("id")?;
    let damaged = |what: &str| errors::damaged(&format!("the {what} of the failure group {id}"));
    let mut state = LetterState::Discarded;
    for candidate in (0..3).rev().map(state_of) {
        if row.at::<i64, _>(candidate.as_str())? > 0 {
            state = candidate;
        }
    }
    Ok(FailureGroup {
        state,
        count: row.at::<i64, _>("n")? as u64,
        flow: catalog.flow_name(row.at("flow")?).ok_or_else(|| damaged("flow"))?,
        connection: ConnectionName::new(row.at("connection")?).map_err(|_| damaged("connection"))?,
        step: row.at("step")?,
        action: row.at("action")?,
        class: Class::parse(row.at("class")?).ok_or_else(|| damaged("class"))?,
        status: row.at("status")?,
        code: row.at("code")?,
        message: row.at("message")?,
        advice: row.at("advice")?,
        first_at: moment(row.at("first_at")?),
        last_at: moment(row.at("last_at")?),
        id: GroupId::from(id),
    })
}

fn summary(catalog: &Catalog, row: &SqliteRow) -> Result<LetterSummary, StoreError> {
    let id: String = row.at(1)?;
    let damaged = |what: &str| errors::damaged(&format!("the {what} of the dead letter {id}"));
    Ok(LetterSummary {
        state: state_of(row.at(2)?),
        group: GroupId::from(row.at::<String, _>(3)?),
        event: row.at(4)?,
        kind: row.at(5)?,
        key: row.at(6)?,
        flow: catalog.flow_name(row.at(7)?).ok_or_else(|| damaged("flow"))?,
        connection: ConnectionName::new(row.at(8)?).map_err(|_| damaged("connection"))?,
        class: Class::parse(row.at(9)?).ok_or_else(|| damaged("class"))?,
        status: row.at(10)?,
        code: row.at(11)?,
        message: row.at(12)?,
        attempts: row.at(13)?,
        replays: row.at(14)?,
        failed_at: moment(row.at(15)?),
        id,
    })
}

/// Reads a letter from a row of [`LETTER`].
pub(crate) fn letter(catalog: &Catalog, row: &SqliteRow) -> Result<DeadLetter, StoreError> {
    let id: String = row.at(1)?;
    let damaged = |what: &str| errors::damaged(&format!("the {what} of the dead letter {id}"));
    let body = row.at::<Option<&[u8]>, _>(12)?.unwrap_or_default();
    let request = row.at::<Option<&str>, _>(11)?.map(|json| {
        let body = Bytes::copy_from_slice(body);
        serde_json::from_str::<MappedRequest>(json).map(|request| MappedRequest { body, ..request })
    });
    Ok(DeadLetter {
        state: state_of(row.at(2)?),
        group: GroupId::from(row.at::<String, _>(3)?),
        flow: catalog.flow_name(row.at(4)?).ok_or_else(|| damaged("flow"))?,
        step: row.at(5)?,
        connection: ConnectionName::new(row.at(6)?).map_err(|_| damaged("connection"))?,
        action: row.at(7)?,
        position: catalog.position(Place(row.at(8)?)).ok_or_else(|| damaged("topic"))?,
        key: row.at(9)?,
        event: pack::open_single(row.at(10)?).map_err(|why| damaged(&format!("event ({why})")))?,
        request: request.transpose().map_err(|_| damaged("request"))?,
        idempotency_key: row.at(13)?,
        class: Class::parse(row.at(14)?).ok_or_else(|| damaged("class"))?,
        status: row.at(15)?,
        code: row.at(16)?,
        message: row.at(17)?,
        reason: row.at(18)?,
        advice: row.at(19)?,
        attempts: serde_json::from_str(row.at(20)?).map_err(|_| damaged("attempts"))?,
        failed_at: moment(row.at(21)?),
        replays: row.at(22)?,
        id,
    })
}

async fn discard(
    connection: &mut SqliteConnection,
    catalog: SharedCatalog,
    selection: Selection,
    act: Act,
    now: i64,
) -> Result<u64, Failure> {
    // The audit entry comes first: its number names the set.
    let entry = audit::write(connection, now, &act, ("discard", &selection_json(&selection))).await?;
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO chosen (entry, letter) SELECT ");
    query
        .push_bind(entry)
        .push(", l.number FROM letters l JOIN failure_groups g ON g.number = l.failure_group WHERE ");
    selection::push(&mut query, &selection, &catalog);
    query.build().execute(&mut *connection).await?;
    let open_to_discarded = (LetterState::Open, LetterState::Discarded);
    let chosen = "SELECT letter FROM chosen WHERE entry = ?1";
    let count = letters::change(connection, open_to_discarded, chosen, entry, Some(now)).await?;
    sqlx::query("DELETE FROM chosen WHERE entry = ?").bind(entry).execute(&mut *connection).await?;
    sqlx::query("UPDATE audit SET count = ? WHERE id = ?")
        .bind(count as i64)
        .bind(entry)
        .execute(connection)
        .await?;
    Ok(count)
}

/// A selection as it is kept.
pub(crate) fn selection_json(selection: &Selection) -> String {
    serde_json::to_string(selection).expect("a selection is texts and times")
}
