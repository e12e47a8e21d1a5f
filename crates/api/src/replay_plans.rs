//! What a replay would come to.

use std::sync::Arc;

use axum::extract::{Request, State};
use crossdock_core::{FailureGroup, PageRequest, Selection, StoreError};
use serde_json::json;

use crate::{
    Answer, Api,
    json::{self, Fields},
    selection,
};

/// Groups read at a time.
const PAGE: usize = 1000;

/// `POST /v1/replay-plans` with `{"selection": …, "rate": …}`: changes nothing.
pub(crate) async fn plan(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let (_, mut fields) = Fields::of(&api, request).await?;
    let selection = selection::of_fields(&mut fields)?;
    let rate = fields.rate("rate")?;
    fields.finish()?;
    let count = api.hub.dead_letters().count(&selection).await?;
    let groups = groups(&api, &selection).await?;
    let estimate_seconds = rate.map(|rate| count as f64 / rate);
    json::ok(&json!({
        "selection": selection,
        "count": count,
        "groups": groups,
        "rate": rate,
        "estimate_seconds": estimate_seconds,
    }))
}

/// Every group of the selection. There are as many as causes, not as dead letters.
async fn groups(api: &Api, selection: &Selection) -> Result<Vec<FailureGroup>, StoreError> {
    let mut groups = Vec::new();
    let mut request = PageRequest::first(PAGE);
    loop {
        let page = api.hub.dead_letters().groups(selection, request).await?;
        groups.extend(page.items);
        let Some(next) = page.next else { return Ok(groups) };
        request = PageRequest { limit: PAGE, cursor: Some(next) };
    }
}
