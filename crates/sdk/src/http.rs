//! The way out: HTTP calls with a guard, a deadline and a cap.
//!
//! One client per process and [`Network`] policy, so that connections are pooled over all connectors and a pooled
//! connection is never used by a connection that may not dial its address. Nothing here retries: the engine does.

mod base_url;
mod call;
mod client;
mod guard;
mod headers;
mod lookup;
mod resolver;
mod transport;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
pub use ::url::Url;
pub use base_url::{BaseUrl, PathError, UrlError};
pub use call::{Answer, Call};
pub use client::{Client, ClientError, Network};
pub use guard::{Guard, Refused};
pub use headers::{HeaderError, own_header, secret_value};
pub use lookup::{Lookup, SystemLookup};
