//! Replays: dead letters are sent again.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{StatusCode, Uri},
};
use crossdock_core::{GroupId, NewReplay, PageRequest, ReplayState, Selection};
use crossdock_engine::ReplayChange;

use crate::{
    Answer, Api, Problem,
    act::{Touches, act},
    id::Id,
    json::{self, Fields},
    query,
    query::Query,
    selection,
};

/// `GET /v1/replays`: the newest first.
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    let mut query = Query::of(&uri)?;
    let page = query.page()?;
    query.finish()?;
    json::ok(&api.hub.stores().replays.list(page).await?)
}

/// `GET /v1/replays/{id}`
pub(crate) async fn show(State(api): State<Arc<Api>>, Id(id): Id, uri: Uri) -> Answer {
    query::none(&uri)?;
    let replay = api.hub.stores().replays.get(&id).await?;
    json::ok(&replay.ok_or_else(|| Problem::not_found("replay", &id))?)
}

/// `POST /v1/replays` with `{"selection": …, "rate": …, "reason": …}`: freezes the set and begins to send it.
pub(crate) async fn create(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let (headers, mut fields) = Fields::of(&api, request).await?;
    let selection = selection::of_fields(&mut fields)?;
    let rate = fields.rate("rate")?;
    let reason = fields.text("reason")?;
    fields.finish()?;
    let act = act(&headers, reason, Touches::by(&selection))?;
    let replay = api.hub.replay(NewReplay { selection, rate, test: false, act }).await?;
    let response = json::answer(StatusCode::ACCEPTED, &replay)?;
    Ok(json::located(response, &format!("/v1/replays/{}", replay.id)))
}

/// `PATCH /v1/replays/{id}` with `{"state": "paused", "running" or "cancelled", "reason": …}` or `{"rate": …, …}`
pub(crate) async fn change(State(api): State<Arc<Api>>, Id(id): Id, request: Request) -> Answer {
    let (headers, mut fields) = Fields::of(&api, request).await?;
    let has_rate = fields.has("rate");
    let state = fields.parsed("state", state)?;
    let rate = fields.rate("rate")?;
    let reason = fields.text("reason")?;
    fields.finish()?;
    let change = match (state, has_rate) {
        (Some(state), false) => ReplayChange::State(state),
        (None, true) => ReplayChange::Rate(rate),
        (Some(_), true) => {
            return Err(Problem::malformed("/rate", "change `state` or `rate`, one at a time"));
        }
        (None, false) => return Err(Problem::malformed("", "say what to change: `state` or `rate`")),
    };
    let act = act(&headers, reason, Touches::Many)?;
    json::ok(&api.hub.change_replay(&id, change, &act).await?)
}

/// `POST /v1/replay-tests` with `{"dead_letter": ID, "reason": …}` or `{"group": ID, …}` for the group's oldest open
/// one: sends it now and answers with the result of that try.
pub(crate) async fn test(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let (headers, mut fields) = Fields::of(&api, request).await?;
    let letter = fields.text("dead_letter")?;
    let group = fields.text("group")?;
    let reason = fields.text("reason")?;
    fields.finish()?;
    let letter = match (letter, group) {
        (Some(letter), None) => letter,
        (None, Some(group)) => oldest(&api, group).await?,
        _ => return Err(Problem::malformed("", "say which to send: `dead_letter` or `group`")),
    };
    let act = act(&headers, reason, Touches::One)?;
    json::ok(&api.hub.test_replay(&letter, &act).await?)
}

/// The open dead letter of the group that failed first: with it, the order within a key is kept. Lists begin with the newest,
/// so it stands at the end of the last page.
async fn oldest(api: &Api, group: String) -> Result<String, Problem> {
    let selection = Selection { groups: vec![GroupId::from(group.clone())], ..Selection::default() };
    let mut request = PageRequest::first(query::LIMIT_MAX);
    let mut oldest = None;
    loop {
        let page = api.hub.dead_letters().list(&selection, request).await?;
        oldest = page.items.into_iter().next_back().or(oldest);
        let Some(next) = page.next else { break };
        request = PageRequest { limit: query::LIMIT_MAX, cursor: Some(next) };
    }
    let oldest = oldest.ok_or_else(|| Problem::not_found("open dead letter in the failure group", &group))?;
    Ok(oldest.id)
}

fn state(name: &str) -> Result<ReplayState, String> {
    let state = ReplayState::parse(name);
    let settable = |state: &ReplayState| {
        matches!(state, ReplayState::Running | ReplayState::Paused | ReplayState::Cancelled)
    };
    state
        .filter(settable)
        .ok_or_else(|| "`state` can be set to `running`, `paused` or `cancelled`".to_owned())
}
