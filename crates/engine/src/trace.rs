//! What became of an event, flow by flow.

use crossdock_core::{FlowName, LetterState, LoggedEvent, StoreError};
use jiff::Timestamp;
use serde::Serialize;

use crate::hub::Hub;

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
    /// `pending` (in the broker or a lane), `held`, `dead`, `replaying`, `replayed`, `discarded`, or `done` (delivered, or
    /// left out by the filter).
    pub state: &'static str,
    /// When a held event is due.
    pub due_at: Option<Timestamp>,
    /// The dead letter.
    pub dead_letter: Option<String>,
}

impl Hub {
    /// The events with an id, each with what became of it in each flow.
    pub async fn events(&self, id: &str) -> Result<Vec<EventView>, StoreError> {
        let mut views = Vec::new();
        for logged in self.stores.event_log.find(id).await? {
            let deliveries = self.deliveries(&logged).await?;
            views.push(EventView { logged, deliveries });
        }
        Ok(views)
    }

    async fn deliveries(&self, logged: &LoggedEvent) -> Result<Vec<DeliveryView>, StoreError> {
        let held = self.stores.held.of_event(&logged.position).await?;
        let dead = self.stores.dead_letters.of_event(&logged.position).await?;
        let mut views = Vec::new();
        for flow in self.plan.flows.iter().filter(|flow| flow.topics.contains(&logged.position.topic)) {
            let held = held.iter().find(|held| held.held.flow == flow.name);
            let dead = dead.iter().find(|letter| letter.flow == flow.name);
            let state = match (held, dead) {
                (Some(_), _) => "held",
                (None, Some(letter)) if letter.state == LetterState::Open => "dead",
                (None, Some(letter)) => letter.state.as_str(),
                (None, None) if self.stores.event_log.is_complete(&flow.name, &logged.position).await? => {
                    "done"
                }
                (None, None) => "pending",
            };
            views.push(DeliveryView {
                flow: flow.name.clone(),
                state,
                due_at: held.and_then(|held| held.held.due),
                dead_letter: dead.map(|letter| letter.id.clone()),
            });
        }
        Ok(views)
    }
}
