//! Events come in. This path is the hot one: the body is one buffer from the socket to the store, nothing is parsed twice,
//! nothing is logged.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use crossdock_core::{Event, Inbound, Malformed, PublishError, Published};
use crossdock_engine::{Answer as Taken, IntakeError};
use serde::Serialize;

use crate::{Answer, Api, Problem, body, id::Id, json, problem, problem::Shown};

/// What an event of a request costs in memory besides the bytes of the body, with its answer.
const EVENT_BYTES: usize = 512;

/// Refused events of a request that are told why; the others are named as refused.
const PROBLEMS_MAX: usize = 100;

/// `POST /in/{connection}`: a vendor's webhook, answered 202 after the durable commit.
pub(crate) async fn webhook(State(api): State<Arc<Api>>, Id(connection): Id, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    if let Err(problem) = api.hub.check_source(&connection).map_err(Problem::from).and_then(|()| api.admit())
    {
        body::linger(&head.headers, body);
        return Err(problem);
    }
    let taken = body::read(&api, &head.headers, body).await?;
    api.charge(1)?;
    let accepted = api.hub.accept(&connection, inbound(&head, &taken)).await;
    if matches!(accepted, Err(IntakeError::Refused(_))) {
        // What is not the vendor's must not use up what the vendor may send.
        api.give_back(1);
    }
    match accepted? {
        Taken::Taken { new, duplicates } => {
            json::answer(StatusCode::ACCEPTED, &Counts { accepted: new, duplicates })
        }
        Taken::Reply { status, content_type, body } => Ok(reply(status, content_type, body.into())),
    }
}

/// `POST /v1/topics/{topic}/events`: CloudEvents, with a result for each after the durable commit. 202 if all were taken,
/// 207 if some were, a problem if none was.
pub(crate) async fn events(State(api): State<Arc<Api>>, Id(topic): Id, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    if let Err(problem) = api.hub.check_topic(&topic).map_err(Problem::from).and_then(|()| api.admit()) {
        body::linger(&head.headers, body);
        return Err(problem);
    }
    let mut taken = body::read(&api, &head.headers, body).await?;
    let decoded = api.envelope.decode(&text(&head.headers), &taken.bytes)?;
    taken.grow(decoded.len() * EVENT_BYTES)?;
    api.charge(decoded.iter().filter(|event| event.is_ok()).count())?;
    let (mut slots, mut events) = (Vec::with_capacity(decoded.len()), Vec::with_capacity(decoded.len()));
    for event in decoded {
        slots.push(event.map(|event| {
            let id = event.id.clone();
            events.push(event);
            id
        }));
    }
    let published = publish(&api, &topic, events).await?;
    results(slots, published)
}

type Outcome = Result<Published, PublishError>;

async fn publish(api: &Api, topic: &str, events: Vec<Event>) -> Result<Vec<Outcome>, Problem> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    Ok(api.hub.publish(topic, events).await?)
}

impl Api {
    /// Lets a request in, or says when to come again.
    fn admit(&self) -> Result<(), Problem> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.check(Instant::now()))
    }

    /// Counts events that are about to be stored.
    fn charge(&self, events: usize) -> Result<(), Problem> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.charge(events, Instant::now()))
    }

    /// Takes back what was counted and was no event.
    fn give_back(&self, events: usize) {
        if let Some(rate) = &self.rate {
            rate.give_back(events);
        }
    }
}

fn inbound(head: &Parts, taken: &body::Taken) -> Inbound {
    let uri =
        head.uri.path_and_query().map_or_else(|| head.uri.path().to_owned(), |path| path.as_str().to_owned());
    Inbound {
        method: head.method.as_str().to_owned(),
        uri,
        headers: text(&head.headers),
        body: taken.bytes.clone(),
    }
}

/// Headers as text. Names are in lower case already; a value that is no UTF-8 is signed by nobody and means nothing.
fn text(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn reply(status: u16, content_type: &'static str, body: Body) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// What a webhook is answered.
#[derive(Serialize)]
struct Counts {
    accepted: usize,
    duplicates: usize,
}

/// What became of one event of a request.
#[derive(Serialize)]
struct Item<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// `accepted`, `duplicate` or `refused`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Shown<'a>>,
}

#[derive(Serialize)]
struct Items<'a> {
    items: &'a [Item<'a>],
    /// Refused events whose `problem` is left out, since the problems of [`PROBLEMS_MAX`] stand before theirs.
    #[serde(skip_serializing_if = "problem::is_zero")]
    problems_left_out: usize,
}

/// The answer for events, in the order of the request: `slots` has their ids, or why they are none.
fn results(slots: Vec<Result<String, Malformed>>, published: Vec<Outcome>) -> Answer {
    let mut published = published.into_iter();
    let mut refused = 0;
    let slots: Vec<_> = slots
        .into_iter()
        .map(|slot| {
            let (id, outcome) = match slot {
                Err(malformed) => (None, Err(Problem::from(malformed))),
                Ok(id) => {
                    let outcome = published.next().unwrap_or(Err(PublishError::Unknown));
                    (Some(id), outcome.map_err(Problem::from))
                }
            };
            refused += usize::from(outcome.is_err());
            (id, outcome.map_err(|problem| (refused <= PROBLEMS_MAX).then_some(problem)))
        })
        .collect();
    let items: Vec<_> = slots.iter().map(|(id, outcome)| item(id.as_deref(), outcome)).collect();
    let left_out = refused.saturating_sub(PROBLEMS_MAX);
    let results = Items { items: &items, problems_left_out: left_out };
    match slots.iter().find_map(|(_, outcome)| outcome.as_ref().err()).and_then(Option::as_ref) {
        None => json::answer(StatusCode::ACCEPTED, &results),
        Some(first) if refused == slots.len() => Err(first.clone().with_items(&items, left_out)),
        Some(_) => json::answer(StatusCode::MULTI_STATUS, &results),
    }
}

fn item<'a>(id: Option<&'a str>, outcome: &'a Result<Published, Option<Problem>>) -> Item<'a> {
    let (status, problem) = match outcome {
        Ok(Published::New(_)) => ("accepted", None),
        Ok(Published::Duplicate) => ("duplicate", None),
        Err(problem) => ("refused", problem.as_ref().map(|problem| problem.show(None))),
    };
    Item { id, status, problem }
}
