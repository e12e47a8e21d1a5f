//! Logs: text at a terminal, JSON otherwise, on standard error.

use std::{
    io::{self, IsTerminal, stderr},
    sync::mpsc::Sender,
};

use tracing_subscriber::{EnvFilter, fmt};

/// What libraries tell of by themselves is left out: the adapters say it in words of the hub, where somebody must act.
const DEFAULT: &str = "info,lapin=off,sqlx::postgres::notice=warn";

/// Sets logging up for the life of the process.
///
/// `CROSSDOCK_LOG` chooses what is written, for example `warn` or `info,crossdock::attempt=warn` (which leaves out the line
/// per attempt but for those that make a dead letter). Default `info`.
pub fn init() {
    let logs = fmt().with_env_filter(filter(DEFAULT)).with_writer(stderr);
    if stderr().is_terminal() {
        logs.with_target(false).compact().init();
    } else {
        logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
}

/// The same for a command that draws on the terminal: it gets the lines and decides where they go. Default `warn`,
/// without the line of an attempt that makes a dead letter: such a command shows those itself.
pub fn init_into(lines: Sender<String>) {
    let logs = fmt()
        .with_env_filter(filter("warn,crossdock::attempt=error"))
        .with_writer(move || Lines(lines.clone()));
    logs.with_target(false).with_ansi(false).compact().init();
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env("CROSSDOCK_LOG").unwrap_or_else(|_| EnvFilter::new(default))
}

/// A writer of log lines; a formatted event comes in one write.
struct Lines(Sender<String>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whoever drew on the terminal may have ended; there is nobody left to tell.
        let _ = self.0.send(String::from_utf8_lossy(bytes).trim_end().to_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
