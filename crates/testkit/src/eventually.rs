//! Waiting for what becomes true soon.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a port may take for what it does "soon", under load.
const SOON: Duration = Duration::from_secs(15);

/// Asks again and again until there is an answer; panics with `what` and the last look at it if none comes within 15 seconds.
/// For what a port or a server does in the background and tells nobody.
pub async fn eventually<T, F: AsyncFnMut() -> Result<T, String>>(what: &str, mut ask: F) -> T {
    let until = Instant::now() + SOON;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(Instant::now() < until, "{what}: {seen}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}
