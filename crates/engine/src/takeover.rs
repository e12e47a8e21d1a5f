//! Works on one partition of a flow: takes it over, then delivers until it is let go.
//!
//! Taking over waits for the store, and so happens beside the signals of the broker: a partition that is taken away meanwhile
//! is let go at once, and what was asked of the store for it comes to nothing.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use crossdock_core::{Adopted, Partition, chain};
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    dispatcher::{Dispatcher, Handle, Inbox},
    dispatchers::Dispatchers,
    flow::Flow,
    limit::within,
    settle::Fenced,
    stores::Stores,
};

/// How long a store that failed is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// What those who work on partitions tell their runner.
#[derive(Clone)]
pub(crate) struct Voices {
    /// A partition that was held back has room again.
    pub(crate) room: mpsc::UnboundedSender<Partition>,
    /// One of them has come to an end without being told to.
    pub(crate) ended: mpsc::UnboundedSender<Ended>,
}

/// The dispatcher of a partition has ended, and why.
pub(crate) struct Ended {
    pub(crate) partition: Partition,
    /// Of the take-over: the partition may have been let go, and come again, since.
    pub(crate) number: u64,
    pub(crate) why: &'static str,
}

/// A partition that is to be worked on.
pub(crate) struct TakeOver {
    pub(crate) flow: Arc<Flow>,
    pub(crate) partition: Partition,
    pub(crate) stores: Stores,
    pub(crate) dispatchers: Arc<Dispatchers>,
    pub(crate) voices: Voices,
    /// Tells it from others of the partition in the same runner.
    pub(crate) number: u64,
    pub(crate) stop: CancellationToken,
}

impl TakeOver {
    /// Works until it is told to stop, and finishes what is out then. Deliveries wait in the inbox until the partition is taken
    /// over. One that ends without being told to says so, since its partition would stand still without a word.
    pub(crate) async fn run(self, handle: Handle, inbox: Inbox) {
        let Some(adopted) = self.adopt().await else { return };
        let (flow, partition, stop) = (&self.flow.plan.name, &self.partition, self.stop.clone());
        let room = self.voices.room.clone();
        let dispatcher = Dispatcher::new(self.flow.clone(), self.stores.clone(), adopted, inbox, room, stop);
        let _listed = self.dispatchers.list(flow, partition, handle);
        let why = match AssertUnwindSafe(dispatcher.run()).catch_unwind().await {
            Ok(Ok(())) => return,
            // Let go before: whoever has it now, here or elsewhere, has what was in hand too.
            Ok(Err(Fenced)) if self.stop.is_cancelled() => return,
            Ok(Err(Fenced)) => {
                tracing::warn!(%flow, %partition, "another worker has taken the partition over; what was in hand is left to it");
                "has another owner by now"
            }
            Err(_) => {
                tracing::error!(%flow, %partition, "a dispatcher panicked; its partition is taken over anew");
                "panicked"
            }
        };
        // The runner is gone only when the hub stops.
        let _ = self.voices.ended.send(Ended { partition: partition.clone(), number: self.number, why });
    }

    /// Takes the partition over; a store that fails is asked again. None: it is to be let go.
    async fn adopt(&self) -> Option<Adopted> {
        let (flow, partition, mut told) = (&self.flow.plan.name, &self.partition, false);
        let adopting = async {
            loop {
                let adopted = self.stores.held.adopt(flow, partition);
                match within("taking over a partition", adopted).await {
                    Ok(adopted) => return adopted,
                    Err(error) => {
                        if !std::mem::replace(&mut told, true) {
                            let error = chain(&error);
                            tracing::warn!(%flow, %partition, error, "failed to take a partition over; trying again");
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        };
        tokio::select! {
            // Asked first: what is let go already is not taken over.
            biased;
            () = self.stop.cancelled() => None,
            adopted = adopting => Some(adopted),
        }
    }
}
