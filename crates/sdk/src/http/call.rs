//! One call and its answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Client, transport};
use crate::Fault;

/// One request.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Every header but those that follow from the body.
    pub headers: HeaderMap,
    /// The body; none for methods that have none.
    pub body: Option<Bytes>,
    /// How long the whole call may take.
    pub timeout: Duration,
    /// Whether the call may be made again when nobody knows whether it happened.
    pub repeatable: bool,
}

/// What was answered, whatever the status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body, at most [`Answer::BODY_BYTES_MAX`] bytes; less if it stopped coming.
    pub body: Bytes,
}

impl Answer {
    /// The most bytes that are read of a body: enough for every error message, too little to be flooded with.
    pub const BODY_BYTES_MAX: usize = 64 << 10;

    /// How long a successful answer's body is waited for. The status has said everything; the body is read only so that
    /// the connection can be used again.
    const SUCCESS_BODY_WAIT: Duration = Duration::from_secs(1);
}

impl Client {
    /// Makes the call. Every status is an answer; a fault says that there was none.
    ///
    /// **Cancellation**: dropping the future closes the connection and leaves it open whether the call happened.
    pub async fn send(&self, call: Call) -> Result<Answer, Fault> {
        self.guard.check_url(&call.url).map_err(transport::refused)?;
        let (deadline, timeout, repeatable) = (Instant::now() + call.timeout, call.timeout, call.repeatable);
        let mut request = reqwest::Request::new(call.method, call.url);
        *request.headers_mut() = call.headers;
        *request.body_mut() = call.body.map(reqwest::Body::from);
        match timeout_at(deadline, self.inner.execute(request)).await {
            Ok(Ok(response)) => Ok(read(response, deadline).await),
            Ok(Err(error)) => Err(transport::failed(error, repeatable)),
            Err(_) => Err(transport::timed_out(timeout, repeatable)),
        }
    }
}

/// Reads the body up to the cap. One that ends early is kept as far as it came: the status is what counts.
async fn read(mut response: reqwest::Response, deadline: Instant) -> Answer {
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let deadline =
        if status.is_success() { deadline.min(Instant::now() + Answer::SUCCESS_BODY_WAIT) } else { deadline };
    let mut body = BytesMut::new();
    while let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await {
        let room = Answer::BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == Answer::BODY_BYTES_MAX {
            break;
        }
    }
    Answer { status, headers, body: body.freeze() }
}
