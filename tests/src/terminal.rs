//! A command at a terminal of its own, as a person has it.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{crossdock, hub::TRACKER_SECRET};

/// How long a text may be waited for, and a command to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command at a terminal. Dropped, it is hung up on.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    seen: Vec<u8>,
}

impl Terminal {
    /// Starts the binary with these words in a folder, through `script` of util-linux (Debian: bsdutils), which makes a
    /// terminal.
    pub fn start(folder: &Path, words: &str) -> anyhow::Result<Self> {
        let command = format!("exec '{}' {words}", crossdock().display());
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"])
            .current_dir(folder)
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env("TRACKER_SECRET", TRACKER_SECRET)
            .env_remove("CROSSDOCK_URL")
            .env_remove("CROSSDOCK_TOKEN")
            .env_remove("CROSSDOCK_LOG")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start `script` of util-linux")?;
        let keyboard = child.stdin.take().context("it has no standard input")?;
        let screen = child.stdout.take().context("it has no standard output")?;
        Ok(Self { child, keyboard, screen, seen: Vec::new() })
    }

    /// Everything that was written to the terminal so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until a text stands there.
    pub async fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        self.read_until(text, |seen| seen.contains(text).then_some(())).await
    }

    /// Waits for a line that holds a text, and for its end.
    pub async fn line(&mut self, text: &str) -> anyhow::Result<String> {
        let whole = |line: &&str| line.ends_with('\n') && line.contains(text);
        self.read_until(text, |seen| seen.split_inclusive('\n').find(whole).map(str::to_owned)).await
    }

    async fn read_until<T>(&mut self, wanted: &str, find: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let reading = async {
            loop {
                if let Some(found) = find(&self.seen()) {
                    return Ok(found);
                }
                if self.screen.read_buf(&mut self.seen).await.context("the terminal cannot be read")? == 0 {
                    bail!("it ended");
                }
            }
        };
        let read = timeout(PATIENCE, reading).await.context("it takes too long").flatten();
        read.with_context(|| format!("`{wanted}` never stood in\n{}", self.seen()))
    }

    /// Presses keys; Ctrl-C is `\u{3}`.
    pub async fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.keyboard.write_all(keys.as_bytes()).await.context("the keys cannot be pressed")?;
        self.keyboard.flush().await.context("the keys cannot be pressed")
    }

    /// Waits for the end; gives back how it ended, and all that stood there.
    pub async fn end(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let ending = async {
            while self.screen.read_buf(&mut self.seen).await.context("the terminal cannot be read")? > 0 {}
            self.child.wait().await.context("failed to wait for it")
        };
        let status = timeout(PATIENCE, ending).await.context("it does not end").flatten();
        let status = status.with_context(|| self.seen())?;
        Ok((status, self.seen()))
    }
}
