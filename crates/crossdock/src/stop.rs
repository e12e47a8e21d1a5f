//! Ctrl-C and SIGTERM.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears when the process is told to end.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Listens from now on: neither signal ends the process by itself any more.
    pub fn listen() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("failed to listen for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits until somebody wants it to end; again, until it is said once more.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
