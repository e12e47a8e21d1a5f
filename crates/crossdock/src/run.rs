//! `crossdock run`: wires the configuration to the embedded store, the engine and the API, and runs until it is told to
//! stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use crossdock_api::ApiOptions;
use crossdock_codec::CloudEvents;
use crossdock_core::SystemClock;
use crossdock_embedded::{Embedded, Options};
use crossdock_engine::{Hub, Roles, Stores};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Loaded, TopicPlan},
    descriptors, drain, logs,
};

/// How long deliveries that are out may take to finish once the hub is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What attributes may add to the largest body, so that whatever the API takes the store takes too: more than the API lets
/// into the head of a request.
const ATTRIBUTES_BYTES_MAX: usize = 128 << 10;

/// A hub with its API, on the embedded store.
pub struct Running {
    /// The engine.
    pub hub: Arc<Hub>,
    /// Where the API listens.
    pub address: SocketAddr,
    embedded: Embedded,
    server: JoinHandle<()>,
    shutdown: CancellationToken,
}

/// Starts a hub. When it returns, the hub takes events in.
pub async fn start(loaded: Loaded) -> anyhow::Result<Running> {
    let clock = Arc::new(SystemClock);
    let embedded = Embedded::open(&loaded.data, options(&loaded), clock.clone()).await?;
    warn_of_order(&loaded, &embedded);
    warn_of_lost_flows(&loaded, &embedded).await?;
    let listener = TcpListener::bind(loaded.listen)
        .await
        .with_context(|| format!("failed to listen on {}", loaded.listen))?;
    let address = listener.local_addr().context("failed to read the address that the API listens on")?;
    let api = api_options(&loaded, descriptors::raise());
    let (broker, stores) = (Arc::new(embedded.clone()), stores(&embedded));
    let hub = Hub::start(loaded.plan, broker, stores, clock, Roles::default()).await?;
    let shutdown = CancellationToken::new();
    let router = crossdock_api::router(hub.clone(), Arc::new(CloudEvents), api.clone());
    let server = tokio::spawn(crossdock_api::serve(listener, router, api, shutdown.clone()));
    Ok(Running { hub, address, embedded, server, shutdown })
}

/// Whether a hub did not start because another program listens at its address.
pub fn is_taken(error: &anyhow::Error) -> bool {
    let io =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| io(cause) == Some(io::ErrorKind::AddrInUse))
}

fn api_options(loaded: &Loaded, descriptors: u64) -> ApiOptions {
    let defaults = ApiOptions::default();
    let connections_max = descriptors::connections_max(descriptors).min(defaults.connections_max);
    tracing::info!(descriptors, connections_max, "open files and connections of this process");
    ApiOptions {
        body_bytes_max: loaded.limits.body_bytes_max,
        rate: loaded.limits.rate,
        token: loaded.token.clone(),
        allowed_hosts: loaded.allowed_hosts.clone(),
        connections_max,
        ..defaults
    }
}

fn options(loaded: &Loaded) -> Options {
    let defaults = Options::default();
    let flows = &loaded.plan.flows;
    let own = |topic: &TopicPlan| Some((topic.topic.clone(), topic.partitions?));
    Options {
        partitions_of: loaded.topics.iter().filter_map(own).collect(),
        partitions: loaded.shape.partitions.unwrap_or(defaults.partitions),
        retention: loaded.shape.retention.unwrap_or(defaults.retention),
        dedupe_window: loaded.dedupe_window.unwrap_or(defaults.dedupe_window),
        event_bytes_max: loaded.limits.body_bytes_max + ATTRIBUTES_BYTES_MAX,
        file_bytes_max: loaded.limits.data_bytes_max,
        topics: loaded.topics.iter().map(|topic| topic.topic.clone()).collect(),
        groups: flows.iter().map(|flow| (flow.name.clone(), flow.topics.clone())).collect(),
        ..defaults
    }
}

/// A topic keeps the partitions that it was born with, also when a flow with a key of its own comes later.
fn warn_of_order(loaded: &Loaded, embedded: &Embedded) {
    for flow in loaded.plan.flows.iter().filter(|flow| flow.orders_across_keys()) {
        for topic in flow.topics.iter().filter(|topic| embedded.partitions(topic) > Some(1)) {
            tracing::warn!(
                flow = %flow.name, %topic,
                "the flow has a `key` of its own, but its topic was made with several partitions: order is kept only \
                 among events that also share their own key; begin with a new `data` folder to keep it among all"
            );
        }
    }
}

/// Held events of a flow that was renamed or removed wait until its name is back, and no list of flows shows them.
async fn warn_of_lost_flows(loaded: &Loaded, embedded: &Embedded) -> anyhow::Result<()> {
    for (flow, held) in embedded.held_by_flow().await? {
        if !loaded.plan.flows.iter().any(|known| known.name == flow) {
            tracing::warn!(
                %flow, held,
                "events are held for a flow that is not in the configuration: they wait until a flow of that name is back"
            );
        }
    }
    Ok(())
}

fn stores(embedded: &Embedded) -> Stores {
    Stores {
        outbox: Arc::new(embedded.clone()),
        outbox_log: None,
        settlements: Arc::new(embedded.clone()),
        held: Arc::new(embedded.clone()),
        dead_letters: Arc::new(embedded.clone()),
        replays: Arc::new(embedded.clone()),
        connections: Arc::new(embedded.clone()),
        event_log: Arc::new(embedded.clone()),
        shared: false,
    }
}

impl Running {
    /// Takes nothing new in, lets what is out finish, closes the store. `false` if something had to be cut off; it comes
    /// again after the next start.
    pub async fn stop(self, within: Duration) -> bool {
        let finished = self.hub.stop(within).await;
        self.shutdown.cancel();
        if let Err(error) = self.server.await {
            tracing::warn!(error = %error, "the API ended badly");
        }
        self.embedded.close().await;
        finished
    }
}

/// Runs a hub until SIGTERM or Ctrl-C. A second one ends it at once, with an error.
pub async fn run(loaded: Loaded) -> anyhow::Result<()> {
    logs::init();
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for Ctrl-C")?;
    let (file, listen) = (loaded.file.clone(), loaded.listen);
    let running = start(loaded).await.map_err(|error| match is_taken(&error) {
        true => anyhow::anyhow!(
            "{listen} is taken, perhaps by another hub: end that one, or choose another `listen`"
        ),
        false => error,
    })?;
    let (flows, connections) = (running.hub.flows().await?, running.hub.connections());
    tracing::info!(
        config = %file.display(),
        flows = flows.len(),
        connections = connections.len(),
        url = format!("http://{}", running.address),
        "ready"
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(
        within_s = STOP_WITHIN.as_secs(),
        "stopping: nothing new is taken in, what is out may finish"
    );
    let hub = running.hub.clone();
    let finished = tokio::select! {
        finished = running.stop(STOP_WITHIN) => finished,
        never = drain::show(hub) => match never {},
        _ = terminate.recv() => anyhow::bail!("stopped at once; what was out comes again after the next start"),
        _ = interrupt.recv() => anyhow::bail!("stopped at once; what was out comes again after the next start"),
    };
    if finished {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped; what was still out comes again after the next start");
    }
    Ok(())
}
