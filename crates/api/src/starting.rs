//! A hub that is still starting: it waits for its servers, and says so to whoever asks.

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

use crate::{ApiOptions, Problem, body, front, health, problem::Kind};

/// What a server answers with. It may change while the server runs: connections that are made later get the new one.
#[derive(Clone)]
pub struct Doors(Arc<RwLock<Router>>);

impl Doors {
    /// Lets another router answer from now on.
    pub fn open(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = router;
    }

    pub(crate) fn router(&self) -> Router {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Router> for Doors {
    fn from(router: Router) -> Self {
        Self(Arc::new(RwLock::new(router)))
    }
}

/// The API of a hub that is not there yet: alive, not ready, and nothing else. `waits_for` says in words what it waits for.
/// Each answer ends its connection, so that the next request finds what is there by then.
pub fn starting(options: ApiOptions, waits_for: watch::Receiver<String>) -> Router {
    let front = middleware::from_fn_with_state(Arc::new(options), front::front);
    Router::new()
        .route("/health/live", get(health::live_without_a_hub))
        .fallback(not_yet)
        .layer(middleware::map_response(last_answer))
        .layer(front)
        .with_state(waits_for)
}

async fn not_yet(State(waits_for): State<watch::Receiver<String>>, request: Request) -> Problem {
    let (head, body) = request.into_parts();
    body::linger(&head.headers, body);
    let detail = waits_for.borrow().clone();
    Problem::new(Kind::STARTING, detail).private("the hub is starting; send it again later")
}

async fn last_answer(response: Response) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
