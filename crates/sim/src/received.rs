//! A request as a simulated system sees it.

use bytes::Bytes;
use hyper::{HeaderMap, Method, Uri};

/// A request, read to its end.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

impl Received {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The first header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Where in a request a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A header.
    Header(String),
    /// A JSON pointer into the body, such as `/customer/id`. Costs parsing the body.
    Pointer(String),
    /// The last segment of the path.
    LastSegment,
}

impl Place {
    /// The value that stands there, as text; none if nothing does.
    pub fn find(&self, request: &Received) -> Option<String> {
        match self {
            Self::Header(name) => request.header(name).map(str::to_owned),
            Self::LastSegment => {
                request.path().rsplit('/').next().filter(|s| !s.is_empty()).map(str::to_owned)
            }
            Self::Pointer(pointer) => {
                let body: serde_json::Value = serde_json::from_slice(&request.body).ok()?;
                match body.pointer(pointer)? {
                    serde_json::Value::Null => None,
                    serde_json::Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                }
            }
        }
    }
}
