//! Tests: one dead letter is sent, and a person waits for the result.
//!
//! A test is a replay of one item that its owner tries once and at once, whatever the gate and the schedule say. The owner
//! may be another worker, so what it came to is asked of the store.

use std::{sync::Arc, time::Duration};

use crossdock_core::{
    Act, DeadLetter, NewReplay, Replay, ReplayId, ReplayState, Selection, StoreError, Tried,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    acts::{ActError, ReplayChange, TestResult},
    limit::within,
    replay::Replayer,
};

/// How long a person waits for a test. The call itself may take longer; what it came to is in the store then.
const TEST_MAX: Duration = Duration::from_secs(120);
/// The first and the longest wait before the store is asked again what became of a test.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(200);
/// How long the result may come after the end of the replay.
const RESULT_MAX: Duration = Duration::from_secs(5);

impl Replayer {
    /// Sends one dead letter now and waits for the result of that try. Must run to its end.
    pub(crate) async fn test(self: &Arc<Self>, dead_letter: &str, act: &Act) -> Result<TestResult, ActError> {
        let letter = self.testable(dead_letter).await?.id;
        let selection = Selection { ids: vec![letter.clone()], ..Selection::default() };
        let replay = self.create(NewReplay { selection, rate: None, test: true, act: act.clone() }).await?;
        let tried = match timeout(TEST_MAX, self.result(&replay.id)).await {
            Ok(tried) => tried?,
            Err(_) => self.give_up(&replay.id, act).await?,
        };
        let Tried { outcome, attempt } = tried;
        Ok(TestResult { dead_letter: letter, outcome, attempt })
    }

    /// The dead letter of an id, or the only one of an event.
    async fn testable(&self, dead_letter: &str) -> Result<DeadLetter, ActError> {
        let not_found = || ActError::NotFound { what: "dead letter", id: dead_letter.to_owned() };
        let letter =
            within("reading a dead letter", self.feeder.stores.dead_letters.get(dead_letter)).await?;
        let letter = letter.ok_or_else(not_found)?;
        if !self.feeder.plan.flows.iter().any(|flow| flow.name == letter.flow) {
            let text = format!("the flow `{}` is no longer in the configuration", letter.flow);
            return Err(StoreError::Conflict(text).into());
        }
        Ok(letter)
    }

    /// Waits for what a test comes to. Cancellation is safe.
    async fn result(&self, id: &ReplayId) -> Result<Tried, ActError> {
        let (mut wait, mut over_since) = (ASK_AGAIN, None);
        loop {
            match self.replay(id).await {
                // Not before its item is settled, so that whoever is answered finds the dead letter as it is now.
                Ok(Replay { tried: Some(tried), state, .. }) if state.is_final() => return Ok(tried),
                Ok(replay) if replay.state.is_final() => {
                    let since = *over_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > RESULT_MAX {
                        return Err(ended_without_result(&replay));
                    }
                }
                // A store that does not answer now may do so in a moment.
                Ok(_) | Err(ActError::Store(StoreError::Unavailable { .. })) => {}
                Err(error) => return Err(error),
            }
            sleep(wait).await;
            wait = (wait * 2).min(ASK_AGAIN_MAX);
        }
    }

    async fn replay(&self, id: &ReplayId) -> Result<Replay, ActError> {
        let replay = within("reading a replay", self.feeder.stores.replays.get(id)).await?;
        replay.ok_or_else(|| ActError::NotFound { what: "replay", id: id.clone() })
    }

    /// Nobody took the test, or its call is still out: it is cancelled, so that it is not made behind the person's back.
    async fn give_up(&self, id: &ReplayId, act: &Act) -> Result<Tried, ActError> {
        match self.change(id, ReplayChange::State(ReplayState::Cancelled), act).await {
            Ok(Replay { tried: Some(tried), .. }) => Ok(tried),
            Ok(_) => {
                let text = format!(
                    "the test has given no result within {} s and was cancelled; the dead letter is open again. If its \
                     call is still out, `replay show {id}` tells what it comes to",
                    TEST_MAX.as_secs()
                );
                Err(StoreError::Conflict(text).into())
            }
            // It ended at this very moment.
            Err(error) => self.replay(id).await?.tried.ok_or(error),
        }
    }
}

fn ended_without_result(replay: &Replay) -> ActError {
    let text = match replay.state {
        ReplayState::Cancelled => "somebody cancelled the test before it was made".to_owned(),
        state => {
            format!("the test has {} without a word of its try: `replay show {}`", state.as_str(), replay.id)
        }
    };
    StoreError::Conflict(text).into()
}
