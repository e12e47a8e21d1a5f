//! What can be set.

use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Limits and checks of the API. The defaults suit a hub on a developer's machine and a small server alike.
///
/// A clone belongs to the same server: [`crate::router`] and [`crate::serve`] must get clones of one value.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// Most bytes of a request's body, as sent and after a content coding was taken off. Default 1 MiB.
    pub body_bytes_max: usize,
    /// What everything under `/v1` asks for as `Authorization: Bearer …`; none asks for nothing.
    pub token: Option<SecretString>,
    /// Values of `Host`, without port, under which people reach `/v1` and `/` besides `localhost` and addresses.
    pub allowed_hosts: Vec<String>,
    /// What is served besides `/health/…`. Default everything.
    pub serves: Serves,
    /// What is told of the worker beside its status.
    pub worker: Worker,
    /// Events a second over all intake routes; more is answered 429. Above 0. Default none.
    pub rate: Option<f64>,
    /// Bytes of bodies in memory at a time, over all requests; more is answered 503. Default 256 MiB.
    pub bodies_bytes_max: usize,
    /// Open connections; further ones wait until one of them ends. At least 1. Default 4,096.
    pub connections_max: usize,
    /// Receivers of `/v1/moments` at a time; one more is answered 429. Default 64.
    pub receivers_max: usize,
    /// How long the head of a request may take, and how long a connection may do nothing. Default 30 s.
    pub header_timeout: Duration,
    /// How long the whole body of a request may take. Default 30 s.
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer. Default 30 s.
    pub write_timeout: Duration,
    /// How long requests may take to finish after the shutdown began. Default 3 s.
    pub drain: Duration,
    /// Cancelled by [`crate::serve`] when it begins to shut down; ends live streams.
    pub closing: CancellationToken,
}

/// Who answers, and what it works with; in words, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// Names this life of the worker among all workers.
    pub id: String,
    /// What it does.
    pub roles: Vec<&'static str>,
    /// Where state is kept, without any secret.
    pub store: String,
    /// What carries events, without any secret.
    pub broker: String,
}

/// Which parts of the API a worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serves {
    /// What takes events in: `/in/…` and `/v1/topics/…`.
    pub intake: bool,
    /// All else.
    pub resources: bool,
}

impl Default for Serves {
    fn default() -> Self {
        Self { intake: true, resources: true }
    }
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            token: None,
            allowed_hosts: Vec::new(),
            serves: Serves::default(),
            worker: Worker::default(),
            rate: None,
            bodies_bytes_max: 256 << 20,
            connections_max: 4096,
            receivers_max: 64,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(3),
            closing: CancellationToken::new(),
        }
    }
}
