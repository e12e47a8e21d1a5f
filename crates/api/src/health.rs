//! Probes of orchestrators, and the hub at a glance.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{extract::State, http::Uri};
use crossdock_engine::Status;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{Answer, Api, Problem, Worker, json, problem::Kind, query};

/// How long the store may take to answer a probe.
const STORE_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer of the store counts.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// `GET /health/live` of a hub that is starting: the process answers.
pub(crate) async fn live_without_a_hub() -> Answer {
    json::ok(&json!({ "status": "live" }))
}

/// `GET /health/live`: the process answers, and nothing of its work has ended or stands still by an error of ours, which only
/// another process would mend. Servers that are away are no reason.
pub(crate) async fn live(State(api): State<Arc<Api>>) -> Answer {
    let broken = api.hub.broken();
    if broken.is_empty() {
        return live_without_a_hub().await;
    }
    Err(Problem::new(Kind::INTERNAL, broken.join("; ")).private("the hub does not work as it should"))
}

/// `GET /health/ready`: the worker can do what it is there for, and the store has answered within the last ten seconds. One
/// that takes events in is ready as long as it can, whatever else is away.
pub(crate) async fn ready(State(api): State<Arc<Api>>) -> Answer {
    if api.hub.is_stopping() {
        return Err(Problem::new(Kind::STOPPING, "the hub is stopping"));
    }
    if let Some(why) = api.hub.stores().outbox.refusal().filter(|_| api.options.serves.intake) {
        return Err(crossdock_core::PublishError::Unavailable(why).into());
    }
    if let Some(why) = api.hub.unready() {
        return Err(Problem::new(Kind::UNREADY, why).private("the worker cannot do its work at this moment"));
    }
    let answered = match timeout(STORE_WITHIN, api.hub.stores().connections.load()).await {
        Ok(answer) => answer.map(drop).map_err(Problem::from),
        Err(_) => Err(Problem::new(Kind::UNAVAILABLE, "the store does not answer")),
    };
    api.pulse.felt(answered)?;
    json::ok(&json!({ "status": "ready" }))
}

/// When the store was heard of last. One lost answer makes no worker unready, whose load the others would have to take.
#[derive(Default)]
pub(crate) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// Keeps a good answer for a while; a bad one counts once there is none.
    fn felt(&self, answered: Result<(), Problem>) -> Result<(), Problem> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Ok(()) => *last = Some(Instant::now()),
            Err(_) if last.is_some_and(|last| last.elapsed() < HEARD_WITHIN) => {}
            Err(problem) => return Err(problem),
        }
        Ok(())
    }
}

/// The hub at a glance, with who answers.
#[derive(Serialize)]
struct Glance<'a> {
    #[serde(flatten)]
    status: Status,
    worker: &'a Worker,
}

/// `GET /v1/status`
pub(crate) async fn status(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    query::none(&uri)?;
    json::ok(&Glance { status: api.hub.status().await?, worker: &api.options.worker })
}
