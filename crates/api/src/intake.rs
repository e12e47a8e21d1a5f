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
use crossdock_engine::Answer as Taken;
use serde::Serialize;

use crate::{Answer, Api, Problem, body, id::Id, json, problem::Shown};

/// `POST /in/{connection}`: a vendor's webhook, answered 202 after the durable commit.
pub(crate) async fn webhook(State(api): State<Arc<Api>>, Id(connection): Id, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    if let Err(problem) = api.hub.check_source(&connection).map_err(Problem::from).and_then(|()| api.admit())
    {
        body::linger(&head.headers, body);
        return Err(problem);
    }
    let taken = body::read(&api, &head.headers, body).await?;
    match api.hub.accept(&connection, inbound(&head, &taken)).await? {
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
    let taken = body::read(&api, &head.headers, body).await?;
    let decoded = api.envelope.decode(&text(&head.headers), &taken.bytes)?;
    api.charge(decoded.len().saturating_sub(1));
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
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(Instant::now()))
    }

    /// Counts the further events of a batch.
    fn charge(&self, events: usize) {
        if let Some(rate) = &self.rate {
            rate.charge(events);
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
}

/// The answer for events, in the order of the request: `slots` has their ids, or why they are none.
fn results(slots: Vec<Result<String, Malformed>>, published: Vec<Outcome>) -> Answer {
    let mut published = published.into_iter();
    let slots: Vec<_> = slots
        .into_iter()
        .map(|slot| match slot {
            Err(malformed) => (None, Err(Problem::from(malformed))),
            Ok(id) => {
                let outcome = published.next().unwrap_or(Err(PublishError::Unknown));
                (Some(id), outcome.map_err(Problem::from))
            }
        })
        .collect();
    let items: Vec<_> = slots.iter().map(|(id, outcome)| item(id.as_deref(), outcome)).collect();
    let refused = slots.iter().filter(|(_, outcome)| outcome.is_err()).count();
    let none_taken = refused == slots.len();
    match slots.iter().find_map(|(_, outcome)| outcome.as_ref().err()) {
        None => json::answer(StatusCode::ACCEPTED, &Items { items: &items }),
        Some(first) if none_taken => Err(first.clone().with_items(&items)),
        Some(_) => json::answer(StatusCode::MULTI_STATUS, &Items { items: &items }),
    }
}

fn item<'a>(id: Option<&'a str>, outcome: &'a Result<Published, Problem>) -> Item<'a> {
    let (status, problem) = match outcome {
        Ok(Published::New(_)) => ("accepted", None),
        Ok(Published::Duplicate) => ("duplicate", None),
        Err(problem) => ("refused", Some(problem.show(None))),
    };
    Item { id, status, problem }
}
