//! The dead letters port: reading, and giving up.

mod lists;

use async_trait::async_trait;
use crossdock_core::{
    Act, DeadLetter, DeadLetters, FailureGroup, LetterState, LetterSummary, Page, PageRequest, Position,
    Selection, StoreError, hash_key,
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, Postgres as Sql, QueryBuilder, postgres::PgRow};

use crate::{Failure, Postgres, pool::Purpose};

use super::{
    audit, cursor,
    letter::{self, LETTER, SUMMARY, WITH_BODY},
    rows::{Columns, at},
    selection,
    transaction::Length,
};

/// As many deliveries of one event as are named when somebody asks for a letter by its event.
const NAMED_MAX: usize = 20;

#[async_trait]
impl DeadLetters for Postgres {
    async fn groups(
        &self,
        selection: &Selection,
        page: PageRequest,
    ) -> Result<Page<FailureGroup>, StoreError> {
        let from = cursor::read(&page)?;
        let rows = self.ask("listing failure groups", lists::groups(selection, &from)).await?;
        lists::page(&rows, from.limit, lists::group, |row| Ok((row.at("n")?, row.at("number")?)))
    }

    async fn list(
        &self,
        selection: &Selection,
        page: PageRequest,
    ) -> Result<Page<LetterSummary>, StoreError> {
        let from = cursor::read(&page)?;
        let rows = self.ask("listing dead letters", lists::letters(selection, &from)).await?;
        let place = |row: &PgRow| Ok((row.moment("failed_at")?.as_microsecond(), row.at("number")?));
        lists::page(&rows, from.limit, letter::summary, place)
    }

    async fn count(&self, selection: &Selection) -> Result<u64, StoreError> {
        let rows = self.ask("counting dead letters", lists::count(selection)).await?;
        rows.first().map_or(Ok(0), |row| row.number(0))
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        // By `letters_id`, then by `letters_event`.
        let by_id =
            format!("SELECT {LETTER} FROM crossdock.letters l {WITH_BODY} WHERE l.id = $1 AND $2 = $2");
        let by_event = format!(
            "SELECT {LETTER} FROM crossdock.letters l {WITH_BODY} WHERE l.event_id = $1 AND l.event_hash = $2
             ORDER BY l.number LIMIT {NAMED_MAX}"
        );
        for sql in [by_id, by_event] {
            let (name, hash) = (id.to_owned(), hash_key(id) as i64);
            let rows = self.call(Purpose::Admin, "reading a dead letter", move |connection| {
                Box::pin(async move {
                    let query = sqlx::query(AssertSqlSafe(sql)).bind(name.as_bytes()).bind(hash);
                    Ok(query.fetch_all(connection).await?)
                })
            });
            match rows.await?.as_slice() {
                [] => {}
                [one] => return letter::letter(one).map(Some),
                several => return Err(ambiguous(id, several)?),
            }
        }
        Ok(None)
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<LetterSummary>, StoreError> {
        // By `places_partition`, then one look into `letters_delivery` a flow.
        let mut query = QueryBuilder::<Sql>::new(format!(
            "SELECT {SUMMARY} FROM crossdock.places p JOIN crossdock.letters l USING (place)
             JOIN crossdock.failure_groups g ON g.number = l.failure_group WHERE p.topic = "
        ));
        query.push_bind(position.topic.as_str()).push(" AND p.partition = ");
        query.push_bind(i64::from(position.partition)).push(" AND l.log_offset = ");
        query.push_bind(position.offset as i64).push(" ORDER BY l.number");
        let rows = self.ask("reading the dead letters of an event", query).await?;
        rows.iter().map(letter::summary).collect()
    }

    async fn discard(&self, selection: &Selection, act: &Act) -> Result<u64, StoreError> {
        if selection::state(selection) != LetterState::Open {
            return Ok(0);
        }
        let (selection, act, now) = (selection.clone(), act.clone(), self.now());
        self.transact((Purpose::Admin, Length::Long), "discarding dead letters", move |connection| {
            let (selection, act) = (selection.clone(), act.clone());
            Box::pin(async move { discard(connection, &selection, &act, now).await })
        })
        .await
    }
}

impl Postgres {
    /// Asks what people want to know.
    pub(super) async fn ask(
        &self,
        doing: &'static str,
        mut query: QueryBuilder<Sql>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.call(Purpose::Admin, doing, |connection| {
            Box::pin(async move { Ok(query.build().fetch_all(connection).await?) })
        })
        .await
    }
}

fn ambiguous(id: &str, letters: &[PgRow]) -> Result<StoreError, StoreError> {
    let ids = letters.iter().map(|row| row.text(1)).collect::<Result<Vec<_>, _>>()?;
    Ok(StoreError::Conflict(format!(
        "the event `{id}` has several dead letters; name one of them: {}",
        ids.join(", ")
    )))
}

/// Letters are locked in the order of their numbers; one that somebody else has changed meanwhile is passed over.
async fn discard(
    connection: &mut PgConnection,
    selection: &Selection,
    act: &Act,
    now: Timestamp,
) -> Result<u64, Failure> {
    let mut query = QueryBuilder::<Sql>::new("WITH ");
    push_chosen(&mut query, selection);
    query.push(
        ", changed AS (
             UPDATE crossdock.letters l SET state = 3, settled_at = ",
    );
    query.push_bind(at(now)).push(
        " FROM chosen WHERE l.number = chosen.number RETURNING l.failure_group
         ), counts AS MATERIALIZED (
             SELECT failure_group AS number, count(*) AS n FROM changed GROUP BY 1 ORDER BY 1
         ), locked AS MATERIALIZED (
             SELECT g.number FROM crossdock.failure_groups g
             WHERE g.number = ANY (ARRAY (SELECT number FROM counts)) ORDER BY 1 FOR NO KEY UPDATE
         ), counted AS (
             UPDATE crossdock.failure_groups g SET open = g.open - counts.n, discarded = g.discarded + counts.n
             FROM counts JOIN locked USING (number) WHERE g.number = counts.number
         )
         SELECT coalesce(sum(n), 0)::bigint FROM counts",
    );
    let count: i64 = query.build_query_scalar().fetch_one(&mut *connection).await?;
    let count = u64::try_from(count).unwrap_or_default();
    audit::write(connection, now, act, ("discard", &selection::json(selection), count)).await?;
    Ok(count)
}

/// Adds the query `chosen`: the open letters of a selection, locked in the order of their numbers.
pub(super) fn push_chosen(query: &mut QueryBuilder<Sql>, selection: &Selection) {
    let open = Selection { state: None, ..selection.clone() };
    query.push(
        "chosen AS MATERIALIZED (
             SELECT l.number, l.place, l.log_offset, l.failure_group FROM crossdock.letters l
             JOIN crossdock.failure_groups g ON g.number = l.failure_group WHERE ",
    );
    selection::push(query, &open);
    selection::push_group(query, &open);
    query.push(" ORDER BY l.number FOR NO KEY UPDATE OF l)");
}
