//! Watches a replay until it has finished.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::{
    age,
    client::{Client, Reply},
    failure::{Code, Failure},
    screen::Screen,
};

/// How often a person sees news, and how often a log gets a line.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The time over which the speed is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// Follows a replay to its end and shows it: exit with 0 if everything was delivered, with 1 if not.
pub async fn follow(id: &str, client: &Client, screen: &mut Screen) -> Result<Code, Failure> {
    let mut watch = Watch::new(screen);
    let reply = loop {
        let reply = client.get(&["replays", id], &[]).await?;
        if is_final(&reply.value) {
            watch.end();
            break reply;
        }
        watch.show(&reply.value, screen);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => {
                watch.end();
                return Err(left(id));
            }
        }
    };
    finished(&reply, screen)
}

fn is_final(replay: &Value) -> bool {
    matches!(replay.get("state").and_then(Value::as_str), Some("succeeded" | "failed" | "cancelled"))
}

fn finished(reply: &Reply, screen: &mut Screen) -> Result<Code, Failure> {
    screen.one(reply)?;
    match reply.value.get("state").and_then(Value::as_str) {
        Some("succeeded") => Ok(Code::Ok),
        _ => Ok(Code::Failed),
    }
}

fn left(id: &str) -> Failure {
    Failure::new(Code::Failed, "left before the end; the replay goes on")
        .next(format!("crossdock replay show {id} --follow, or crossdock replay cancel {id}"))
}

struct Watch {
    bar: Option<ProgressBar>,
    seen: VecDeque<(Instant, u64)>,
    said: Option<Instant>,
}

impl Watch {
    fn new(screen: &Screen) -> Self {
        let bar = screen.bar.then(|| {
            let style =
                ProgressStyle::with_template("{bar:24} {msg}").unwrap_or(ProgressStyle::default_bar());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { bar, seen: VecDeque::new(), said: None }
    }

    fn show(&mut self, replay: &Value, screen: &mut Screen) {
        let number = |name| replay.get(name).and_then(Value::as_u64).unwrap_or_default();
        let settled = number("delivered") + number("failed") + number("skipped");
        let now = Instant::now();
        self.seen.push_back((now, settled));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(then, _)| now - *then > WINDOW) {
            self.seen.pop_front();
        }
        let text = progress(replay, settled, number("total"), number("failed"), self.speed());
        match &self.bar {
            Some(bar) => {
                bar.set_length(number("total"));
                bar.set_position(settled);
                bar.set_message(text);
            }
            None if self.said.is_none_or(|then| now - then >= LINE_EVERY) => {
                screen.hint(&text);
                self.said = Some(now);
            }
            None => {}
        }
    }

    /// Items a second, lately.
    fn speed(&self) -> f64 {
        match (self.seen.front(), self.seen.back()) {
            (Some((then, before)), Some((now, after))) if now > then => {
                after.saturating_sub(*before) as f64 / (*now - *then).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn progress(replay: &Value, settled: u64, total: u64, failed: u64, speed: f64) -> String {
    let mut text = format!("{}/{}", age::count(settled), age::count(total));
    if failed > 0 {
        text.push_str(&format!(", {} failed again", age::count(failed)));
    }
    match replay.get("state").and_then(Value::as_str) {
        Some("running") if speed >= 0.1 => {
            let left = (total.saturating_sub(settled) as f64 / speed).ceil() as u64;
            let digits = if speed < 10.0 { 1 } else { 0 };
            text.push_str(&format!(", {speed:.digits$}/s, {} left", age::short(left)));
        }
        Some("running") | None => {}
        Some(state) => text.push_str(&format!(", {state}")),
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_tells_how_far_how_fast_and_how_long() {
        let running = json!({ "state": "running" });
        assert_eq!(
            progress(&running, 26_410, 40_000, 12, 250.0),
            "26,410/40,000, 12 failed again, 250/s, 55s left"
        );
        assert_eq!(progress(&running, 1, 3, 0, 0.52), "1/3, 0.5/s, 4s left");
        assert_eq!(progress(&running, 0, 40_000, 0, 0.0), "0/40,000");
        assert_eq!(progress(&json!({ "state": "paused" }), 5, 9, 0, 3.0), "5/9, paused");
    }
}
