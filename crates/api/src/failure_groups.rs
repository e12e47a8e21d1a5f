//! Failure groups: dead letters with one cause.

use std::sync::Arc;

use axum::{extract::State, http::Uri};
use crossdock_core::{FailureGroup, GroupId, LetterState, LetterSummary, PageRequest, Selection, StoreError};
use serde::Serialize;

use crate::{Answer, Api, Problem, id::Id, json, query, query::Query, selection};

/// How many dead letters a group is shown with.
const SAMPLES: usize = 5;

/// A group with its newest dead letters in the state that it is shown in.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    group: FailureGroup,
    samples: Vec<LetterSummary>,
}

/// `GET /v1/failure-groups`: the largest first.
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    let mut query = Query::of(&uri)?;
    let selection = selection::of_query(&mut query)?;
    let page = query.page()?;
    query.finish()?;
    json::ok(&api.hub.dead_letters().groups(&selection, page).await?)
}

/// `GET /v1/failure-groups/{id}`: what is open of it, or else what is left of it.
pub(crate) async fn show(State(api): State<Arc<Api>>, Id(id): Id, uri: Uri) -> Answer {
    query::none(&uri)?;
    let states = [LetterState::Open, LetterState::Replaying, LetterState::Replayed, LetterState::Discarded];
    for state in states {
        let selection =
            Selection { groups: vec![GroupId::from(id.clone())], state: Some(state), ..Selection::default() };
        if let Some(group) = find(&api, &selection).await? {
            let page = PageRequest::first(SAMPLES);
            let samples = api.hub.dead_letters().list(&selection, page).await?.items;
            return json::ok(&Whole { group, samples });
        }
    }
    Err(Problem::not_found("failure group", &id))
}

async fn find(api: &Api, selection: &Selection) -> Result<Option<FailureGroup>, StoreError> {
    let groups = api.hub.dead_letters().groups(selection, PageRequest::first(1)).await?;
    Ok(groups.items.into_iter().find(|group| group.count > 0))
}
