//! Connections.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::Uri,
};
use crossdock_core::ConnectionState;
use crossdock_engine::ActError;

use crate::{
    Answer, Api, Problem,
    act::{Touches, act},
    id::Id,
    json::{self, Fields},
    query,
};

/// `GET /v1/connections`: every connection, in the order of the configuration.
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    query::none(&uri)?;
    json::all(api.hub.connections())
}

/// `GET /v1/connections/{name}`
pub(crate) async fn show(State(api): State<Arc<Api>>, Id(name): Id, uri: Uri) -> Answer {
    query::none(&uri)?;
    let found = api.hub.connections().into_iter().find(|connection| connection.name.as_str() == name);
    json::ok(&found.ok_or_else(|| unknown(&api, &name))?)
}

/// `PATCH /v1/connections/{name}` with `{"state": "paused" or "ok", "reason": …}`
pub(crate) async fn change(State(api): State<Arc<Api>>, Id(name): Id, request: Request) -> Answer {
    let (headers, mut fields) = Fields::of(&api, request).await?;
    let state = fields.parsed("state", state)?;
    let reason = fields.text("reason")?;
    fields.finish()?;
    let state = state.ok_or_else(|| Problem::malformed("/state", "`state` is required: `paused` or `ok`"))?;
    let act = act(&headers, reason, Touches::Many)?;
    let changed = api.hub.set_connection(&name, state, &act).await.map_err(|error| match error {
        ActError::NotFound { .. } => unknown(&api, &name),
        other => other.into(),
    })?;
    json::ok(&changed)
}

fn state(name: &str) -> Result<ConnectionState, String> {
    let state = ConnectionState::parse(name);
    let settable = |state: &ConnectionState| matches!(state, ConnectionState::Paused | ConnectionState::Ok);
    state.filter(settable).ok_or_else(|| "`state` can be set to `paused` or `ok`".to_owned())
}

fn unknown(api: &Api, name: &str) -> Problem {
    let connections = api.hub.connections();
    let known = connections.iter().map(|connection| connection.name.as_str());
    Problem::not_found("connection", name).known(name, known)
}
