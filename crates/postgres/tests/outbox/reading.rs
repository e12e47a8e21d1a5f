//! Reading in tests: until something came, or until nothing has come for a while.

use std::time::Duration;

use crossdock_core::{OutboxEvent, OutboxLog, OutboxReader, StoreError};
use crossdock_postgres::Postgres;
use tokio::time::{Instant, sleep};

/// Longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Becomes the reader, as soon as nobody else is.
pub async fn claim(postgres: &Postgres) -> Box<dyn OutboxReader> {
    let until = Instant::now() + SOON;
    loop {
        match postgres.claim().await {
            Ok(Some(reader)) => return reader,
            other => assert!(Instant::now() < until, "{:?}", other.err()),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Reads and advances until `count` events came; panics if more come, or not all of them soon. Errors that may pass do.
pub async fn take(reader: &dyn OutboxReader, count: usize) -> Vec<OutboxEvent> {
    let (until, mut came) = (Instant::now() + SOON, Vec::new());
    loop {
        match reader.read().await {
            Ok(page) => {
                came.extend(page.events);
                let advanced = reader.advance(page.mark, Vec::new()).await;
                assert!(matches!(advanced, Ok(()) | Err(StoreError::Unavailable { .. })), "{advanced:?}");
            }
            Err(error) => assert!(matches!(error, StoreError::Unavailable { .. }), "{error}"),
        }
        assert!(came.len() <= count, "{} events where {count} were written", came.len());
        if came.len() == count {
            return came;
        }
        assert!(Instant::now() < until, "{} of {count} events came", came.len());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Reads so many times; panics if anything comes.
pub async fn nothing_comes(reader: &dyn OutboxReader, reads: usize) {
    for _ in 0..reads {
        let page = reader.read().await.unwrap();
        assert!(page.events.is_empty() && page.malformed.is_empty(), "{page:?}");
        reader.advance(page.mark, Vec::new()).await.unwrap();
    }
}

/// What the events carry.
pub fn data(events: &[OutboxEvent]) -> Vec<&str> {
    events.iter().map(|read| str::from_utf8(&read.event.data).expect("the tests write text")).collect()
}

/// How many numbers are missing and may still be committed, as soon as it is so many; panics if it does not become that.
pub async fn gaps_become(postgres: &Postgres, reader: &dyn OutboxReader, gaps: u64) {
    let until = Instant::now() + SOON;
    loop {
        nothing_comes(reader, 1).await;
        let status = postgres.status().await.unwrap();
        if status.gaps == gaps {
            return;
        }
        assert!(Instant::now() < until, "{status:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
