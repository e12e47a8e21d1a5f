//! RabbitMQ's own PerfTest, which `deploy/dev/bench` installs under `target/perf-test`.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;

/// Confirmed messages a second of one publisher to one quorum queue, 1,000 confirms outstanding.
pub async fn confirmed(amqp: &str, queue: &str) -> anyhow::Result<f64> {
    let jars = crossdock_tests::workspace().join("target/perf-test/*");
    let mut command = Command::new("java");
    command.arg("-cp").arg(jars).arg("com.rabbitmq.perf.PerfTest").args(["--uri", amqp, "--queue", queue]);
    command.args("-x 1 -y 0 --confirm 1000 -s 512 -f persistent --quorum-queue --time 12".split(' '));
    command.kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output());
    let output = output.await.context("PerfTest does not end")?.context("failed to start java")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "PerfTest failed: {text}");
    let line =
        text.lines().find(|line| line.contains("sending rate avg")).context("PerfTest told no rate")?;
    let words: Vec<_> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "msg/s").context("PerfTest told no rate")?;
    words[unit - 1].parse().context("PerfTest told a rate that is no number")
}
