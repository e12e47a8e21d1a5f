//! Attempt: perform one try of a delivery. Writes no state.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use crossdock_core::{Body, Class, Fault, FieldKind, Item, MappedRequest, failpoint};
use futures::FutureExt;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    flow::{Flow, bug, documents},
    gate::Permit,
    plan::{FieldPlan, FieldValue},
    work::Work,
};

/// No action is waited for longer, whatever it promises: half a minute more than the ten minutes that a connection's own
/// time-out may be, whose verdict is better than ours.
const CALL_MAX: Duration = Duration::from_secs(630);

/// A try that is over. What follows is decided by [`crate::decide`].
pub(crate) struct Attempted {
    pub(crate) work: Work,
    pub(crate) at: Timestamp,
    pub(crate) duration: Duration,
    /// Where in the flow it ended: `key`, `filter`, `map`, `call`.
    pub(crate) step: &'static str,
    pub(crate) item: Option<Item>,
    /// What was called.
    pub(crate) request: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) result: Result<(), Fault>,
    /// Held until the gate has heard the result, so that nobody takes the slot before.
    pub(crate) permit: Permit,
}

/// Maps the event and calls the action. Never panics and always ends.
pub(crate) async fn attempt(flow: Arc<Flow>, work: Work, permit: Permit) -> Attempted {
    let (at, began) = (flow.clock.now(), Instant::now());
    let mut attempted = Attempted {
        at,
        duration: Duration::ZERO,
        step: "map",
        item: None,
        request: None,
        status: None,
        result: Ok(()),
        work,
        permit,
    };
    if let Err(panic) = AssertUnwindSafe(perform(&flow, &mut attempted)).catch_unwind().await {
        let text = panic_text(panic.as_ref());
        // In a call it is not known what the other side has seen.
        let class = if attempted.step == "call" { Class::Ambiguous } else { Class::Bug };
        attempted.result = Err(Fault::new(class, format!("panicked: {text}")).code("panic"));
    }
    attempted.duration = began.elapsed();
    attempted
}

async fn perform(flow: &Flow, attempted: &mut Attempted) {
    if let Some((step, fault)) = attempted.work.refused.clone() {
        attempted.step = step;
        attempted.result = Err(fault);
        return;
    }
    let item = match map(flow, &attempted.work) {
        Ok(item) => item,
        Err(fault) => {
            attempted.result = Err(fault);
            return;
        }
    };
    attempted.step = "call";
    failpoint("attempt.before_call");
    // Kept before the call, so that a dead letter has it also if the connector panics.
    let item = attempted.item.insert(item);
    let outputs = tokio::time::timeout(CALL_MAX, flow.action.call(std::slice::from_ref(item))).await;
    failpoint("attempt.after_call");
    match outputs.map(|mut outputs| outputs.pop()) {
        Ok(Some(output)) => {
            attempted.request = output.request;
            attempted.status = output.status;
            attempted.result = output.result;
        }
        Ok(None) => {
            attempted.result = Err(Fault::new(Class::Bug, "the action gave no result").code("no_result"))
        }
        Err(_) => {
            attempted.result = Err(
                Fault::new(Class::Ambiguous, "the action did not end within 630 s").code("call_time_out")
            );
        }
    }
}

/// Renders the body and the fields of the action.
fn map(flow: &Flow, work: &Work) -> Result<Item, Fault> {
    let (data, attributes) = documents(&work.event);
    let variables = [("event", &attributes)];
    let body = match &flow.plan.map {
        None => Body { content_type: work.event.content_type.clone(), bytes: work.event.data.clone() },
        Some(tree) => {
            let mut out = Vec::with_capacity(256);
            tree.json(&data, &variables, &mut out).map_err(|error| bug("map", &error))?;
            Body { content_type: Some("application/json".to_owned()), bytes: out.into() }
        }
    };
    let mut fields = Vec::with_capacity(flow.plan.fields.len());
    for field in &flow.plan.fields {
        let value = render(field, &data, &variables)?;
        fields.push((field.name, value));
    }
    Ok(Item {
        fields,
        body,
        idempotency_key: idempotency_key(flow, work),
        attempt: work.tried + 1,
        traceparent: extension(work, "traceparent"),
    })
}

fn render(
    field: &FieldPlan,
    data: &crossdock_expr::Document,
    variables: &crossdock_expr::Variables<'_>,
) -> Result<Value, Fault> {
    let failed = |error: crossdock_expr::EvalError| bug(field.name, &error);
    match &field.value {
        FieldValue::Text(text) if field.kind == FieldKind::Path => {
            text.text_with(data, variables, encode_segment).map(Value::String).map_err(failed)
        }
        FieldValue::Text(text) => text.text(data, variables).map(Value::String).map_err(failed),
        FieldValue::TextMap(entries) => {
            let mut map = serde_json::Map::new();
            for (name, text) in entries {
                map.insert(name.clone(), Value::String(text.text(data, variables).map_err(failed)?));
            }
            Ok(Value::Object(map))
        }
    }
}

/// Percent-encodes what is inserted into a path, so that a value can never leave its segment: a `/` becomes `%2F`, and
/// `.` and `..` alone, which servers resolve, get their dots encoded.
fn encode_segment(value: &str, out: &mut String) {
    let dots = matches!(value, "." | "..");
    for byte in value.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && !dots);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The id that every try and every replay of this delivery sends: the event's own id, readable, and a hash that tells
/// flows, topics and sources apart.
pub(crate) fn idempotency_key(flow: &Flow, work: &Work) -> String {
    let mut hash = Sha256::new();
    for part in [flow.plan.name.as_str(), work.position.topic.as_str(), &work.event.source, &work.event.id] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut key: String = work
        .event
        .id
        .chars()
        .take(64)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .collect();
    key.push('_');
    for byte in &digest[..8] {
        key.push_str(&format!("{byte:02x}"));
    }
    key
}

fn extension(work: &Work, name: &str) -> Option<String> {
    work.event.extensions.iter().find(|(extension, _)| extension == name).map(|(_, value)| value.clone())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

impl Attempted {
    /// The request as it is kept with a dead letter.
    pub(crate) fn mapped(&self, action: &str) -> Option<MappedRequest> {
        let item = self.item.as_ref()?;
        let fields = item.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let (content_type, body) = (item.body.content_type.clone(), item.body.bytes.clone());
        Some(MappedRequest { action: action.to_owned(), fields, content_type, body })
    }
}
