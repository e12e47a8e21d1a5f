//! Logs: text at a terminal, JSON otherwise, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

/// Sets logging up for the life of the process.
///
/// `CROSSDOCK_LOG` chooses what is written, for example `warn` or `info,crossdock::attempt=warn` (which leaves out the line
/// per attempt). Default `info`.
pub fn init() {
    let filter = EnvFilter::try_from_env("CROSSDOCK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = fmt().with_env_filter(filter).with_writer(stderr);
    if stderr().is_terminal() {
        logs.with_target(false).compact().init();
    } else {
        logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
}
