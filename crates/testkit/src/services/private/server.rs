//! What the three have in common: how they come up, go down and come up again.

use std::{fs, path::Path, process::Command, time::Duration};

use async_trait::async_trait;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{free_port, program::Program};

/// Longer than the slowest takes to answer on a machine that is busy building.
const START_MAX: Duration = Duration::from_secs(90);

/// How often a server that found a port taken is tried again with others.
const TRIES: usize = 3;

/// What makes a server that one. Its value is the options.
#[async_trait]
pub trait Kind: Send + Sync + Sized + 'static {
    /// As in messages.
    const NAME: &'static str;
    /// What makes it stop in order.
    const STOP: Signal;
    /// How many ports it needs; clients use the first.
    const PORTS: usize;

    /// Lays down in an empty folder what the server starts from.
    async fn create(&self, folder: &Path, ports: &[u16]);

    /// Starts it. Called again after a stop or a kill.
    async fn command(&self, folder: &Path, ports: &[u16]) -> Command;

    /// What must run beside it, also while it is down.
    fn companion(&self, _ports: &[u16]) -> Option<Command> {
        None
    }

    /// Whether it serves; if not, why.
    async fn answers(&self, port: u16) -> Result<(), String>;

    /// How the configuration and the clients name it.
    fn url(&self, port: u16) -> String;
}

/// A server of one test.
pub struct Server<K: Kind> {
    kind: K,
    ports: Vec<u16>,
    program: Option<Program>,
    _companion: Option<Program>,
    // The last field: the folder goes when nothing writes to it any more.
    folder: TempDir,
}

impl<K: Kind> Server<K> {
    /// Starts it on free ports with nothing in it, and waits until it answers.
    pub(super) async fn launch(kind: K) -> Self {
        let mut server = Self::create(kind).await;
        for _ in 1..TRIES {
            match server.run().await {
                Ok(()) => return server,
                // Between the look for a free port and its use another test took it.
                Err(log) if log.contains("in use") || log.contains("eaddrinuse") => {
                    server = Self::create(server.kind).await;
                }
                Err(log) => panic!("{} does not start:\n{log}", K::NAME),
            }
        }
        server.run().await.unwrap_or_else(|log| panic!("{} does not start:\n{log}", K::NAME));
        server
    }

    async fn create(kind: K) -> Self {
        let folder = tempfile::Builder::new().prefix("crossdock-").tempdir().expect("a folder can be made");
        let mut ports: Vec<u16> = Vec::new();
        while ports.len() < K::PORTS {
            let port = free_port();
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        kind.create(folder.path(), &ports).await;
        let companion = kind.companion(&ports).map(|command| Program::start(command, folder.path()));
        Self { kind, ports, program: None, _companion: companion, folder }
    }

    /// Starts the program and waits until it answers; the end of its log if it ends instead.
    async fn run(&mut self) -> Result<(), String> {
        let command = self.kind.command(self.folder.path(), &self.ports).await;
        let program = self.program.insert(Program::start(command, self.folder.path()));
        let until = Instant::now() + START_MAX;
        while let Err(reason) = self.kind.answers(self.ports[0]).await {
            if let Some(status) = program.ended() {
                return Err(format!("{status}\n{}", end_of_log(self.folder.path())));
            }
            assert!(Instant::now() < until, "{reason}\n{}", end_of_log(self.folder.path()));
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Where it is, as in `store:` and `broker:`. Stays the same.
    pub fn url(&self) -> String {
        self.kind.url(self.ports[0])
    }

    /// The port of its URL.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Its folder, with the file `log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops it in order, as an operator does; returns when it has ended. Nothing happens if it is down.
    pub async fn stop(&mut self) {
        if let Some(program) = self.program.take() {
            program.stop(K::STOP).await;
        }
    }

    /// Ends it and its child processes by `kill -9`; returns when it is gone. Nothing happens if it is down.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Freezes it where it is: it keeps its connections, and neither answers nor closes them. Nothing happens if it is down.
    pub fn freeze(&mut self) {
        self.program.iter_mut().for_each(|program| program.signal(Signal::STOP));
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.program.iter_mut().for_each(|program| program.signal(Signal::CONT));
    }

    /// Stops it, unless it is down, and starts it again with its ports and its data. Returns when it answers.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.run().await.unwrap_or_else(|log| panic!("{} does not start again:\n{log}", K::NAME));
    }

    pub(super) fn ports(&self) -> &[u16] {
        &self.ports
    }
}

fn end_of_log(folder: &Path) -> String {
    let log = fs::read(folder.join("log")).unwrap_or_default();
    let from = log.len().saturating_sub(4_000);
    String::from_utf8_lossy(&log[from..]).into_owned()
}
