//! What other workers did to the stores that we share: asked for every second.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crossdock_core::{ConnectionName, Connections, StoreError, chain};
use tokio_util::sync::CancellationToken;

use crate::{gate::Gate, limit::within_time, replay::Replayer};

/// How often the stores are asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long a store may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Follows what other workers do.
pub(crate) struct Sharing {
    pub(crate) connections: Arc<dyn Connections>,
    pub(crate) gates: HashMap<ConnectionName, Arc<Gate>>,
    /// None if this worker sends no replays.
    pub(crate) replayer: Option<Arc<Replayer>>,
    pub(crate) stop: CancellationToken,
}

impl Sharing {
    /// Works until it is told to stop. A store that fails is told of once, until it answers again.
    pub(crate) async fn run(self) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            match (self.follow().await, failing) {
                (Ok(()), true) => tracing::info!("what other workers do is known again"),
                (Err(error), false) => {
                    let error = chain(&error);
                    tracing::warn!(error, "failed to learn what other workers do; trying again");
                    failing = true;
                    continue;
                }
                (Ok(()), false) | (Err(_), true) => continue,
            }
            failing = false;
        }
    }

    async fn follow(&self) -> Result<(), StoreError> {
        self.follow_connections().await?;
        match &self.replayer {
            Some(replayer) => replayer.follow().await,
            None => Ok(()),
        }
    }

    async fn follow_connections(&self) -> Result<(), StoreError> {
        let writes: HashMap<_, _> = self.gates.iter().map(|(name, gate)| (name, gate.writes())).collect();
        let load = self.connections.load();
        for stored in within_time(ANSWER_MAX, "reading the state of connections", load).await? {
            if let Some(gate) = self.gates.get(&stored.name) {
                gate.follow(&stored, writes[&stored.name]);
            }
        }
        Ok(())
    }
}
