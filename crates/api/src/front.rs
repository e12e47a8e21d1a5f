//! What happens to every request before and after its handler.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;

use crate::{
    ApiOptions, Problem, body,
    guard::{self, Caller},
    problem::Kind,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Checks the head, runs the handler, and writes problems out.
pub(crate) async fn front(State(options): State<Arc<ApiOptions>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    match guard::check(request.method(), request.uri(), request.headers(), &options) {
        Ok(caller) => finish(run(next, request, &id).await, id, caller),
        Err(problem) => {
            let (head, body) = request.into_parts();
            body::linger(&head.headers, body);
            finish(problem.into_response(), id, Caller::Stranger)
        }
    }
}

/// A handler that panics fails its own request and no other on the connection.
async fn run(next: Next, request: Request, id: &HeaderValue) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(request_id = ?id, "a request met a bug of the hub; its place is on the standard error");
            Problem::new(Kind::INTERNAL, "the hub met a bug of its own").into_response()
        }
    }
}

fn finish(mut response: Response, id: HeaderValue, caller: Caller) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let problem = if caller == Caller::Trusted { problem } else { problem.for_strangers() };
        let shown = problem.show(id.to_str().ok());
        // Text, numbers and what was JSON before: this cannot fail.
        *response.body_mut() = Body::from(serde_json::to_vec(&shown).unwrap_or_default());
        response.headers_mut().remove(header::CONTENT_LENGTH);
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The client's id of the request if it sent one that can be shown, or else one of ours.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fits = |id: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    headers.get(REQUEST_ID).filter(fits).cloned().unwrap_or_else(new_id)
}

/// Unique over restarts by its first half, within a process by its second: no random number for each request.
fn new_id() -> HeaderValue {
    static PROCESS: LazyLock<u32> = LazyLock::new(|| uuid::Uuid::new_v4().as_fields().0);
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let id = format!("{:08x}-{}", *PROCESS, REQUESTS.fetch_add(1, Ordering::Relaxed));
    HeaderValue::try_from(id).expect("digits and a dash are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &'static str) -> HeaderValue {
        request_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(sent))]))
    }

    #[test]
    fn a_clients_id_is_kept_if_it_can_be_shown() {
        assert_eq!(id_for("req_7Qp"), "req_7Qp");
        for refused in ["", "two words", "tab\there"] {
            assert_ne!(id_for(refused), refused);
        }
        let long = HeaderValue::try_from("x".repeat(129)).unwrap();
        assert_ne!(request_id(&HeaderMap::from_iter([(REQUEST_ID, long.clone())])), long);
    }

    #[test]
    fn no_two_ids_are_the_same() {
        assert_ne!(new_id(), new_id());
    }
}
