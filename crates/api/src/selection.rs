//! Which dead letters a request means.

use crossdock_core::{Class, ConnectionName, FlowName, GroupId, LetterState, Selection};
use jiff::Timestamp;

use crate::{Problem, json::Fields, query::Query};

/// The selection of a list's query: `group`, `id` and `event` may be there many times.
pub(crate) fn of_query(query: &mut Query) -> Result<Selection, Problem> {
    Ok(Selection {
        groups: query.all("group").into_iter().map(GroupId::from).collect(),
        ids: query.all("id"),
        events: query.all("event"),
        flow: query.parsed("flow", flow)?,
        connection: query.parsed("connection", connection)?,
        class: query.parsed("class", class)?,
        state: query.parsed("state", state)?,
        since: query.parsed("since", since)?,
    })
}

/// The `selection` of an act on dead letters. It must be there, so that leaving it out by mistake does not mean all;
/// `{}` does. Acts are for open dead letters only.
pub(crate) fn of_fields(fields: &mut Fields) -> Result<Selection, Problem> {
    let Some(mut fields) = fields.object("selection")? else {
        let detail = "`selection` is required; `{}` means every open dead letter";
        return Err(Problem::malformed(fields.place("selection"), detail));
    };
    let selection = Selection {
        groups: fields.texts("groups")?.into_iter().map(GroupId::from).collect(),
        ids: fields.texts("ids")?,
        events: fields.texts("events")?,
        flow: fields.parsed("flow", flow)?,
        connection: fields.parsed("connection", connection)?,
        class: fields.parsed("class", class)?,
        state: fields.parsed("state", open)?,
        since: fields.parsed("since", since)?,
    };
    fields.finish()?;
    Ok(selection)
}

/// Whether a selection can mean more than one dead letter.
pub(crate) fn is_many(selection: &Selection) -> bool {
    selection.ids.len() != 1
}

fn flow(name: &str) -> Result<FlowName, String> {
    FlowName::new(name).map_err(|error| error.to_string())
}

fn connection(name: &str) -> Result<ConnectionName, String> {
    ConnectionName::new(name).map_err(|error| error.to_string())
}

fn class(name: &str) -> Result<Class, String> {
    Class::parse(name).ok_or_else(|| {
        "`class` is one of transient, throttled, auth_expired, auth_broken, rejected, already_done, ambiguous, bug"
            .to_owned()
    })
}

fn state(name: &str) -> Result<LetterState, String> {
    LetterState::parse(name)
        .ok_or_else(|| "`state` is one of open, replaying, replayed, discarded".to_owned())
}

fn open(name: &str) -> Result<LetterState, String> {
    let open = LetterState::parse(name).filter(|state| *state == LetterState::Open);
    open.ok_or_else(|| "only `open` dead letters can be replayed or discarded".to_owned())
}

fn since(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "`since` is a moment such as `2026-11-23T02:00:00Z`".to_owned())
}
