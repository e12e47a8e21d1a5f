//! Probes of orchestrators, and the hub at a glance.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::Uri};
use serde_json::json;
use tokio::time::timeout;

use crate::{Answer, Api, Problem, json, problem::Kind, query};

/// How long the store may take to answer a probe.
const STORE_WITHIN: Duration = Duration::from_secs(2);

/// `GET /health/live`: the process answers.
pub(crate) async fn live() -> Answer {
    json::ok(&json!({ "status": "live" }))
}

/// `GET /health/ready`: events are taken in, as far as the store knows without trying.
pub(crate) async fn ready(State(api): State<Arc<Api>>) -> Answer {
    if api.hub.is_stopping() {
        return Err(Problem::new(Kind::STOPPING, "the hub is stopping"));
    }
    if let Some(why) = api.hub.stores().outbox.refusal() {
        return Err(crossdock_core::PublishError::Unavailable(why).into());
    }
    match timeout(STORE_WITHIN, api.hub.stores().connections.load()).await {
        Ok(answered) => drop(answered?),
        Err(_) => return Err(Problem::new(Kind::UNAVAILABLE, "the store does not answer")),
    }
    json::ok(&json!({ "status": "ready" }))
}

/// `GET /v1/status`
pub(crate) async fn status(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    query::none(&uri)?;
    json::ok(&api.hub.status().await?)
}
