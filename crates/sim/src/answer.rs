//! What a simulated system answers, and how badly.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Either, Full, StreamBody, combinators::BoxBody};
use hyper::{Response, StatusCode, body::Frame};

/// The body of an answer: bytes, or something that takes its time.
pub(crate) type AnswerBody = Either<Full<Bytes>, BoxBody<Bytes, Infallible>>;

/// One answer. Made by name, refined by method: `Answer::status(503).retry_after(secs).delay(d)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) delay: Duration,
    pub(crate) manner: Manner,
}

/// How an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    Hang,
    Cut,
    Drip { every: Duration },
    Huge { bytes: u64 },
}

impl Answer {
    /// 200 with an empty body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// A status with an empty body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), delay: Duration::ZERO, manner: Manner::Plain }
    }

    /// A status with `{"error":{"code":…,"message":…}}`.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "error": { "code": code, "message": message } }).to_string();
        Self::status(status).header("content-type", "application/json").body(body)
    }

    /// Reads the request and never answers; the connection stays open until either side stops.
    pub fn hang() -> Self {
        Self { manner: Manner::Hang, ..Self::status(0) }
    }

    /// Reads the request to its end, then closes the connection without a word. Its status in the ledger is 0.
    pub fn cut() -> Self {
        Self { manner: Manner::Cut, ..Self::status(0) }
    }

    /// 200 whose body comes one byte at a time.
    pub fn drip(body: impl Into<Bytes>, every: Duration) -> Self {
        Self { manner: Manner::Drip { every }, ..Self::ok().body(body) }
    }

    /// 200 with a body of that many bytes, streamed.
    pub fn huge(bytes: u64) -> Self {
        Self { manner: Manner::Huge { bytes }, ..Self::ok() }
    }

    /// 307 to another place.
    pub fn redirect(to: impl Into<String>) -> Self {
        Self::status(307).header("location", to)
    }

    /// The same answer with a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same answer with one more header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same answer with `Retry-After`, in whole seconds, rounded up.
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header("retry-after", seconds.to_string())
    }

    /// The same answer, later.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Whether the sender is told that all is well.
    pub fn accepts(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The answer as a response. [`Manner::Hang`] and [`Manner::Cut`] have none.
    pub(crate) fn into_response(self) -> Response<AnswerBody> {
        let body = match self.manner {
            Manner::Drip { every } => Either::Right(drip(self.body, every)),
            Manner::Huge { bytes } => Either::Right(huge(bytes)),
            Manner::Plain | Manner::Hang | Manner::Cut => Either::Left(Full::new(self.body)),
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

fn drip(body: Bytes, every: Duration) -> BoxBody<Bytes, Infallible> {
    let drops = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(every).await;
        let drop = rest.split_to(1);
        Some((Ok(Frame::data(drop)), rest))
    });
    StreamBody::new(drops).boxed()
}

fn huge(bytes: u64) -> BoxBody<Bytes, Infallible> {
    static CHUNK: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    let chunks = stream::unfold(bytes, |left| async move {
        let take = left.min(CHUNK.len() as u64);
        let chunk = Bytes::from_static(&CHUNK[..usize::try_from(take).ok().filter(|n| *n > 0)?]);
        Some((Ok(Frame::data(chunk)), left - take))
    });
    StreamBody::new(chunks).boxed()
}
