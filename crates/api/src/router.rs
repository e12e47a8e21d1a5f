//! Which path goes where.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::Request,
    middleware,
    response::Response,
    routing::{get, post},
};
use crossdock_core::Envelope;
use crossdock_engine::Hub;
use tokio::sync::Semaphore;

use crate::{
    ApiOptions, Problem, budget::Budget, connections, dead_letters, events, failure_groups, flows, front,
    health, home, intake, moments, problem::Kind, problem::shown, rate::Rate, replay_plans, replays,
};

/// What a handler answers.
pub(crate) type Answer = Result<Response, Problem>;

/// What handlers work with.
pub(crate) struct Api {
    pub(crate) hub: Arc<Hub>,
    pub(crate) envelope: Arc<dyn Envelope>,
    pub(crate) options: ApiOptions,
    pub(crate) budget: Arc<Budget>,
    pub(crate) rate: Option<Rate>,
    pub(crate) receivers: Arc<Semaphore>,
}

/// The API of a hub. `envelope` reads the events that are posted to topics and writes those that are shown.
pub fn router(hub: Arc<Hub>, envelope: Arc<dyn Envelope>, options: ApiOptions) -> Router {
    let api = Arc::new(Api {
        hub,
        envelope,
        budget: Budget::new(options.bodies_bytes_max),
        rate: options.rate.map(|rate| Rate::new(rate, Instant::now())),
        receivers: Arc::new(Semaphore::new(options.receivers_max)),
        options,
    });
    let front = middleware::from_fn_with_state(api.clone(), front::front);
    Router::new()
        .route("/in/{connection}", post(intake::webhook))
        .nest("/v1", resources())
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/", get(home::page))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(front)
        .with_state(api)
}

fn resources() -> Router<Arc<Api>> {
    Router::new()
        .route("/topics/{topic}/events", post(intake::events))
        .route("/status", get(health::status))
        .route("/flows", get(flows::list))
        .route("/connections", get(connections::list))
        .route("/connections/{name}", get(connections::show).patch(connections::change))
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::show))
        .route("/failure-groups", get(failure_groups::list))
        .route("/failure-groups/{id}", get(failure_groups::show))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/discards", post(dead_letters::discard))
        .route("/dead-letters/{id}", get(dead_letters::show))
        .route("/replay-plans", post(replay_plans::plan))
        .route("/replay-tests", post(replays::test))
        .route("/replays", get(replays::list).post(replays::create))
        .route("/replays/{id}", get(replays::show).patch(replays::change))
        .route("/moments", get(moments::stream))
}

async fn unknown_path(request: Request) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("there is nothing at `{}`", shown(request.uri().path())))
}

async fn wrong_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(Kind::METHOD, format!("`{}` does not take {}", shown(path), shown(method.as_str())))
}
