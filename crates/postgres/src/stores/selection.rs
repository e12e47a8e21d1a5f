//! Selections of dead letters as conditions of a statement.

use crossdock_core::{LetterState, Selection, hash_key};
use sqlx::{Postgres, QueryBuilder};

use super::{
    letter::state_number,
    rows::{at, texts},
};

/// What a selection asks for, and so where its letters are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing finer than a group: the counters of the groups answer for it.
    Groups,
    /// Groups, from a moment on.
    Since,
    /// Some letters or events by name: few, and found by `letters_id` or `letters_event`.
    Named,
}

/// The kind of a selection.
pub(super) fn kind(selection: &Selection) -> Kind {
    if !selection.ids.is_empty() || !selection.events.is_empty() {
        Kind::Named
    } else if selection.since.is_some() {
        Kind::Since
    } else {
        Kind::Groups
    }
}

/// Whether it asks for all groups.
pub(super) fn is_of_all_groups(selection: &Selection) -> bool {
    let Selection { groups, flow, connection, class, .. } = selection;
    groups.is_empty() && flow.is_none() && connection.is_none() && class.is_none()
}

/// The state that a selection asks for.
pub(super) fn state(selection: &Selection) -> LetterState {
    selection.state.unwrap_or(LetterState::Open)
}

/// Adds the conditions of a selection on `letters l`, beginning with `state`.
pub(super) fn push(query: &mut QueryBuilder<Postgres>, selection: &Selection) {
    query.push("l.state = ").push_bind(state_number(state(selection)));
    if !selection.ids.is_empty() {
        let ids = texts(selection.ids.iter().map(String::as_str));
        query.push(" AND l.id = ANY (").push_bind(ids).push(")");
    }
    if !selection.events.is_empty() {
        let hashes: Vec<i64> = selection.events.iter().map(|event| hash_key(event) as i64).collect();
        let events = texts(selection.events.iter().map(String::as_str));
        query.push(" AND l.event_hash = ANY (").push_bind(hashes);
        query.push(") AND l.event_id = ANY (").push_bind(events).push(")");
    }
    if let Some(since) = selection.since {
        query.push(" AND l.failed_at >= ").push_bind(at(since));
    }
}

/// Adds the conditions of a selection on `failure_groups g`, each behind an `AND`.
pub(super) fn push_group(query: &mut QueryBuilder<Postgres>, selection: &Selection) {
    if !selection.groups.is_empty() {
        let groups = texts(selection.groups.iter().map(|group| group.as_str()));
        query.push(" AND g.id = ANY (").push_bind(groups).push(")");
    }
    if let Some(flow) = &selection.flow {
        query.push(" AND g.flow = ").push_bind(flow.as_str());
    }
    if let Some(connection) = &selection.connection {
        query.push(" AND g.connection = ").push_bind(connection.as_str());
    }
    if let Some(class) = selection.class {
        query.push(" AND g.class = ").push_bind(class.as_str());
    }
}

/// Adds a query of the numbers, groups and states of the letters of a selection that names some: they are looked up before
/// anything else is, whatever the planner thinks of it.
pub(super) fn push_named(query: &mut QueryBuilder<Postgres>, selection: &Selection) {
    query.push("SELECT l.* FROM crossdock.letters l WHERE ");
    push(query, selection);
    query.push(" OFFSET 0");
}

/// A selection as it is kept.
pub(super) fn json(selection: &Selection) -> String {
    serde_json::to_string(selection).expect("a selection is texts and times")
}
