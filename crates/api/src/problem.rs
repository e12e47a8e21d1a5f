//! Errors as people and programs see them: RFC 9457.

use std::sync::Arc;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use crossdock_core::{Malformed, PublishError, StoreError, is_obeyed};
use crossdock_engine::{ActError, IntakeError};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// What kind of problem: its status, the end of its `type`, its title. Part of the API, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(pub(crate) StatusCode, &'static str, &'static str);

impl Kind {
    pub(crate) const MALFORMED: Self =
        Self(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read");
    pub(crate) const REASON: Self = Self(StatusCode::BAD_REQUEST, "reason-required", "A reason is required");
    pub(crate) const UNAUTHORIZED: Self =
        Self(StatusCode::UNAUTHORIZED, "unauthorized", "The request is not authorised");
    pub(crate) const CROSS_ORIGIN: Self =
        Self(StatusCode::FORBIDDEN, "cross-origin", "Another site's page may not use this API");
    pub(crate) const NOT_FOUND: Self = Self(StatusCode::NOT_FOUND, "not-found", "There is no such thing");
    pub(crate) const METHOD: Self =
        Self(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not allowed here");
    pub(crate) const TIMEOUT: Self =
        Self(StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body took too long");
    pub(crate) const CONFLICT: Self =
        Self(StatusCode::CONFLICT, "conflict", "The state of the thing does not allow this");
    pub(crate) const TOO_LARGE: Self =
        Self(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large");
    pub(crate) const MEDIA_TYPE: Self = Self(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body is in a form that is not read",
    );
    pub(crate) const MISDIRECTED: Self =
        Self(StatusCode::MISDIRECTED_REQUEST, "misdirected", "This host name is not served");
    pub(crate) const BUSY: Self = Self(StatusCode::SERVICE_UNAVAILABLE, "busy", "The hub is busy");
    pub(crate) const RECEIVERS: Self =
        Self(StatusCode::TOO_MANY_REQUESTS, "too-many-receivers", "Too many receivers at a time");
    pub(crate) const RATE: Self =
        Self(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many events a second");
    pub(crate) const INTERNAL: Self =
        Self(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The hub failed on this request");
    pub(crate) const UNAVAILABLE: Self =
        Self(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The store is not available");
    pub(crate) const UNREADY: Self =
        Self(StatusCode::SERVICE_UNAVAILABLE, "unready", "The worker is not ready");
    pub(crate) const STARTING: Self =
        Self(StatusCode::SERVICE_UNAVAILABLE, "starting", "The hub is starting");
    pub(crate) const STOPPING: Self =
        Self(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The hub is stopping");
}

/// Why a request was not done. Written out by the front, which knows the request's id.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    pub(crate) pointer: Option<String>,
    pub(crate) nearest: Option<String>,
    pub(crate) known: Vec<String>,
    pub(crate) retry_after_seconds: Option<u64>,
    /// Results of single events, where none of them was taken, as JSON.
    pub(crate) items: Option<Arc<RawValue>>,
    pub(crate) problems_left_out: usize,
    /// What strangers read instead of `detail`.
    pub(crate) public: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let retry = [
            Kind::BUSY,
            Kind::RATE,
            Kind::RECEIVERS,
            Kind::UNAVAILABLE,
            Kind::UNREADY,
            Kind::STARTING,
            Kind::STOPPING,
        ];
        let retry = retry.contains(&kind);
        Self {
            kind,
            detail: detail.into(),
            pointer: None,
            nearest: None,
            known: Vec::new(),
            retry_after_seconds: retry.then_some(1),
            items: None,
            problems_left_out: 0,
            public: None,
        }
    }

    /// What was sent is wrong at this place.
    pub(crate) fn malformed(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), ..Self::new(Kind::MALFORMED, detail) }
    }

    /// There is no `what` of this name or id.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(Kind::NOT_FOUND, format!("no {what} `{}`", shown(name)))
    }

    /// The same problem with the names that would have done, and the one that was probably meant.
    pub(crate) fn known<'a>(mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.known = known.into_iter().map(str::to_owned).collect();
        self.nearest = nearest(name, self.known.iter().map(String::as_str)).map(str::to_owned);
        if let Some(nearest) = &self.nearest {
            self.detail.push_str(&format!("; did you mean `{nearest}`?"));
        }
        self
    }

    /// The same problem with the results of the single events of the request, and how many of them lack their problem.
    pub(crate) fn with_items(self, items: &[impl Serialize], problems_left_out: usize) -> Self {
        let items = to_raw_value(items).expect("text and numbers can be written as JSON");
        Self { items: Some(items.into()), problems_left_out, ..self }
    }

    /// The same problem, whose detail is for those alone who may use the API: others read `public`.
    pub(crate) fn private(self, public: &'static str) -> Self {
        Self { public: Some(public), ..self }
    }

    /// The same problem for somebody who may not use the API: nothing of how the hub is set up.
    pub(crate) fn for_strangers(mut self) -> Self {
        if let Some(public) = self.public {
            public.clone_into(&mut self.detail);
            (self.known, self.nearest) = (Vec::new(), None);
        }
        self
    }

    /// The problem as JSON, with the id of the request that it belongs to.
    pub(crate) fn show<'a>(&'a self, request_id: Option<&'a str>) -> Shown<'a> {
        let Kind(status, slug, title) = self.kind;
        Shown {
            kind: format!("urn:crossdock:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            pointer: self.pointer.as_deref(),
            nearest: self.nearest.as_deref(),
            known: &self.known,
            items: self.items.as_deref(),
            problems_left_out: self.problems_left_out,
            request_id,
        }
    }
}

/// A problem as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    known: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "is_zero")]
    problems_left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

pub(crate) fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let name = name.get(..LONGEST).unwrap_or(name);
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    let closest =
        known.into_iter().filter(|known| known.len() <= 2 * LONGEST).min_by_key(|known| distance(known))?;
    (name.len() <= LONGEST && distance(closest) <= (closest.len() / 3).max(1)).then_some(closest)
}

/// The beginning of what somebody sent, fit to be shown.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 100;
    let mut shown: String =
        text.chars().take(SHOWN_MAX).map(|c| if is_obeyed(c) { '\u{FFFD}' } else { c }).collect();
    if shown.len() < text.len() && text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.0.into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::TIMEOUT {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.kind == Kind::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Malformed> for Problem {
    fn from(Malformed { pointer, message }: Malformed) -> Self {
        Self::malformed(pointer, message)
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let kind = match error {
            PublishError::UnknownTopic(_) => Kind::NOT_FOUND,
            PublishError::TooLarge { .. } => Kind::TOO_LARGE,
            PublishError::Busy => Kind::BUSY,
            PublishError::Unavailable(_) | PublishError::Unknown => Kind::UNAVAILABLE,
        };
        Self::new(kind, error.to_string()).private("the event was not taken; send it again later")
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        use crossdock_core::Refusal;
        match error {
            IntakeError::Unknown { what, name, known } => {
                let detail = format!("no {what} `{}` takes events", shown(&name));
                let problem = Self::new(Kind::NOT_FOUND, detail);
                problem
                    .known(&name, known.iter().map(String::as_str))
                    .private("nothing of this name takes events")
            }
            IntakeError::Refused(Refusal::Unauthorized(why)) => Self::new(Kind::UNAUTHORIZED, why),
            IntakeError::Refused(Refusal::Malformed { message, pointer }) => {
                Self { pointer, ..Self::new(Kind::MALFORMED, message) }
            }
            IntakeError::NotStored(error) => error.into(),
            IntakeError::NotHere => Self::new(Kind::UNAVAILABLE, "this worker takes no events in"),
            IntakeError::Stopping => Self::new(Kind::STOPPING, "the hub is stopping; send the events again"),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Unavailable { source, .. } => {
                tracing::warn!(error = %error, source = %source, "the store is not available");
                Kind::UNAVAILABLE
            }
            StoreError::NotFound { .. } => Kind::NOT_FOUND,
            StoreError::Conflict(_) | StoreError::Fenced(_) => Kind::CONFLICT,
            StoreError::BadCursor => {
                return Self::malformed("?cursor", "the cursor is not one that was given out");
            }
            StoreError::Damaged(_) => {
                tracing::error!(error = %error, "the store is damaged");
                Kind::INTERNAL
            }
        };
        Self::new(kind, error.to_string()).private("the store does not answer as it should")
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        match error {
            ActError::Store(error) => error.into(),
            ActError::NotFound { what, id } => Self::not_found(what, &id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_close_or_none() {
        let known = ["github", "shop", "orders.created"];
        assert_eq!(nearest("gihub", known), Some("github"));
        assert_eq!(nearest("shpo", known), Some("shop"));
        assert_eq!(nearest("warehouse", known), None);
        assert_eq!(nearest(&"x".repeat(5000), known), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn strangers_learn_nothing_of_the_hub() {
        let unknown = IntakeError::Unknown {
            what: "connection",
            name: "gihub".to_owned(),
            known: vec!["github".to_owned(), "acme-billing".to_owned()],
        };
        let unavailable = PublishError::Unavailable("the disk of /srv/hub is full".to_owned());
        let damaged = StoreError::Damaged("/srv/hub/crossdock.db".to_owned());
        for problem in [Problem::from(unknown), unavailable.into(), damaged.into()] {
            let whole = serde_json::to_string(&problem.show(None)).unwrap();
            assert!(whole.contains("github") || whole.contains("/srv/hub"), "{whole}");
            let problem = problem.for_strangers();
            let shown = serde_json::to_string(&problem.show(None)).unwrap();
            for hidden in ["github", "acme", "/srv"] {
                assert!(!shown.contains(hidden), "{shown}");
            }
            assert!(!problem.detail.is_empty());
        }
    }

    #[test]
    fn what_is_shown_of_input_is_short_and_printable() {
        assert_eq!(shown("a\n\u{1b}[31m\u{202e}"), "a\u{FFFD}\u{FFFD}[31m\u{FFFD}");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), 101);
    }
}
