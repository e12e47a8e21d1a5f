//! What the adapter has logged, in all tests of a file; each test looks for names of its own.

use std::{
    io,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tracing_subscriber::{EnvFilter, fmt};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Begins to keep what is logged from `INFO` on, without what the client library says.
pub fn record() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let logs = fmt().with_env_filter(EnvFilter::new("info,lapin=off")).with_ansi(false);
        logs.with_writer(|| Keep).init();
    });
}

/// The lines that hold all of these texts.
pub fn with(texts: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(&kept()).into_owned();
    let lines = text.lines().filter(|line| texts.iter().all(|text| line.contains(text)));
    lines.map(str::to_owned).collect()
}

/// Waits until there is a line that holds all of these texts; longer than a call to the broker may take.
pub async fn wait(texts: &[&str]) {
    let until = Instant::now() + Duration::from_secs(40);
    while with(texts).is_empty() {
        assert!(Instant::now() < until, "no line holds {texts:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn kept() -> MutexGuard<'static, Vec<u8>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Keep;

impl io::Write for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        kept().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
