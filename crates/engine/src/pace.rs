//! How fast a replay is sent.

use std::time::Duration;

use tokio::time::Instant;

/// The most items that are let through at once.
pub(crate) const AT_ONCE: u64 = 64;

/// Says how many items may be sent when. Unused time is not saved up beyond a tenth of a second.
pub(crate) struct Pace {
    last: Instant,
    tokens: f64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { last: Instant::now(), tokens: 1.0 }
    }

    /// Waits until at least one item may be sent at this rate (items a second) and says how many. Cancellation is safe.
    pub(crate) async fn next(&mut self, rate: f64) -> u64 {
        loop {
            let now = Instant::now();
            let burst = (rate / 10.0).max(1.0);
            self.tokens = (self.tokens + rate * now.duration_since(self.last).as_secs_f64()).min(burst);
            self.last = now;
            if self.tokens >= 1.0 {
                let count = (self.tokens as u64).min(AT_ONCE);
                self.tokens -= count as f64;
                return count;
            }
            let wait = (1.0 - self.tokens) / rate;
            tokio::time::sleep(Duration::from_secs_f64(wait.clamp(0.001, 3600.0))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_over_a_second_and_never_bursts() {
        for rate in [0.5, 3.0, 200.0, 2000.0] {
            let (mut pace, began, mut sent) = (Pace::new(), Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(10) {
                let count = pace.next(rate).await;
                assert!(count as f64 <= (rate / 10.0).max(1.0));
                sent += count;
            }
            let expected = rate * 10.0;
            assert!((sent as f64 - expected).abs() <= expected * 0.1 + 2.0, "{rate}/s sent {sent} in 10 s");
        }
    }
}
