//! Postgres: a cluster of its own.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use async_trait::async_trait;
use rustix::process::{Signal, geteuid};

use super::{
    program::programs,
    server::{Kind, Server},
};
use crate::services::{answers, environment, output};

/// A Postgres of one test. Its superuser is `crossdock`, without a password.
pub type Postgres = Server<PostgresOptions>;

impl Postgres {
    /// With the defaults of [`PostgresOptions`].
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// What can be chosen.
    pub fn options() -> PostgresOptions {
        PostgresOptions { settings: Vec::new(), access: Vec::new(), files: Vec::new() }
    }

    /// Runs statements as the superuser with `psql` and gives the rows that it printed, unadorned; panics if one fails.
    pub async fn psql(&self, statements: &str) -> String {
        let mut command = program("psql", self.folder()).await;
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", statements]);
        output(&mut command.into()).await
    }
}

/// How a private Postgres is set up: durable, with logical decoding, for 100 connections.
#[derive(Debug)]
pub struct PostgresOptions {
    settings: Vec<String>,
    access: Vec<String>,
    files: Vec<(String, String)>,
}

impl PostgresOptions {
    /// One more setting, `name=value`; of two with the same name the later counts.
    pub fn setting(mut self, setting: impl Into<String>) -> Self {
        self.settings.push(setting.into());
        self
    }

    /// A line of `pg_hba.conf` that goes before those that let everybody in, for example
    /// `host all guarded 127.0.0.1/32 scram-sha-256`.
    pub fn access(mut self, line: impl Into<String>) -> Self {
        self.access.push(line.into());
        self
    }

    /// A file in the folder of its data, which nobody but the server may read: a key, for example, for `ssl_key_file`.
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Starts it; returns when it answers.
    pub async fn start(self) -> Postgres {
        Server::launch(self).await
    }
}

#[async_trait]
impl Kind for PostgresOptions {
    const NAME: &'static str = "Postgres";
    // The fast shutdown: clients are cut off, the data is left clean.
    const STOP: Signal = Signal::INT;
    const PORTS: usize = 1;

    async fn create(&self, folder: &Path, _: &[u16]) {
        let user = other_user().await;
        if let Some((user, group)) = user {
            chown(folder, Some(user), Some(group)).expect("root gives a folder away");
        }
        let cluster = folder.join("cluster");
        let mut initdb = program("initdb", folder).await;
        initdb.arg("-D").arg(&cluster);
        initdb.args(["-U", "crossdock", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]);
        output(&mut initdb.into()).await;
        let access = cluster.join("pg_hba.conf");
        let default = fs::read_to_string(&access).expect("initdb writes it");
        fs::write(&access, self.access.join("\n") + "\n" + &default).expect("it can be written");
        for (name, text) in &self.files {
            let file = cluster.join(name);
            fs::write(&file, text).expect("it can be written");
            fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
            if let Some((user, group)) = user {
                chown(&file, Some(user), Some(group)).expect("root gives a file away");
            }
        }
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Command {
        let mut command = program("postgres", folder).await;
        command.arg("-D").arg(folder.join("cluster")).args(["-p", &ports[0].to_string()]);
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "wal_level=logical",
            // After a kill the data folder is made durable as a whole, not file by file.
            "recovery_init_sync_method=syncfs",
        ];
        for setting in settings.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        command
    }

    async fn answers(&self, port: u16) -> Result<(), String> {
        answers::postgres(port).await
    }

    fn url(&self, port: u16) -> String {
        format!("postgres://crossdock@127.0.0.1:{port}/postgres")
    }
}

/// One of Postgres' programs, as a user that is not root.
async fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(programs("CROSSDOCK_TEST_POSTGRES_BIN", "postgresql").join(name));
    if let Some((user, group)) = other_user().await {
        command.uid(user).gid(group);
    }
    command.current_dir(folder);
    command
}

/// Postgres refuses to run as root: then the number of the user that it runs as, and of its group.
async fn other_user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let user = environment::find("CROSSDOCK_TEST_POSTGRES_USER").unwrap_or_else(|| "postgres".to_owned());
    Some((number_of("-u", &user).await, number_of("-g", &user).await))
}

async fn number_of(what: &str, user: &str) -> u32 {
    let number = output(tokio::process::Command::new("id").args([what, user])).await;
    number.trim().parse().expect("a number of a user or group")
}
