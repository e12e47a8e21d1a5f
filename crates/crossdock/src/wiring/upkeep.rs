//! What a shared store needs from time to time, whoever of the workers does it.

use std::time::Duration;

use crossdock_core::chain;
use crossdock_postgres::Postgres;
use tokio::{task::JoinHandle, time};

/// How often what has been kept long enough is looked for. One worker at a time does it; for the others the question is cheap.
const EVERY: Duration = Duration::from_secs(60);

/// Begins to look after the store; ends when it is aborted.
pub fn begin(postgres: Postgres) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut fails = false;
        loop {
            time::sleep(EVERY).await;
            let done = postgres.maintain().await;
            // Told once, not every minute.
            if let Err(error) = &done
                && !fails
            {
                tracing::warn!(
                    error = chain(error),
                    "failed to drop what has been kept long enough; trying again until it succeeds"
                );
            }
            fails = done.is_err();
        }
    })
}
