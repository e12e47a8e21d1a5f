//! What became of an event, flow by flow.

use crossdock_core::{
    Attempt, Class, FlowName, HeldEvent, LetterState, LetterSummary, LoggedEvent, Position, StoreError,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    flow::{Admission, Flow},
    hub::Hub,
    limit::within,
};

/// An event and what became of it in each flow.
#[derive(Debug, Clone)]
pub struct EventView {
    /// The event.
    pub logged: LoggedEvent,
    /// One entry for each flow that reads the topic.
    pub deliveries: Vec<DeliveryView>,
}

/// Where an event stands in a flow.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryView {
    /// The flow.
    pub flow: FlowName,
    /// `pending` (in the outbox, the broker or a lane), `held`, `dead`, `replaying`, `replayed`, `discarded`, `done`
    /// (delivered), or `filtered` (left out). No record is kept of an event that is over and did not fail: `filtered` or
    /// `done` is what the flow's filter says of it as it is now. `relayed` where not even its place in the broker is known:
    /// it is in the broker or a lane, or it is done.
    pub state: &'static str,
    /// How many tries there were; none where no record of them is kept.
    pub attempts: Option<u32>,
    /// How the last try failed.
    pub last: Option<LastFailure>,
    /// When the next attempt of a held event is due; none if it waits behind the earlier events of its key.
    pub due_at: Option<Timestamp>,
    /// The dead letter.
    pub dead_letter: Option<String>,
}

/// How the last try of a delivery failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastFailure {
    /// When it was.
    pub at: Timestamp,
    /// The class of the failure.
    pub class: Option<Class>,
    /// The status that the other side answered with.
    pub status: Option<u16>,
    /// The other side's error code.
    pub code: Option<String>,
    /// What went wrong.
    pub message: String,
}

impl From<&Attempt> for LastFailure {
    fn from(attempt: &Attempt) -> Self {
        let Attempt { at, class, status, code, message, .. } = attempt.clone();
        Self { at, class, status, code, message }
    }
}

impl From<&LetterSummary> for LastFailure {
    fn from(letter: &LetterSummary) -> Self {
        let LetterSummary { failed_at, class, status, code, message, .. } = letter.clone();
        Self { at: failed_at, class: Some(class), status, code, message }
    }
}

impl DeliveryView {
    fn held(flow: FlowName, row: &HeldEvent, dead_letter: Option<&LetterSummary>) -> Self {
        let attempts = &row.held.attempts;
        Self {
            flow,
            state: "held",
            attempts: Some(attempts.iter().fold(0, |sum: u32, attempt| sum.saturating_add(attempt.times))),
            last: attempts.last().map(LastFailure::from),
            due_at: row.held.due,
            dead_letter: dead_letter.map(|letter| letter.id.clone()),
        }
    }

    fn dead(flow: FlowName, letter: &LetterSummary) -> Self {
        // A replay that delivered it is not among the letter's tries.
        let failed = letter.state != LetterState::Replayed;
        Self {
            flow,
            state: if letter.state == LetterState::Open { "dead" } else { letter.state.as_str() },
            attempts: failed.then_some(letter.attempts),
            last: failed.then(|| letter.into()),
            due_at: None,
            dead_letter: Some(letter.id.clone()),
        }
    }

    fn unrecorded(flow: FlowName, state: &'static str) -> Self {
        Self { flow, state, attempts: None, last: None, due_at: None, dead_letter: None }
    }
}

impl Hub {
    /// The events with an id, each with what became of it in each flow.
    pub async fn events(&self, id: &str) -> Result<Vec<EventView>, StoreError> {
        let mut views = Vec::new();
        for logged in within("looking an event up", self.stores.event_log.find(id)).await? {
            let deliveries = self.deliveries(&logged).await?;
            views.push(EventView { logged, deliveries });
        }
        Ok(views)
    }

    async fn deliveries(&self, logged: &LoggedEvent) -> Result<Vec<DeliveryView>, StoreError> {
        let (held, dead) = match &logged.position {
            Some(position) => tokio::try_join!(
                within("reading held events", self.stores.held.of_event(position)),
                within("reading dead letters", self.stores.dead_letters.of_event(position)),
            )?,
            // Where a delivery of it is held or dead, its place is known.
            None => (Vec::new(), Vec::new()),
        };
        let mut views = Vec::new();
        for flow in self.flows.iter().filter(|flow| flow.plan.topics.contains(&logged.topic)) {
            let name = flow.plan.name.clone();
            // A topic that was made anew gives a position a second time.
            let id = &logged.event.id;
            let held = held.iter().find(|row| row.held.flow == name && row.held.event.id == *id);
            let dead = dead.iter().find(|letter| letter.flow == name && letter.event == *id);
            views.push(match (held, dead) {
                (Some(row), dead) => DeliveryView::held(name, row, dead),
                (None, Some(letter)) => DeliveryView::dead(name, letter),
                (None, None) => DeliveryView::unrecorded(name, self.unrecorded(flow, logged).await?),
            });
        }
        Ok(views)
    }

    async fn unrecorded(&self, flow: &Flow, logged: &LoggedEvent) -> Result<&'static str, StoreError> {
        let over = match &logged.position {
            _ if !logged.relayed => return Ok("pending"),
            Some(position) if !self.is_complete(flow, position).await? => return Ok("pending"),
            Some(_) => "done",
            None => "relayed",
        };
        Ok(if matches!(flow.admit(&logged.event), Admission::Skip) { "filtered" } else { over })
    }

    /// Whether a flow is finished with the event at a position, as those say who know it: the outbox where it is the broker's
    /// log, the broker elsewhere.
    async fn is_complete(&self, flow: &Flow, position: &Position) -> Result<bool, StoreError> {
        if self.stores.outbox_log.is_none() {
            let complete = self.stores.event_log.is_complete(&flow.plan.name, position);
            return within("reading the log", complete).await;
        }
        let lag = self.lag(flow).await?;
        Ok(lag.iter().any(|lag| {
            lag.partition.topic == position.topic
                && lag.partition.number == position.partition
                && position.offset < lag.committed
        }))
    }
}
