//! Selections of dead letters as conditions of a statement.

use crossdock_core::{LetterState, Selection};
use sqlx::{QueryBuilder, Sqlite};

use crate::{catalog::Catalog, letters::state_number, place::nanoseconds};

/// Adds the conditions of a selection on `letters l` and `failure_groups g`, beginning with `state`.
pub(crate) fn push(query: &mut QueryBuilder<Sqlite>, selection: &Selection, catalog: &Catalog) {
    query.push("l.state = ").push_bind(state_number(selection.state.unwrap_or(LetterState::Open)));
    push_texts(query, "l.id", selection.ids.iter().map(String::as_str));
    push_texts(query, "l.event_id", selection.events.iter().map(String::as_str));
    if let [group] = selection.groups.as_slice() {
        // The usual question: answered by the index of the group's letters, in the order of lists.
        query.push(" AND l.failure_group = (SELECT number FROM failure_groups WHERE id = ");
        query.push_bind(group.as_str().to_owned()).push(")");
    }
    if let Some(since) = selection.since {
        query.push(" AND l.failed_at >= ").push_bind(nanoseconds(since));
    }
    push_group(query, selection, catalog);
}

/// Adds the conditions of a selection on `failure_groups g`, each behind an `AND`.
pub(crate) fn push_group(query: &mut QueryBuilder<Sqlite>, selection: &Selection, catalog: &Catalog) {
    push_texts(query, "g.id", selection.groups.iter().map(|group| group.as_str()));
    if let Some(flow) = &selection.flow {
        // No row has the number -1: nothing ever failed in that flow.
        query.push(" AND g.flow = ").push_bind(catalog.flow(flow).unwrap_or(-1));
    }
    if let Some(connection) = &selection.connection {
        query.push(" AND g.connection = ").push_bind(connection.as_str().to_owned());
    }
    if let Some(class) = selection.class {
        query.push(" AND g.class = ").push_bind(class.as_str());
    }
}

fn push_texts<'a>(query: &mut QueryBuilder<Sqlite>, column: &str, texts: impl Iterator<Item = &'a str>) {
    let texts: Vec<&str> = texts.collect();
    if !texts.is_empty() {
        let list = serde_json::to_string(&texts).expect("texts are JSON");
        query.push(format!(" AND {column} IN (SELECT value FROM json_each(")).push_bind(list).push("))");
    }
}

/// Whether the group's own counters answer for the selection: it asks for nothing finer than a group.
pub(crate) fn is_whole_groups(selection: &Selection) -> bool {
    selection.ids.is_empty() && selection.events.is_empty() && selection.since.is_none()
}
