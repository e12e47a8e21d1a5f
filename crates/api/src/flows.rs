//! Flows.

use std::sync::Arc;

use axum::{extract::State, http::Uri};

use crate::{Answer, Api, json, query};

/// `GET /v1/flows`: every flow, in the order of the configuration.
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    query::none(&uri)?;
    json::all(api.hub.flows().await?)
}
