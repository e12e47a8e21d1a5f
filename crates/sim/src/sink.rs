//! A receiver that takes anything.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Answer, Histogram, Ledger, LedgerOptions, Received, Script, StartError,
    server::{Server, System},
};

/// What comes before the time stamp in a measured payload: nanoseconds since 1970, as digits.
pub const SENT_MARKER: &[u8] = b"\"sent_ns\":";

/// How a sink is started.
#[derive(Debug, Clone, Default)]
pub struct SinkOptions {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// What is written down.
    pub ledger: LedgerOptions,
    /// Whether the time since [`SENT_MARKER`] is measured.
    pub latency: bool,
}

/// A plain HTTP receiver for tests and benchmarks: nothing is parsed, connections are kept alive, answers follow a
/// [`Script`]. As its own process it gives a ledger that outlives every kill of the hub:
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use crossdock_sim::{LedgerOptions, Sink, SinkOptions};
/// let ledger = LedgerOptions::to_file("sink.jsonl");
/// let sink = Sink::start(SinkOptions { port: 9001, ledger, ..SinkOptions::default() }).await?;
/// println!("{}", sink.url());
/// tokio::signal::ctrl_c().await?;
/// sink.stop().await;
/// # Ok(()) }
/// ```
pub struct Sink {
    server: Server,
    state: Arc<State>,
}

struct State {
    ledger: Ledger,
    script: Script,
    latency: Option<Histogram>,
}

impl Sink {
    /// Listens on loopback.
    pub async fn start(options: SinkOptions) -> Result<Self, StartError> {
        let failed = |source| StartError { system: "sink", doing: "opening its ledger", source };
        let state = Arc::new(State {
            ledger: Ledger::open(options.ledger).map_err(failed)?,
            script: Script::default(),
            latency: options.latency.then(Histogram::default),
        });
        let server = Server::start("sink", options.port, Arc::clone(&state)).await?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.addr)
    }

    /// What arrived.
    pub fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    /// What it answers.
    pub fn script(&self) -> &Script {
        &self.state.script
    }

    /// Time from the payload's stamp to its arrival, where it is measured; accepted requests only.
    pub fn latency(&self) -> Option<&Histogram> {
        self.state.latency.as_ref()
    }

    /// Closes everything, also in the middle of an answer.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

impl System for State {
    fn answer(&self, request: Received) -> Answer {
        let answer = self.script.answer(&request, || self.ledger.key_of(&request));
        if let Some(latency) = self.latency.as_ref().filter(|_| answer.accepts()) {
            for sent in stamps(&request.body) {
                latency.record(since(sent));
            }
        }
        self.ledger.record(&request, answer.status);
        answer
    }
}

/// The time stamps of a payload, in nanoseconds since 1970.
fn stamps(body: &[u8]) -> impl Iterator<Item = u64> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let at = rest.windows(SENT_MARKER.len()).position(|window| window == SENT_MARKER)?;
        rest = &rest[at + SENT_MARKER.len()..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).take(19);
        Some(
            digits.fold(0, |number: u64, digit| {
                number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
            }),
        )
    })
}

fn since(sent_ns: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(sent_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stamp_of_a_batch_is_found() {
        let body = br#"[{"sent_ns":17,"a":"sent_ns"},{"b":{"sent_ns":1700000000000000000}}]"#;
        assert_eq!(stamps(body).collect::<Vec<_>>(), [17, 1_700_000_000_000_000_000]);
    }
}
