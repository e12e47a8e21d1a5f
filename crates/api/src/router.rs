//! Which path goes where.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    middleware,
    response::Response,
    routing::{get, post},
};
use crossdock_core::Envelope;
use crossdock_engine::Hub;
use tokio::sync::Semaphore;

use crate::{
    ApiOptions, Problem,
    budget::Budget,
    connections, dead_letters, events, failure_groups, flows, front,
    health::{self, Pulse},
    home, intake, moments, outbox,
    problem::Kind,
    problem::shown,
    rate::Rate,
    replay_plans, replays,
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
    pub(crate) pulse: Pulse,
}

/// The API of a hub. `envelope` reads the events that are posted to topics and writes those that are shown.
pub fn router(hub: Arc<Hub>, envelope: Arc<dyn Envelope>, options: ApiOptions) -> Router {
    let api = Arc::new(Api {
        hub,
        envelope,
        budget: Budget::new(options.bodies_bytes_max),
        rate: options.rate.map(|rate| Rate::new(rate, Instant::now())),
        receivers: Arc::new(Semaphore::new(options.receivers_max)),
        pulse: Pulse::default(),
        options,
    });
    let front = middleware::from_fn_with_state(Arc::new(api.options.clone()), front::front);
    let mut router =
        Router::new().route("/health/live", get(health::live)).route("/health/ready", get(health::ready));
    if api.options.serves.intake {
        router = router
            .route("/in/{connection}", post(intake::webhook))
            .route("/v1/topics/{topic}/events", post(intake::events));
    }
    if api.options.serves.resources {
        router = router.nest("/v1", resources()).route("/", get(home::page));
    }
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method).layer(front).with_state(api)
}

fn resources() -> Router<Arc<Api>> {
    Router::new()
        .route("/status", get(health::status))
        .route("/outbox", get(outbox::show))
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

async fn unknown_path(State(api): State<Arc<Api>>, request: Request) -> Problem {
    let path = request.uri().path();
    let role = match path {
        _ if !api.options.serves.intake && is_intake(path) => " on a worker without the role `ingest`",
        _ if !api.options.serves.resources && !is_intake(path) => " on a worker without the role `api`",
        _ => "",
    };
    Problem::new(Kind::NOT_FOUND, format!("there is nothing at `{}`{role}", shown(path)))
}

fn is_intake(path: &str) -> bool {
    path.starts_with("/in/") || path.starts_with("/v1/topics/")
}

async fn wrong_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(Kind::METHOD, format!("`{}` does not take {}", shown(path), shown(method.as_str())))
}
