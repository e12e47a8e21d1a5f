//! RabbitMQ: a node of its own, with an Erlang name service of its own.

use std::{env, fs, path::Path, process::Command};

use async_trait::async_trait;
use rustix::process::Signal;

use super::{
    program::programs,
    server::{Kind, Server},
};
use crate::services::{answers, output};

/// A RabbitMQ of one test. Its administrator is `crossdock` with the password `crossdock`.
pub type RabbitMq = Server<RabbitMqOptions>;

impl RabbitMq {
    /// With the defaults of [`RabbitMqOptions`].
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// What can be chosen.
    pub fn options() -> RabbitMqOptions {
        RabbitMqOptions { lines: Vec::new(), plugins: Vec::new() }
    }

    /// Runs `rabbitmqctl` with it and gives what it printed. Takes a third of a second; panics if it fails.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = program("rabbitmqctl", self.folder(), self.ports());
        command.args(arguments);
        output(&mut command.into()).await
    }
}

/// How a private RabbitMQ is set up.
#[derive(Debug)]
pub struct RabbitMqOptions {
    lines: Vec<String>,
    plugins: Vec<String>,
}

impl RabbitMqOptions {
    /// One more line of `rabbitmq.conf`, for example `listeners.ssl.1 = 127.0.0.1:PORT` with a port from
    /// [`free_port`](super::free_port).
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// A plugin that comes with RabbitMQ, for example `rabbitmq_auth_mechanism_ssl`.
    pub fn plugin(mut self, name: impl Into<String>) -> Self {
        self.plugins.push(name.into());
        self
    }

    /// Starts it; returns when it answers.
    pub async fn start(self) -> RabbitMq {
        Server::launch(self).await
    }
}

#[async_trait]
impl Kind for RabbitMqOptions {
    const NAME: &'static str = "RabbitMQ";
    const STOP: Signal = Signal::TERM;
    const PORTS: usize = 3;

    async fn create(&self, folder: &Path, ports: &[u16]) {
        let mut lines = vec![
            format!("listeners.tcp.1 = 127.0.0.1:{}", ports[0]),
            "default_user = crossdock".to_owned(),
            "default_pass = crossdock".to_owned(),
            "default_user_tags.administrator = true".to_owned(),
            "log.file = false".to_owned(),
            "log.console = true".to_owned(),
            "log.console.level = warning".to_owned(),
            "vm_memory_high_watermark.absolute = 1GB".to_owned(),
            "disk_free_limit.absolute = 200MB".to_owned(),
        ];
        lines.extend(self.lines.iter().cloned());
        fs::write(folder.join("rabbitmq.conf"), lines.join("\n") + "\n").expect("it can be written");
        let plugins = format!("[{}].\n", self.plugins.join(","));
        fs::write(folder.join("plugins"), plugins).expect("it can be written");
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Command {
        program("rabbitmq-server", folder, ports)
    }

    /// Erlang's name service. The node would start one by itself, and nobody would end that.
    fn companion(&self, ports: &[u16]) -> Option<Command> {
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &ports[2].to_string()]);
        Some(command)
    }

    async fn answers(&self, port: u16) -> Result<(), String> {
        answers::amqp(port).await
    }

    fn url(&self, port: u16) -> String {
        format!("amqp://crossdock:crossdock@127.0.0.1:{port}")
    }
}

/// One of RabbitMQ's programs for the node in this folder; nothing of a system-wide one is read or reached.
fn program(name: &str, folder: &Path, ports: &[u16]) -> Command {
    let mut command = Command::new(programs("CROSSDOCK_TEST_RABBITMQ_BIN", "rabbitmq-server").join(name));
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("LANG", "C.UTF-8")
        // Holds the cookie by which the node and its control program trust each other.
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", "crossdock@localhost")
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("none"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("logs"))
        .env("RABBITMQ_DIST_PORT", ports[1].to_string())
        .env("ERL_EPMD_PORT", ports[2].to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // Without a parent process in between: its pid is the node's, and SIGTERM stops it in order.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    command
}
