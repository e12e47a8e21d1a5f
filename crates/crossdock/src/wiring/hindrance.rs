//! Why something cannot be opened, and waiting for what may come back.

use std::time::Duration;

use crossdock_core::{BrokerError, StoreError};
use tokio::sync::watch;

/// Why a server cannot be used.
#[derive(Debug)]
pub enum Hindrance {
    /// It is away, or starting: it is asked again.
    Away(anyhow::Error),
    /// Somebody must change something; waiting would not help.
    Final(anyhow::Error),
}

impl Hindrance {
    /// Why, where nobody waits.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Away(error) | Self::Final(error) => error,
        }
    }
}

/// What a hub or a port answered: what is away may come back, all else must be changed by somebody.
pub fn hindrance(error: anyhow::Error) -> Hindrance {
    let away = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(StoreError::Unavailable { .. }))
            || matches!(
                cause.downcast_ref(),
                Some(BrokerError::Unavailable { .. } | BrokerError::UnknownTopic(_))
            )
    });
    if away { Hindrance::Away(error) } else { Hindrance::Final(error) }
}

/// The first wait before a server is asked again; doubled each time.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Waits for servers, and says so once for each state.
pub struct Waiting(watch::Sender<String>);

impl Waiting {
    /// Tells `words` what is waited for.
    pub fn new(words: watch::Sender<String>) -> Self {
        Self(words)
    }

    /// Does something with a server, again and again while it is away. `what` is the server, for people.
    pub async fn until<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, Hindrance>,
    ) -> anyhow::Result<T> {
        let mut patience = Patience::default();
        self.0.send_replace(format!("the hub is starting: connecting to {what}"));
        loop {
            match attempt().await {
                Ok(done) => {
                    patience.rewarded(what);
                    return Ok(done);
                }
                Err(Hindrance::Final(error)) => return Err(error),
                Err(Hindrance::Away(error)) => {
                    self.0.send_replace(format!("the hub is starting: {what} is not available"));
                    patience.wait(what, &error).await;
                }
            }
        }
    }
}

/// Waits longer each time, and tells of each state once.
#[derive(Default)]
pub struct Patience {
    waited: Option<Duration>,
    /// The gist of what was told.
    told: Option<String>,
}

/// A reason without what is different each time that it is given: numbers, and what stands in parentheses.
fn gist(why: &str) -> String {
    let mut depth = 0_u32;
    let is_gist = |letter: &char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => return depth == 0 && !letter.is_ascii_digit(),
        }
        false
    };
    why.chars().filter(is_gist).collect()
}

impl Patience {
    /// Where somebody was told already why it is not available.
    pub fn told(why: String) -> Self {
        Self { told: Some(gist(&why)), waited: None }
    }

    /// Waits before a server is asked again.
    pub async fn wait(&mut self, what: &str, why: &anyhow::Error) {
        let why = format!("{why:#}");
        let gist = gist(&why);
        if self.told.as_ref() != Some(&gist) {
            tracing::warn!(error = why, "{what} is not available; it is asked again until it is");
            self.told = Some(gist);
        }
        let wait = self.waited.map_or(WAIT_MIN, |waited| (waited * 2).min(WAIT_MAX));
        self.waited = Some(wait);
        tokio::time::sleep(wait).await;
    }

    /// It was there; told if somebody had to wait for it.
    pub fn rewarded(&self, what: &str) {
        if self.told.is_some() {
            tracing::info!("{what} answers");
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_asked_again_with_growing_waits() {
        let (words, said) = watch::channel(String::new());
        let (began, mut asked) = (tokio::time::Instant::now(), Vec::new());
        let opened = Waiting::new(words)
            .until("the store", async || {
                asked.push(began.elapsed().as_millis());
                match asked.len() {
                    9 => Ok("open"),
                    _ => Err(Hindrance::Away(anyhow!("connection refused"))),
                }
            })
            .await;
        assert_eq!(opened.unwrap(), "open");
        assert_eq!(asked, [0, 250, 750, 1750, 3750, 7750, 15_750, 25_750, 35_750]);
        assert_eq!(*said.borrow(), "the hub is starting: the store is not available");
    }

    #[test]
    fn a_reason_is_the_same_whatever_it_counts() {
        let [one, same, other] = [
            "Failed to resolve 'kafka' (after 0ms in state CONNECT)",
            "Failed to resolve 'kafka' (after 13ms in state CONNECT, 1 identical error(s) suppressed)",
            "Connect to 'kafka' failed (after 1ms in state CONNECT)",
        ];
        assert_eq!(gist(one), gist(same));
        assert_ne!(gist(one), gist(other));
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_must_change_ends_the_wait_at_once() {
        let (words, _said) = watch::channel(String::new());
        let refused = Waiting::new(words)
            .until("the store", async || Err::<(), _>(Hindrance::Final(anyhow!("wrong password"))))
            .await;
        assert_eq!(refused.unwrap_err().to_string(), "wrong password");
    }
}
