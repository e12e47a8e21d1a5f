//! A flow at run time: its plan with what it calls and what it counts.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use crossdock_core::{Action, Class, Clock, Event, Fault, chain};
use crossdock_expr::{Document, EvalError};
use serde_json::{Map, Value};
use tokio::sync::broadcast;

use crate::{gate::Gate, plan::FlowPlan, status::Moment};

/// A flow at run time.
pub(crate) struct Flow {
    pub(crate) plan: Arc<FlowPlan>,
    pub(crate) action: Arc<dyn Action>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    /// Partitions whose settlements fail again and again at this moment.
    pub(crate) unsettled: AtomicU64,
    /// Whether this worker is a member of the flow's group at this moment.
    pub(crate) joined: AtomicBool,
    pub(crate) moments: broadcast::Sender<Moment>,
}

/// What a flow counts since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) delivered: AtomicU64,
    pub(crate) filtered: AtomicU64,
    pub(crate) failed_attempts: AtomicU64,
}

/// Adds one. Counters are read by people only, so their order to other memory does not matter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a flow does with an event that comes in.
pub(crate) enum Admission {
    /// The filter leaves it out.
    Skip,
    /// It is delivered, with this key.
    Take(Option<String>),
    /// Key or filter could not be evaluated, in this step.
    Refuse(&'static str, Fault),
}

impl Flow {
    /// Evaluates filter and key. Parses nothing if neither looks into the event.
    pub(crate) fn admit(&self, event: &Arc<Event>) -> Admission {
        if self.plan.filter.is_none() && self.plan.key.is_none() {
            return Admission::Take(event.key.clone());
        }
        let (data, attributes) = documents(event);
        let variables = [("event", &attributes)];
        if let Some(filter) = &self.plan.filter {
            match filter.test(&data, &variables) {
                Ok(true) => {}
                Ok(false) => return Admission::Skip,
                Err(error) => return Admission::Refuse("filter", bug("filter", &error)),
            }
        }
        let Some(key) = &self.plan.key else { return Admission::Take(event.key.clone()) };
        match key.text(&data, &variables) {
            Ok(key) => Admission::Take(key),
            Err(error) => Admission::Refuse("key", bug("key", &error)),
        }
    }

    /// Tells those who watch.
    pub(crate) fn tell(&self, moment: impl FnOnce() -> Moment) {
        if self.moments.receiver_count() > 0 {
            // Nobody listening any more is no error.
            let _ = self.moments.send(moment());
        }
    }
}

/// The event as expressions see it: `.` and `$event`.
pub(crate) fn documents(event: &Arc<Event>) -> (Document, Document) {
    let attributes = event.clone();
    (Document::new(event.data.clone()), Document::lazy(move || attributes_json(&attributes)))
}

/// The attributes under their CloudEvents names, the key as `key`, extensions beside them.
fn attributes_json(event: &Event) -> Bytes {
    let mut map = Map::new();
    let mut set = |name: &str, value: Option<String>| {
        map.insert(name.to_owned(), value.map_or(Value::Null, Value::String));
    };
    for (name, value) in &event.extensions {
        set(name, Some(value.clone()));
    }
    set("id", Some(event.id.clone()));
    set("source", Some(event.source.clone()));
    set("type", Some(event.kind.clone()));
    set("subject", event.subject.clone());
    set("time", event.time.map(|time| time.to_string()));
    set("datacontenttype", event.content_type.clone());
    set("dataschema", event.schema.clone());
    set("key", event.key.clone());
    Bytes::from(Value::Object(map).to_string())
}

/// The fault of an expression that fails on an event.
pub(crate) fn bug(step: &'static str, error: &EvalError) -> Fault {
    Fault::new(Class::Bug, chain(error))
        .code(format!("{step}_failed"))
        .advice(format!("mend the `{step}` of the flow, restart the hub, then replay"))
}
