//! Settle: write what was decided, in order, and only then tell the broker.
//!
//! One write is under way at a time in each dispatcher; what comes meanwhile goes together into the next one. If the
//! store fails, the same settlements are written again until it answers: nothing is settled otherwise, and the broker
//! keeps what it has.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crossdock_core::{
    DeadLetter, Decision, Delivery, Fingerprint, HeldId, LetterState, Owner, Settled, Settlement,
    Settlements, StoreError, chain, time_ordered_id,
};
use futures::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    decide::Decided,
    flow::Flow,
    lanes::KeyHash,
    limit::within_time,
    work::{Origin, Work},
};

/// How many settlements go into one write at the most: large enough to use a transaction well, small enough that others
/// get their turn.
const BATCH_MAX: usize = 1000;
/// The first and the longest wait after a store that failed.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// From this failure in a row on the status tells of it.
const TROUBLE_FROM: u32 = 3;
/// How often a failure that goes on is told of.
const TOLD_EVERY: u32 = 15;
/// How long the store is waited for; longer than it waits for its disk.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// What to do once the store has a settlement.
pub(crate) enum After {
    /// A head and what was queued behind it are held.
    Spilled { key: KeyHash, head: Box<Work>, due: Instant, deliveries: Vec<Option<Delivery>>, weight: usize },
    /// One event was appended behind a held key.
    Appended { key: KeyHash, delivery: Option<Delivery>, weight: usize },
    /// A held row is gone.
    Removed { key: KeyHash },
    /// A dead letter or a replayed item is written.
    Finished { delivery: Option<Delivery>, weight: usize },
    /// Nothing: the row stays where it is.
    Kept,
    /// A held row has its new due time, far away.
    Parked { key: KeyHash },
}

/// What waits to be written.
pub(crate) struct Queue {
    waiting: VecDeque<(Settlement, After)>,
}

/// A finished write: what follows, with the store's answers. Or the partition has another owner, and nothing was written.
pub(crate) type Written = Result<Vec<(After, Settled)>, Fenced>;

/// The partition has another owner by now: nothing that we have in hand counts any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fenced;

impl Queue {
    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, settlement: Settlement, after: After) {
        self.waiting.push_back((settlement, after));
    }

    /// Begins to write what waits.
    pub(crate) fn write(
        &mut self,
        store: Arc<dyn Settlements>,
        flow: Arc<Flow>,
        owner: Owner,
    ) -> BoxFuture<'static, Written> {
        let count = self.waiting.len().min(BATCH_MAX);
        let (settlements, afters): (Vec<_>, Vec<_>) = self.waiting.drain(..count).unzip();
        Box::pin(write_until_written(store, flow, owner, settlements, afters))
    }
}

async fn write_until_written(
    store: Arc<dyn Settlements>,
    flow: Arc<Flow>,
    owner: Owner,
    batch: Vec<Settlement>,
    afters: Vec<After>,
) -> Written {
    let (mut wait, mut trouble) = (AGAIN, Trouble::default());
    loop {
        let settled = store.settle(Some(&owner), batch.clone());
        match within_time(ANSWER_MAX, "settling deliveries", settled).await {
            Ok(settled) if settled.len() == afters.len() => {
                return Ok(afters.into_iter().zip(settled).collect());
            }
            Ok(settled) => tracing::error!(
                asked = afters.len(),
                answered = settled.len(),
                "the store did not answer for every settlement"
            ),
            Err(StoreError::Fenced(_)) => return Err(Fenced),
            Err(error) if trouble.is_to_be_told() => warn(&flow, &error, wait),
            Err(_) => {}
        }
        trouble.again(&flow);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MAX);
    }
}

/// A write that fails again and again: the status tells of it as long as it lasts.
#[derive(Default)]
struct Trouble {
    failures: u32,
    told: Option<Arc<Flow>>,
}

impl Trouble {
    /// The first failure, and one about every minute as long as it lasts.
    fn is_to_be_told(&self) -> bool {
        self.failures.is_multiple_of(TOLD_EVERY)
    }

    fn again(&mut self, flow: &Arc<Flow>) {
        self.failures += 1;
        if self.failures >= TROUBLE_FROM && self.told.is_none() {
            flow.unsettled.fetch_add(1, Ordering::Relaxed);
            self.told = Some(flow.clone());
        }
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        if let Some(flow) = &self.told {
            flow.unsettled.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn warn(flow: &Flow, error: &StoreError, wait: Duration) {
    tracing::warn!(
        flow = %flow.plan.name, error = chain(error), again_in_ms = wait.as_millis(),
        "failed to settle; nothing is lost"
    );
}

/// The dead letter of a delivery that will not be tried again.
pub(crate) fn dead_letter(flow: &Flow, decided: &Decided) -> Arc<DeadLetter> {
    let Decided { attempted, decision, fault, .. } = decided;
    let fault = fault.as_ref().expect("only a fault leads to a dead letter");
    let reason = match decision {
        Decision::DeadLetter(reason) => *reason,
        Decision::Done | Decision::Retry(_) | Decision::Throttle(_) | Decision::Hold => "",
    };
    let (plan, work) = (&flow.plan, &attempted.work);
    let fingerprint = Fingerprint::of(&plan.name, attempted.step, &plan.connection, &plan.action, fault);
    let id = work.replay.as_ref().map_or_else(new_letter_id, |ticket| ticket.letter.clone());
    Arc::new(DeadLetter {
        id,
        state: LetterState::Open,
        group: fingerprint.group(),
        flow: plan.name.clone(),
        step: attempted.step.to_owned(),
        connection: plan.connection.clone(),
        action: plan.action.clone(),
        position: work.position.clone(),
        key: work.key.clone(),
        event: work.event.clone(),
        request: attempted.mapped(&plan.action),
        idempotency_key: crate::attempt::idempotency_key(flow, work),
        class: fault.class,
        status: fault.status,
        code: fault.code.clone(),
        message: fault.message.clone(),
        reason: reason.to_owned(),
        advice: fault.advice.clone(),
        attempts: work.attempts.clone(),
        failed_at: flow.clock.now(),
        replays: work.replays,
    })
}

/// `d` and 26 characters that ascend in time.
fn new_letter_id() -> String {
    time_ordered_id('d', Uuid::now_v7().as_u128())
}

/// The delivery to complete and the held row to remove.
pub(crate) fn split(origin: Origin) -> (Option<Delivery>, Option<HeldId>) {
    match origin {
        Origin::Broker(delivery) => (Some(delivery), None),
        Origin::Held(id) => (None, Some(id)),
        Origin::Replay => (None, None),
    }
}
