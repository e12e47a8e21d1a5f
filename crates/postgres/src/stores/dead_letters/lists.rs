//! The statements of lists and counts.
//!
//! What a selection asks of groups is asked of `failure_groups`, which is small; the letters of the groups that are left come
//! from `letters_group`, of which each group is a range in the order of the list. So a page costs as much for a selection that
//! has a million letters as for one that has three among a million others.

use crossdock_core::{
    Class, ConnectionName, FailureGroup, FlowName, GroupId, LetterState, Page, Selection, StoreError,
};
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder, postgres::PgRow};

use crate::stores::{
    cursor::{self, From},
    letter::{SUMMARY, state_of},
    rows::{Columns, at},
    selection::{self, Kind},
};

type Query = QueryBuilder<Postgres>;

/// Reads a page from rows, of which there is one more than fit on it if there is another page. `place` tells where a row
/// stands.
pub(super) fn page<T>(
    rows: &[PgRow],
    limit: usize,
    read: impl Fn(&PgRow) -> Result<T, StoreError>,
    place: impl Fn(&PgRow) -> Result<(i64, i64), StoreError>,
) -> Result<Page<T>, StoreError> {
    let last = rows.get(limit - 1).filter(|_| rows.len() > limit);
    let next = last.map(|last| place(last).map(|(one, other)| cursor::behind(one, other))).transpose()?;
    let items = rows.iter().take(limit).map(read).collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}

/// The counter of a state.
fn counter(selection: &Selection) -> &'static str {
    selection::state(selection).as_str()
}

/// Groups by size.
pub(super) fn groups(selection: &Selection, from: &From) -> Query {
    let mut query = Query::new("SELECT * FROM (SELECT g.*, ");
    match selection::kind(selection) {
        Kind::Groups => {
            query.push(format!("g.{} AS n FROM crossdock.failure_groups g WHERE true", counter(selection)));
        }
        Kind::Since => {
            // A range of `letters_group` for each group, without touching the rows.
            query.push("c.n FROM crossdock.failure_groups g CROSS JOIN LATERAL (SELECT count(*) AS n FROM crossdock.letters l");
            query.push(" WHERE l.failure_group = g.number AND ");
            selection::push(&mut query, selection);
            query.push(") c WHERE true");
        }
        Kind::Named => {
            query.push("c.n FROM (SELECT failure_group, count(*) AS n FROM (");
            selection::push_named(&mut query, selection);
            query.push(
                ") l GROUP BY 1) c JOIN crossdock.failure_groups g ON g.number = c.failure_group WHERE true",
            );
        }
    }
    selection::push_group(&mut query, selection);
    query.push(") q WHERE n > 0 AND (n < ").push_bind(from.last.0).push(" OR (n = ").push_bind(from.last.0);
    query.push(" AND id > (SELECT id FROM crossdock.failure_groups WHERE number = ").push_bind(from.last.1);
    query.push("))) ORDER BY n DESC, id LIMIT ").push(from.limit + 1);
    query
}

/// Reads a group.
pub(super) fn group(row: &PgRow) -> Result<FailureGroup, StoreError> {
    let id = row.text("id")?;
    let damaged = |what: &str| StoreError::Damaged(format!("the {what} of the failure group {id}"));
    let mut state = LetterState::Discarded;
    for candidate in (0..3).rev().map(state_of) {
        if row.number(candidate.as_str())? > 0 {
            state = candidate;
        }
    }
    let status: Option<i32> = row.at("status")?;
    Ok(FailureGroup {
        state,
        count: row.number("n")?,
        flow: FlowName::new(row.at("flow")?).map_err(|_| damaged("flow"))?,
        connection: ConnectionName::new(row.at("connection")?).map_err(|_| damaged("connection"))?,
        step: row.text("step")?,
        action: row.text("action")?,
        class: Class::parse(row.at("class")?).ok_or_else(|| damaged("class"))?,
        status: status.map(|status| u16::try_from(status).map_err(|_| damaged("status"))).transpose()?,
        code: row.text_or_none("code")?,
        message: row.text("message")?,
        advice: row.text_or_none("advice")?,
        first_at: row.moment("first_at")?,
        last_at: row.moment("last_at")?,
        id: GroupId::from(id),
    })
}

/// Letters by descending moment.
pub(super) fn letters(selection: &Selection, from: &From) -> Query {
    let mut query = Query::new(format!("SELECT {SUMMARY} FROM ("));
    let of_all_groups = selection::is_of_all_groups(selection);
    match selection::kind(selection) {
        Kind::Named => {
            selection::push_named(&mut query, selection);
            query.push(") l ");
        }
        Kind::Groups | Kind::Since if of_all_groups => {
            // A range of `letters_state`, backwards.
            query.push("SELECT l.* FROM crossdock.letters l WHERE ");
            push_range(&mut query, selection, from);
            query.push(") l ");
        }
        Kind::Groups | Kind::Since => {
            // The newest of each group from its range of `letters_group`, the newest of those, and only then their rows.
            query.push("SELECT r.number FROM crossdock.failure_groups g CROSS JOIN LATERAL (SELECT l.number, l.failed_at");
            query.push(" FROM crossdock.letters l WHERE l.failure_group = g.number AND ");
            push_range(&mut query, selection, from);
            query.push(") r WHERE true");
            selection::push_group(&mut query, selection);
            query.push(" ORDER BY r.failed_at DESC, r.number DESC LIMIT ").push(from.limit + 1);
            query.push(") r JOIN crossdock.letters l USING (number) ");
        }
    }
    query.push("JOIN crossdock.failure_groups g ON g.number = l.failure_group JOIN crossdock.places p ON p.place = l.place");
    query.push(" WHERE true");
    if selection::kind(selection) == Kind::Named {
        selection::push_group(&mut query, selection);
        push_behind(&mut query, from);
    }
    query.push(" ORDER BY l.failed_at DESC, l.number DESC LIMIT ").push(from.limit + 1);
    query
}

/// Adds the conditions on letters with the end of the page before, in the order of lists.
fn push_range(query: &mut Query, selection: &Selection, from: &From) {
    selection::push(query, selection);
    push_behind(query, from);
    query.push(" ORDER BY l.failed_at DESC, l.number DESC LIMIT ").push(from.limit + 1);
}

fn push_behind(query: &mut Query, from: &From) {
    // A moment that nobody could have given out begins at the beginning, like the first page.
    if let Ok(last) = Timestamp::from_microsecond(from.last.0) {
        query.push(" AND (l.failed_at, l.number) < (").push_bind(at(last)).push(", ");
        query.push_bind(from.last.1).push(")");
    }
}

/// How many letters.
pub(super) fn count(selection: &Selection) -> Query {
    match selection::kind(selection) {
        Kind::Groups => {
            let sum = format!("SELECT coalesce(sum(g.{}), 0)::bigint", counter(selection));
            let mut query = Query::new(format!("{sum} FROM crossdock.failure_groups g WHERE true"));
            selection::push_group(&mut query, selection);
            query
        }
        Kind::Since if selection::is_of_all_groups(selection) => {
            // A range of `letters_state`, without touching the rows.
            let mut query = Query::new("SELECT count(*) FROM crossdock.letters l WHERE ");
            selection::push(&mut query, selection);
            query
        }
        Kind::Since => {
            // A range of `letters_group` for each group, without touching the rows.
            let mut query = Query::new(
                "SELECT coalesce(sum(c.n), 0)::bigint FROM crossdock.failure_groups g
                 CROSS JOIN LATERAL (SELECT count(*) AS n FROM crossdock.letters l WHERE l.failure_group = g.number AND ",
            );
            selection::push(&mut query, selection);
            query.push(") c WHERE true");
            selection::push_group(&mut query, selection);
            query
        }
        Kind::Named => {
            let mut query = Query::new("SELECT count(*) FROM (");
            selection::push_named(&mut query, selection);
            query.push(") l JOIN crossdock.failure_groups g ON g.number = l.failure_group WHERE true");
            selection::push_group(&mut query, selection);
            query
        }
    }
}
