//! The outbox: how far the relay is.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::Uri};
use tokio::time::timeout;

use crate::{Answer, Api, Problem, json, problem::Kind, query};

/// How long the store may take to count what waits.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

/// `GET /v1/outbox`
pub(crate) async fn show(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    query::none(&uri)?;
    let Some(log) = &api.hub.stores().outbox_log else {
        let detail = "there is no outbox beside the broker: the log of the embedded broker is the outbox";
        return Err(Problem::new(Kind::NOT_FOUND, detail));
    };
    match timeout(COUNTED_WITHIN, log.status()).await {
        Ok(status) => json::ok(&status?),
        Err(_) => Err(Problem::new(Kind::UNAVAILABLE, "the store does not answer")),
    }
}
