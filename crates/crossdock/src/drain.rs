//! The end of a hub at a terminal: how many calls are still out, how fast they finish, how long it takes.

use std::{convert::Infallible, io::IsTerminal, sync::Arc, time::Duration};

use crossdock_engine::Hub;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const EVERY: Duration = Duration::from_millis(100);
const STYLE: &str = "{bar:30} {pos}/{len} calls finished · {per_sec} · {eta} left";

/// Shows the calls that are out until it is dropped. Draws nothing where nobody looks.
pub async fn show(hub: Arc<Hub>) -> Infallible {
    let out = || hub.connections().iter().map(|connection| connection.in_flight as u64).sum::<u64>();
    let total = out();
    if total == 0 || !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let style = ProgressStyle::with_template(STYLE).expect("the template is valid");
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style);
    let bar = ClearedAtLast(bar);
    loop {
        bar.0.set_position(total.saturating_sub(out()));
        tokio::time::sleep(EVERY).await;
    }
}

/// The log line that follows says how it ended.
struct ClearedAtLast(ProgressBar);

impl Drop for ClearedAtLast {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
