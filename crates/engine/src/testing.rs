//! Tests: one dead letter is sent, and a person waits for the result.
//!
//! Where its place is ours, the item is handed over by hand and tried once, whatever the gate and the schedule say. Where
//! another worker has the place, that one sends it as a replay of one, and the store is asked what became of it.

use std::{sync::Arc, time::Duration};

use crossdock_core::{
    Act, Attempt, DeadLetter, LetterState, NewReplay, Outcome, Partition, ReplayState, Selection, StoreError,
    chain,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    acts::{ActError, ReplayChange, TestResult},
    dispatcher::Command,
    job::{Going, Job, Place, place_of},
    limit::within,
    replay::Replayer,
    work::TestOutcome,
};

/// How long a person waits for a test. The call itself may take longer; what it came to is in the store then.
const TEST_MAX: Duration = Duration::from_secs(120);
/// How often the store is asked what became of a test that another worker makes.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Replayer {
    /// Sends one dead letter now and waits for the result of that try. Must run to its end.
    pub(crate) async fn test(self: &Arc<Self>, dead_letter: &str, act: &Act) -> Result<TestResult, ActError> {
        let until = Instant::now() + TEST_MAX;
        let letter = self.testable(dead_letter).await?;
        let ours = self.is_ours(&letter);
        let job = self.create_test(&letter, ours, act).await?;
        if ours {
            self.test_here(&job, letter, until, act).await
        } else {
            self.test_elsewhere(&job.id, letter, until).await
        }
    }

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

    /// Whether this worker is to make the test: it has the place, or is the only one there is.
    fn is_ours(&self, letter: &DeadLetter) -> bool {
        let (flow, partition) = place(letter);
        !self.feeder.stores.shared || self.feeder.dispatchers.get(&flow, &partition).is_some()
    }

    async fn create_test(
        self: &Arc<Self>,
        letter: &DeadLetter,
        ours: bool,
        act: &Act,
    ) -> Result<Arc<Job>, ActError> {
        let _acting = self.acting.lock().await;
        let selection = Selection { ids: vec![letter.id.clone()], ..Selection::default() };
        let new = NewReplay { selection, rate: None, act: act.clone() };
        let replay = within("making a replay", self.feeder.stores.replays.create(new)).await?;
        Ok(self.begin(&replay, if ours { Going::Test } else { Going::On }))
    }

    async fn test_here(
        &self,
        job: &Job,
        letter: DeadLetter,
        until: Instant,
        act: &Act,
    ) -> Result<TestResult, ActError> {
        let (result, waiting) = oneshot::channel();
        if let Err(error) = self.hand_test(job, &letter, result, until).await {
            self.give_up(job, act).await;
            return Err(error);
        }
        match timeout_at(until, waiting).await {
            Ok(Ok((outcome, attempt))) => Ok(TestResult { dead_letter: letter.id, outcome, attempt }),
            _ => Err(no_result_yet(&job.id)),
        }
    }

    /// Hands the only item of a test to its dispatcher. From then on the job looks after it.
    async fn hand_test(
        &self,
        job: &Job,
        letter: &DeadLetter,
        result: oneshot::Sender<TestOutcome>,
        until: Instant,
    ) -> Result<(), ActError> {
        let (flow, partition) = place(letter);
        let items = self.feeder.stores.replays.items(&job.id, &flow, &partition, 0, 1);
        let items = within("reading the items of a replay", items).await?;
        let Some(item) = items.first() else { return Ok(()) };
        let (place, number) = (place_of(item), item.ticket.item);
        let mut told = job.watch();
        let reserving = async {
            let found = self.feeder.dispatchers.find(&place.0, &place.1).await;
            let slot = found.handle.inbox.clone().reserve_owned().await.ok()?;
            Some((found.number, slot))
        };
        let reserved = tokio::select! {
            biased;
            // Somebody cancels it.
            _ = told.changed() => None,
            reserved = timeout_at(until, reserving) => reserved.ok().flatten(),
        };
        let handed = reserved.is_some_and(|(dispatcher, slot)| {
            job.hand_test(&place, dispatcher, number, &told, || {
                slot.send(Command::Replay(items, Some(result)));
            })
        });
        if !handed {
            let text =
                "the flow takes nothing at the moment: the test was not made, the dead letter is open again";
            return Err(StoreError::Conflict(text.to_owned()).into());
        }
        job.go(Going::On);
        Ok(())
    }

    /// A test that could not be handed over is cancelled. If that fails too, it goes on as a replay of one.
    async fn give_up(&self, job: &Job, act: &Act) {
        let cancel = ReplayChange::State(ReplayState::Cancelled);
        if let Err(error) = self.change(&job.id, cancel, act).await {
            tracing::warn!(replay = job.id, error = chain(&error), "failed to cancel a test; it goes on");
            job.go(Going::On);
        }
    }

    async fn test_elsewhere(
        &self,
        replay: &str,
        letter: DeadLetter,
        until: Instant,
    ) -> Result<TestResult, ActError> {
        while Instant::now() < until {
            sleep(ASK_AGAIN).await;
            match self.became(replay, &letter).await {
                Ok(Some((outcome, attempt))) => {
                    return Ok(TestResult { dead_letter: letter.id, outcome, attempt });
                }
                // A store that does not answer now may do so in a moment.
                Ok(None) | Err(ActError::Store(StoreError::Unavailable { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(no_result_yet(replay))
    }

    /// What became of the only item of a replay, as far as it was tried.
    async fn became(&self, replay: &str, sent: &DeadLetter) -> Result<Option<TestOutcome>, ActError> {
        let stores = &self.feeder.stores;
        let by_replay = |attempts: &[Attempt]| {
            attempts.iter().rfind(|one| one.replay.as_deref() == Some(replay)).cloned()
        };
        let letter = within("reading a dead letter", stores.dead_letters.get(&sent.id)).await?;
        let Some(letter) = letter else { return Ok(None) };
        match letter.state {
            LetterState::Replayed => Ok(Some((Outcome::Delivered, delivered_elsewhere()))),
            LetterState::Replaying => {
                let held = within("reading held events", stores.held.of_event(&sent.position)).await?;
                let row = held.iter().find(|row| row.held.flow == sent.flow);
                let tried = row.and_then(|row| by_replay(&row.held.attempts));
                Ok(tried.map(|attempt| (Outcome::Failed, attempt)))
            }
            LetterState::Open | LetterState::Discarded => match by_replay(&letter.attempts) {
                Some(attempt) => Ok(Some((Outcome::Failed, attempt))),
                None => {
                    let text = "somebody cancelled the test before it was made";
                    Err(StoreError::Conflict(text.to_owned()).into())
                }
            },
        }
    }
}

fn place(letter: &DeadLetter) -> Place {
    let partition = Partition { topic: letter.position.topic.clone(), number: letter.position.partition };
    (letter.flow.clone(), partition)
}

/// A delivery is not among the tries of a letter: what is known of it is that it was made.
fn delivered_elsewhere() -> Attempt {
    Attempt {
        n: 1,
        at: jiff::Timestamp::now(),
        duration_ms: 0,
        request: None,
        status: None,
        class: None,
        code: None,
        message: "another worker has delivered it".to_owned(),
        excerpt: None,
        times: 1,
        replay: None,
    }
}

fn no_result_yet(replay: &str) -> ActError {
    let text = format!("the test has given no result yet; look at it with `replay show {replay}`");
    StoreError::Conflict(text).into()
}
