//! Dead letters.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::Uri,
};
use crossdock_core::{
    Attempt, Class, ConnectionName, DeadLetter, Envelope, FlowName, GroupId, LetterState, Position,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Answer, Api, Problem,
    act::{Touches, act},
    id::Id,
    json::{self, Fields},
    payload, query,
    query::Query,
    selection,
};

/// A dead letter, whole. Fields that a list has too have the same names; `attempts` are the tries themselves.
#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    state: LetterState,
    group: &'a GroupId,
    event: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    key: Option<&'a str>,
    flow: &'a FlowName,
    step: &'a str,
    connection: &'a ConnectionName,
    action: &'a str,
    class: Class,
    status: Option<u16>,
    code: Option<&'a str>,
    message: &'a str,
    reason: &'a str,
    advice: Option<&'a str>,
    replays: u32,
    failed_at: Timestamp,
    idempotency_key: &'a str,
    position: &'a Position,
    attempts: &'a [Attempt],
    cloudevent: Value,
    request: Option<Value>,
}

impl<'a> Whole<'a> {
    fn of(letter: &'a DeadLetter, envelope: &dyn Envelope) -> Self {
        Self {
            id: &letter.id,
            state: letter.state,
            group: &letter.group,
            event: &letter.event.id,
            kind: &letter.event.kind,
            key: letter.key.as_deref(),
            flow: &letter.flow,
            step: &letter.step,
            connection: &letter.connection,
            action: &letter.action,
            class: letter.class,
            status: letter.status,
            code: letter.code.as_deref(),
            message: &letter.message,
            reason: &letter.reason,
            advice: letter.advice.as_deref(),
            replays: letter.replays,
            failed_at: letter.failed_at,
            idempotency_key: &letter.idempotency_key,
            position: &letter.position,
            attempts: &letter.attempts,
            cloudevent: envelope.encode(&letter.event),
            request: letter.request.as_ref().map(|request| payload::request(request, envelope)),
        }
    }
}

/// `GET /v1/dead-letters`: the newest first.
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    let mut query = Query::of(&uri)?;
    let selection = selection::of_query(&mut query)?;
    let page = query.page()?;
    query.finish()?;
    json::ok(&api.hub.dead_letters().list(&selection, page).await?)
}

/// `GET /v1/dead-letters/{id}`, by its own id or by that of its event.
pub(crate) async fn show(State(api): State<Arc<Api>>, Id(id): Id, uri: Uri) -> Answer {
    query::none(&uri)?;
    let letter = api.hub.dead_letters().get(&id).await?;
    let letter = letter.ok_or_else(|| Problem::not_found("dead letter", &id))?;
    json::ok(&Whole::of(&letter, api.envelope.as_ref()))
}

/// `POST /v1/dead-letters/discards` with `{"selection": …, "reason": …}`
pub(crate) async fn discard(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let (headers, mut fields) = Fields::of(&api, request).await?;
    let selection = selection::of_fields(&mut fields)?;
    let reason = fields.text("reason")?;
    fields.finish()?;
    let act = act(&headers, reason, Touches::by(&selection))?;
    let discarded = api.hub.dead_letters().discard(&selection, &act).await?;
    json::ok(&json!({ "discarded": discarded }))
}
