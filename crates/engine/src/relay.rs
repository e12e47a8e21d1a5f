//! The relay: moves events from the outbox to the broker.
//!
//! ```text
//! claim ─► read ─► publish ─► advance        several pages at a time, in order
//! ```
//!
//! One worker at a time reads an outbox; the others stand by. An event whose transaction is committed is published at least once,
//! those of a key in order: after a failure everything that was not taken is published again with whatever follows it in its
//! key, before anything new. While the broker is away, events wait in the outbox and intake goes on.

mod page;
mod recovery;
mod shift;
mod watch;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use crossdock_core::{Broker, OutboxLog, OutboxReader, StoreError, chain};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

pub(crate) use self::watch::Watch;
use self::{
    recovery::Recovery,
    shift::{Desk, End, Shift},
};
use crate::{
    flow::Flow,
    joining::{Joined, begin},
    limit::{within, within_time},
    status::RelayRole,
};

/// How often a worker that stands by asks whether it is needed.
const STAND_BY: Duration = Duration::from_secs(2);
/// The first and the longest wait after a failure.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long an outbox may take to let its reader go.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Moves events from an outbox to a broker.
pub(crate) struct Relay {
    pub(crate) outbox: Arc<dyn OutboxLog>,
    pub(crate) joined: Arc<Joined>,
    /// The flows that this worker does not deliver.
    pub(crate) others: Vec<Arc<Flow>>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) stop: CancellationToken,
}

impl Relay {
    /// Works until it is told to stop. Begins when every flow of this worker has joined its topics and the groups of all others
    /// have begun, so that a new one misses nothing that was taken in since the start.
    pub(crate) async fn run(self) {
        tokio::select! {
            () = self.joined.all().then(|()| begin(self.broker.as_ref(), &self.others)) => {}
            () = self.stop.cancelled() => return,
        }
        let (mut recovery, mut wait) = (Recovery::default(), AGAIN);
        while !self.stop.is_cancelled() {
            let before = self.watch.relayed();
            let pause = match AssertUnwindSafe(self.term(&mut recovery)).catch_unwind().await {
                Ok(pause) => pause,
                Err(_) => {
                    self.watch.panicked();
                    tracing::error!(
                        "the relay panicked; it begins anew, and some events are published again"
                    );
                    recovery.forget();
                    Pause::Longer
                }
            };
            if self.watch.relayed() > before {
                wait = AGAIN;
            }
            let pause = match pause {
                Pause::None => Duration::ZERO,
                Pause::StandBy => STAND_BY,
                Pause::Longer => {
                    let longer = (wait * 2).min(AGAIN_MAX);
                    std::mem::replace(&mut wait, longer)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Becomes the reader, if there is no other one, and works as long as it goes well.
    async fn term(&self, recovery: &mut Recovery) -> Pause {
        let reader = match within("becoming the reader of the outbox", self.outbox.claim()).await {
            Ok(Some(reader)) => reader,
            Ok(None) => {
                self.watch.store_answers();
                self.watch.gets_on();
                self.watch.takes(RelayRole::StandingBy);
                // Whoever reads goes on from what was advanced, and what was not is no longer ours to remember.
                recovery.forget();
                return Pause::StandBy;
            }
            Err(error) => {
                self.watch.store_fails(&error);
                return Pause::Longer;
            }
        };
        self.watch.takes(RelayRole::Reading);
        let desk = Desk {
            reader: reader.as_ref(),
            broker: &self.broker,
            watch: self.watch.as_ref(),
            stop: &self.stop,
        };
        match Shift::new(desk, recovery).run().await {
            End::Stopped => {
                self.release(reader).await;
                Pause::None
            }
            End::Broker => {
                self.release(reader).await;
                Pause::Longer
            }
            End::Store(StoreError::Fenced(_)) => {
                tracing::warn!("another worker reads the outbox by now");
                recovery.forget();
                Pause::None
            }
            End::Store(error) => {
                self.watch.store_fails(&error);
                self.release(reader).await;
                Pause::Longer
            }
        }
    }

    async fn release(&self, reader: Box<dyn OutboxReader>) {
        match within_time(RELEASE_MAX, "letting the outbox go", reader.release()).await {
            // Somebody else has it.
            Ok(()) | Err(StoreError::Fenced(_)) => {}
            Err(error) => tracing::warn!(
                error = chain(&error),
                "the outbox was not let go; another reader has to wait until the lease is over"
            ),
        }
    }
}

/// How long to wait before the next term.
enum Pause {
    None,
    StandBy,
    /// Longer each time, until something is moved.
    Longer,
}
