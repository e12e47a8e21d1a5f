//! Where the API listens, and what it answers with.

use std::{io, net::SocketAddr};

use anyhow::Context;
use crossdock_api::{ApiOptions, Doors, Serves, Worker};
use crossdock_core::WorkerId;
use crossdock_engine::Roles;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{config::Loaded, descriptors};

/// An address that is ours, and nobody who answers there yet.
pub struct Entrance {
    /// The address.
    pub address: SocketAddr,
    /// How the API is served.
    pub options: ApiOptions,
    listener: TcpListener,
}

/// A server that answers.
pub struct Served {
    /// What it answers with.
    pub doors: Doors,
    server: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Entrance {
    /// Takes the address of the configuration.
    pub async fn take(loaded: &Loaded, worker: &WorkerId, roles: Roles) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(loaded.listen)
            .await
            .with_context(|| format!("failed to listen on {}", loaded.listen))?;
        let address = listener.local_addr().context("failed to read the address that the API listens on")?;
        Ok(Self { address, options: api_options(loaded, worker, roles), listener })
    }

    /// Answers from now on.
    pub fn serve(self, doors: impl Into<Doors>) -> Served {
        let (doors, shutdown) = (doors.into(), CancellationToken::new());
        let serve = crossdock_api::serve(self.listener, doors.clone(), self.options, shutdown.clone());
        Served { doors, server: tokio::spawn(serve), shutdown }
    }
}

impl Served {
    /// Takes no further connection, lets open requests finish for a moment.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Err(error) = self.server.await {
            tracing::warn!(error = %error, "the API ended badly");
        }
    }
}

/// Whether a hub did not start because another program listens at its address.
pub fn is_taken(error: &anyhow::Error) -> bool {
    let io =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| io(cause) == Some(io::ErrorKind::AddrInUse))
}

fn api_options(loaded: &Loaded, worker: &WorkerId, roles: Roles) -> ApiOptions {
    let (defaults, descriptors) = (ApiOptions::default(), descriptors::raise());
    let connections_max = descriptors::connections_max(descriptors).min(defaults.connections_max);
    tracing::info!(descriptors, connections_max, "open files and connections of this process");
    ApiOptions {
        body_bytes_max: loaded.limits.body_bytes_max,
        rate: loaded.limits.rate,
        token: loaded.token.clone(),
        allowed_hosts: loaded.allowed_hosts.clone(),
        connections_max,
        worker: Worker {
            id: worker.clone(),
            roles: names(roles),
            store: loaded.shown.store.clone(),
            broker: loaded.shown.broker.clone(),
        },
        serves: Serves { intake: roles.ingest, resources: roles.api },
        ..defaults
    }
}

fn names(roles: Roles) -> Vec<&'static str> {
    let Roles { ingest, relay, deliver, api } = roles;
    let all = [(ingest, "ingest"), (relay, "relay"), (deliver, "deliver"), (api, "api")];
    all.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}
