//! The hub as a process.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, bail};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// How long a start, a stop or an answer may take on a machine that builds at the same time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the connections of the tests sign with: the value of `TRACKER_SECRET` in every hub, in the form of Standard Webhooks.
pub const TRACKER_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in a folder of the workspace")
}

/// The binary under test: beside the test's own program, where the build has put both.
pub fn crossdock() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    let folder = own.ancestors().find(|folder| folder.ends_with("deps")).and_then(Path::parent);
    let folder = folder.or(own.parent()).expect("a program is in a folder");
    folder.join("crossdock")
}

/// What a hub is started with. The folder lives as long as this value, over any number of hubs.
pub struct Setup {
    folder: TempDir,
    variables: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Setup {
    /// A folder with this configuration as `crossdock.yaml`.
    pub fn new(config: &str) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder")?;
        std::fs::write(folder.path().join("crossdock.yaml"), config)
            .context("failed to write the configuration")?;
        Ok(Self { folder, variables: Vec::new(), wrapper: Vec::new() })
    }

    /// The same with an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same through a program that gets the binary and its arguments behind its own and becomes it, such as `nice`.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration anew, for the next start.
    pub fn rewrite(&self, config: &str) -> anyhow::Result<()> {
        std::fs::write(self.folder().join("crossdock.yaml"), config)
            .context("failed to write the configuration")
    }

    /// Runs a command of the binary in the folder to its end.
    pub async fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = self.prepared(arguments).stdin(Stdio::null()).output();
        tokio::time::timeout(PATIENCE, output)
            .await
            .context("the command does not end")?
            .context("failed to start it")
    }

    /// Starts the hub and waits until it says that it is ready.
    pub async fn start(&self) -> anyhow::Result<Hub> {
        self.start_with(&[]).await
    }

    /// Starts the hub with more environment variables.
    pub async fn start_with(&self, variables: &[(&str, &str)]) -> anyhow::Result<Hub> {
        let mut hub = self.spawn(variables)?;
        hub.wait_ready().await?;
        Ok(hub)
    }

    /// Starts the hub and does not wait.
    pub fn spawn(&self, variables: &[(&str, &str)]) -> anyhow::Result<Hub> {
        self.spawn_as(&["run"], variables)
    }

    /// Starts the hub by these arguments and does not wait.
    pub fn spawn_as(&self, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Hub> {
        let mut command = self.prepared(arguments);
        command.envs(variables.iter().copied());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}: `make test` builds it", crossdock().display()))?;
        let stderr = child.stderr.take().context("the process has no standard error")?;
        let (lines, log) = (Arc::new(Mutex::new(Vec::new())), watch::Sender::new(0));
        let (kept, told) = (lines.clone(), log.clone());
        tokio::spawn(async move {
            let mut stderr = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = stderr.next_line().await {
                kept.lock().expect("no holder of this lock panics").push(line);
                told.send_modify(|count| *count += 1);
            }
            told.send_modify(|count| *count = usize::MAX);
        });
        Ok(Hub { child, url: String::new(), lines, log, client: Client::new() })
    }

    fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = match self.wrapper.split_first() {
            None => Command::new(crossdock()),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(crossdock());
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_remove("CROSSDOCK_URL")
            .env_remove("CROSSDOCK_TOKEN");
        command.env("TRACKER_SECRET", TRACKER_SECRET);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A running hub. Dropped, it is killed.
pub struct Hub {
    child: Child,
    /// Where its API is; known once it is ready.
    pub url: String,
    lines: Arc<Mutex<Vec<String>>>,
    log: watch::Sender<usize>,
    client: Client,
}

impl Hub {
    /// Waits for the line that says where the API is.
    pub async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let line = self.wait_line("\"message\":\"ready\"").await?;
        let line: Value = serde_json::from_str(&line).context("the line is not JSON")?;
        self.url = line["url"].as_str().context("the line has no url")?.to_owned();
        Ok(())
    }

    /// Waits for a log line that holds a text.
    pub async fn wait_line(&self, text: &str) -> anyhow::Result<String> {
        self.wait_for_line(text, |line| line.contains(text)).await
    }

    /// Waits for a log line that is as asked for; `what` names it where it never comes.
    pub async fn wait_for_line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let mut log = self.log.subscribe();
        let found = async {
            loop {
                let count = *log.borrow_and_update();
                let line = self.log_lines().into_iter().find(|line| is_it(line));
                match line {
                    Some(line) => return Ok(line),
                    None if count == usize::MAX => bail!("the hub ended: {}", self.log_lines().join("\n")),
                    None => log.changed().await?,
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.with_context(|| format!("no line with {what}"))?
    }

    /// Every log line so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.lines.lock().expect("no holder of this lock panics").clone()
    }

    /// The process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("failed to kill the hub")
    }

    /// SIGTERM.
    pub async fn terminate(&self) -> anyhow::Result<()> {
        self.signal("TERM").await
    }

    /// Any signal by its name, such as `STOP` and `CONT`.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.child.id().context("the hub has ended")?.to_string();
        let status =
            Command::new("kill").args(["-s", name, &pid]).status().await.context("failed to run kill")?;
        if status.success() { Ok(()) } else { bail!("kill -s {name} {pid}: {status}") }
    }

    /// Waits for the end.
    pub async fn wait_end(&mut self) -> anyhow::Result<ExitStatus> {
        let end = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the hub does not end")?;
        end.context("failed to wait for the hub")
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait().context("failed to look at the hub")?.is_some())
    }

    /// A GET that must succeed, as JSON.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.call(Method::GET, path, None).await?;
        if status.is_success() { Ok(body) } else { bail!("GET {path}: {status} {body}") }
    }

    /// A POST that must succeed, as JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, answer) = self.call(Method::POST, path, Some(body)).await?;
        if status.is_success() { Ok(answer) } else { bail!("POST {path}: {status} {answer}") }
    }

    /// Any call with a JSON body and whatever it answers.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("failed to call {path}"))?;
        let status = answer.status();
        let bytes = answer.bytes().await.context("failed to read the answer")?;
        let json = serde_json::from_slice(&bytes)
            .unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok((status, json))
    }

    /// Waits until something that the API says is so.
    pub async fn wait_until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let value = self.get(path).await?;
            if is_so(&value) {
                return Ok(value);
            }
            if tokio::time::Instant::now() > until {
                bail!("{path} never came to what was waited for: {value}\n{}", self.log_lines().join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
