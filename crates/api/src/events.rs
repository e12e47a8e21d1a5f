//! The events that came in.

use std::sync::Arc;

use axum::{extract::State, http::Uri};
use crossdock_core::{EventSummary, Topic};
use crossdock_engine::{DeliveryView, EventView};
use serde::Serialize;
use serde_json::Value;

use crate::{Answer, Api, Problem, id::Id, json, query::Query};

/// An event, whole, with where it stands in each flow.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    summary: EventSummary,
    cloudevent: Value,
    deliveries: &'a [DeliveryView],
    /// Other events with the same id, of another source or topic.
    others: Vec<EventSummary>,
}

/// `GET /v1/events`: the newest first, of one `topic` or of all.
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    let mut query = Query::of(&uri)?;
    let topic = query.parsed("topic", topic)?;
    let page = query.page()?;
    query.finish()?;
    let page = api.hub.stores().event_log.list(topic.as_ref(), page).await?;
    json::ok(&json::List { items: &page.items, next: page.next.as_deref() })
}

/// `GET /v1/events/{id}`: the newest event of that id, of one `topic` and `source` if the query says so.
pub(crate) async fn show(State(api): State<Arc<Api>>, Id(id): Id, uri: Uri) -> Answer {
    let mut query = Query::of(&uri)?;
    let topic = query.parsed("topic", topic)?;
    let source = query.one("source")?;
    query.finish()?;
    let meant = |view: &EventView| {
        let logged = &view.logged;
        topic.as_ref().is_none_or(|topic| *topic == logged.topic)
            && source.as_ref().is_none_or(|source| *source == logged.event.source)
    };
    let views: Vec<_> = api.hub.events(&id).await?.into_iter().filter(meant).collect();
    let Some((EventView { logged, deliveries }, others)) = views.split_first() else {
        return Err(Problem::not_found("event", &id));
    };
    json::ok(&Whole {
        summary: logged.into(),
        cloudevent: api.envelope.encode(&logged.event),
        deliveries,
        others: others.iter().map(|other| EventSummary::from(&other.logged)).collect(),
    })
}

fn topic(name: &str) -> Result<Topic, String> {
    Topic::new(name).map_err(|error| error.to_string())
}
