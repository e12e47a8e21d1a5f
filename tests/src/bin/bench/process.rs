//! A hub of the release build that is measured.

use std::{
    fs::File,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use jiff::Timestamp;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A hub that is measured. Dropped, it is killed.
pub struct Measured {
    child: Child,
    folder: TempDir,
    pub url: String,
    pub address: std::net::SocketAddr,
    /// From the start of the process to the line `ready`.
    pub ready_after: Duration,
    resident_max_kib: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    client: Client,
}

impl Measured {
    /// Starts a hub with this configuration.
    pub async fn start(config: &str) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder")?;
        Self::start_in(folder, config).await
    }

    /// Starts a hub in a folder that another one has left.
    pub async fn start_in(folder: TempDir, config: &str) -> anyhow::Result<Self> {
        std::fs::write(folder.path().join("crossdock.yaml"), config)
            .context("failed to write the configuration")?;
        let secret = ("TRACKER_SECRET", crossdock_tests::TRACKER_SECRET.to_owned());
        Self::start_as(folder, &["run"], &[secret]).await
    }

    /// Starts a hub in a folder with a configuration, by these arguments and environment variables.
    pub async fn start_as(
        folder: TempDir,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let log = File::create(folder.path().join("log.jsonl")).context("failed to make a log file")?;
        let began = Instant::now();
        let child = Command::new(crossdock_tests::crossdock())
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the hub: `make bench` builds it")?;
        let url = wait_ready(folder.path()).await?;
        let ready_after = began.elapsed();
        let address = url.trim_start_matches("http://").parse().context("the url has no address")?;
        let (resident_max_kib, ended) = (Arc::default(), Arc::default());
        let hub =
            Self { child, folder, url, address, ready_after, resident_max_kib, ended, client: Client::new() };
        hub.watch_memory()?;
        Ok(hub)
    }

    fn watch_memory(&self) -> anyhow::Result<()> {
        let pid = self.child.id().context("the hub has ended")?;
        let (most, ended) = (self.resident_max_kib.clone(), self.ended.clone());
        tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                if let Some(resident) = resident_kib(pid) {
                    most.fetch_max(resident, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(())
    }

    /// The most memory that was resident so far, in MiB.
    pub fn resident_max_mib(&self) -> f64 {
        self.resident_max_kib.load(Ordering::Relaxed) as f64 / 1024.0
    }

    /// The processor time that the hub has used so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = self.child.id().context("the hub has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("failed to read /proc")?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Pauses or resumes the connection.
    pub async fn set_connection(&self, state: &str) -> anyhow::Result<()> {
        let body = json!({ "state": state, "reason": "benchmark" });
        let request = self.client.patch(format!("{}/v1/connections/sink", self.url)).json(&body);
        let answer = request.send().await.context("failed to call the hub")?;
        if answer.status().is_success() { Ok(()) } else { bail!("{}", answer.text().await?) }
    }

    /// Waits until the status is as asked.
    pub async fn wait_status(&self, is_so: impl Fn(&Value) -> bool, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            let status: Value =
                self.client.get(format!("{}/v1/status", self.url)).send().await?.json().await?;
            if is_so(&status) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("the status never came to what was waited for: {status}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// When the hub logged this message for the first time.
    pub async fn logged_at(&self, message: &str) -> anyhow::Result<Timestamp> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Some(line) = logged(self.folder.path(), message)? {
                let at = line["timestamp"].as_str().context("the line has no time")?;
                return at.parse().context("the line's time is none");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the hub has not logged `{message}`")
    }

    /// Ends the hub in good order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let pid = self.child.id().context("the hub has ended")?.to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await.context("failed to run kill")?;
        let end = tokio::time::timeout(Duration::from_secs(30), self.child.wait());
        end.await.context("the hub does not end")?.context("failed to wait for the hub")?;
        Ok(())
    }

    /// Ends the hub and gives its folder.
    pub async fn end(mut self) -> anyhow::Result<TempDir> {
        self.ended.store(true, Ordering::Relaxed);
        self.child.kill().await.context("failed to end the hub")?;
        Ok(self.folder)
    }
}

async fn wait_ready(folder: &Path) -> anyhow::Result<String> {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if let Some(line) = logged(folder, "ready")? {
            return Ok(line["url"].as_str().context("the line has no url")?.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("the hub does not become ready: {}", std::fs::read_to_string(folder.join("log.jsonl"))?)
}

/// The first line of the log with this message.
fn logged(folder: &Path, message: &str) -> anyhow::Result<Option<Value>> {
    let log = std::fs::read_to_string(folder.join("log.jsonl")).context("failed to read the log")?;
    let wanted = format!("\"message\":\"{message}\"");
    let mut whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let line = whole.find(|line| line.contains(&wanted));
    line.map(serde_json::from_str).transpose().context("the line is not JSON")
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
