//! The shared client.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use super::{Guard, Lookup, SystemLookup, resolver::GuardedResolver};

/// The HTTP client could not be made, for example because the system has no TLS roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to make the HTTP client: {0}")]
pub struct ClientError(String);

/// What connections must have in common to share connections to a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Network {
    /// Which addresses may be dialled.
    pub guard: Guard,
    /// How long resolving, connecting and the TLS handshake may take together.
    pub connect_timeout: Duration,
}

impl Network {
    /// Five seconds to connect: a server that takes longer is not one to wait for, and a lane must not stand still.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
}

/// The shared client. Cheap to clone; follows no redirect, uses no proxy of the environment, retries nothing.
#[derive(Clone)]
pub struct Client {
    pub(super) inner: reqwest::Client,
    pub(super) guard: Arc<Guard>,
}

impl Client {
    /// The client of this process for a network policy; made at the first use.
    pub fn shared(network: Network) -> Result<Self, ClientError> {
        static CLIENTS: OnceLock<Mutex<HashMap<Network, Client>>> = OnceLock::new();
        let mut clients = CLIENTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&network) {
            return Ok(client.clone());
        }
        let client = Self::with_lookup(&network, Arc::new(SystemLookup))?;
        clients.insert(network, client.clone());
        Ok(client)
    }

    /// A client that shares nothing and takes addresses of names from `lookup`.
    pub fn with_lookup(network: &Network, lookup: Arc<dyn Lookup>) -> Result<Self, ClientError> {
        let resolver = GuardedResolver { guard: network.guard.clone(), lookup };
        let inner = reqwest::Client::builder()
            .tls_backend_rustls()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .dns_resolver(resolver)
            .connect_timeout(network.connect_timeout)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("Crossdock/", env!("CARGO_PKG_VERSION")))
            .build();
        let inner = inner.map_err(|error| ClientError(super::transport::chain(&error)))?;
        Ok(Self { inner, guard: Arc::new(network.guard.clone()) })
    }
}
