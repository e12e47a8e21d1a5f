//! `crossdock run`: a hub on what its configuration names, until it is told to stop.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use crossdock_codec::CloudEvents;
use crossdock_core::{SystemClock, WorkerId, time_ordered_id};
use crossdock_engine::{Hub, Plan, Roles};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{
    config::Loaded,
    drain,
    entrance::{self, Entrance, Served},
    logs,
    stop::Stop,
    wiring::{self, Ground, Waiting},
};

/// How long deliveries that are out may take to finish once the hub is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How much longer everything may take with what follows: members leave their groups, clients close.
const CLOSE_WITHIN: Duration = Duration::from_secs(4);

/// A hub with its API.
pub struct Running {
    /// The engine.
    pub hub: Arc<Hub>,
    /// Where the API listens.
    pub address: SocketAddr,
    ground: Ground,
    served: Served,
}

/// Starts a hub. When it returns, the hub takes events in. Servers that are away are waited for.
pub async fn start(loaded: Loaded, roles: Roles) -> anyhow::Result<Running> {
    // Another one after every start.
    let worker = time_ordered_id('w', Uuid::now_v7().as_u128());
    match loaded.is_embedded() {
        true => start_alone(loaded, &worker, roles).await,
        false => start_on_servers(loaded, &worker, roles).await,
    }
}

/// In one process, with nothing to wait for.
async fn start_alone(loaded: Loaded, worker: &WorkerId, roles: Roles) -> anyhow::Result<Running> {
    let ground = wiring::embedded(&loaded).await?;
    let entrance = Entrance::take(&loaded, worker, roles).await?;
    let (address, options) = (entrance.address, entrance.options.clone());
    let hub = hub(loaded.plan, &ground, roles).await?;
    let router = crossdock_api::router(hub.clone(), Arc::new(CloudEvents), options);
    Ok(Running { hub, address, ground, served: entrance.serve(router) })
}

/// On servers, with an API that says what is waited for.
async fn start_on_servers(loaded: Loaded, worker: &WorkerId, roles: Roles) -> anyhow::Result<Running> {
    let entrance = Entrance::take(&loaded, worker, roles).await?;
    let (address, options) = (entrance.address, entrance.options.clone());
    let (words, waits_for) = watch::channel("the hub is starting".to_owned());
    let served = entrance.serve(crossdock_api::starting(options.clone(), waits_for));
    let waiting = Waiting::new(words);
    let ground = wiring::on_servers(&loaded, worker, roles, &waiting).await?;
    let again = async || {
        let plan = Plan {
            flows: loaded.plan.flows.clone(),
            connections: loaded.plan.connections.clone(),
            topics: loaded.plan.topics.clone(),
        };
        hub(plan, &ground, roles).await.map_err(wiring::hindrance)
    };
    let hub = waiting.until("the store or the broker", again).await?;
    served.doors.open(crossdock_api::router(hub.clone(), Arc::new(CloudEvents), options));
    Ok(Running { hub, address, ground, served })
}

async fn hub(plan: Plan, ground: &Ground, roles: Roles) -> anyhow::Result<Arc<Hub>> {
    let (broker, stores) = (ground.broker.clone(), ground.stores.clone());
    Ok(Hub::start(plan, broker, stores, Arc::new(SystemClock), roles).await?)
}

impl Running {
    /// Takes nothing new in, lets what is out finish, closes the store. `false` if something had to be cut off; it comes
    /// again after the next start.
    pub async fn stop(self, within: Duration) -> bool {
        let until = Instant::now() + within + CLOSE_WITHIN;
        let finished = self.hub.stop(within).await;
        self.served.stop().await;
        self.ground.close(until.saturating_duration_since(Instant::now())).await;
        finished
    }
}

/// Runs a hub until SIGTERM or Ctrl-C. A second one ends it at once, with an error; so does one while it is still waiting
/// for its servers, but as a success.
pub async fn run(loaded: Loaded, roles: Roles) -> anyhow::Result<()> {
    logs::init();
    let mut stop = Stop::listen()?;
    let (file, listen) = (loaded.file.clone(), loaded.listen);
    let (flows, connections) = (loaded.plan.flows.len(), loaded.plan.connections.len());
    let started = tokio::select! {
        started = start(loaded, roles) => started,
        () = stop.asked() => {
            tracing::info!("stopped before it had started");
            return Ok(());
        }
    };
    let running = started.map_err(|error| match entrance::is_taken(&error) {
        true => anyhow::anyhow!(
            "{listen} is taken, perhaps by another hub: end that one, or choose another `listen`"
        ),
        false => error,
    })?;
    tracing::info!(
        config = %file.display(),
        flows,
        connections,
        url = format!("http://{}", running.address),
        "ready"
    );
    let lost = running.ground.lost.clone();
    let is_lost = tokio::select! {
        () = stop.asked() => false,
        () = lost.cancelled() => true,
    };
    end(running, stop.asked()).await?;
    match is_lost {
        true => anyhow::bail!(
            "another worker has begun to use this store with an embedded broker while this one was silent: events would be \
             split over two logs; what is left in this one's `data` folder goes on with the next worker that runs on it"
        ),
        false => Ok(()),
    }
}

async fn end(running: Running, asked_again: impl Future<Output = ()>) -> anyhow::Result<()> {
    tracing::info!(
        within_s = STOP_WITHIN.as_secs(),
        "stopping: nothing new is taken in, what is out may finish"
    );
    let hub = running.hub.clone();
    let finished = tokio::select! {
        finished = running.stop(STOP_WITHIN) => finished,
        never = drain::show(hub) => match never {},
        () = asked_again => anyhow::bail!("stopped at once; what was out comes again after the next start"),
    };
    if finished {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped; what was still out comes again after the next start");
    }
    Ok(())
}
