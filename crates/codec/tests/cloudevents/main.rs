//! What CloudEvents 1.0.2 asks of a receiver, through the public interface. Sections are those of its JSON format and its
//! HTTP binding.

mod batch;
mod binary;
mod encode;
mod properties;
mod structured;

use bytes::Bytes;
use crossdock_codec::CloudEvents;
use crossdock_core::{Envelope, Event, Malformed};
use serde_json::{Value, json};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

type Decoded = Result<Vec<Result<Event, Malformed>>, Malformed>;

fn decode(headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Decoded {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    CloudEvents.decode(&headers, &Bytes::copy_from_slice(body.as_ref()))
}

/// The one event of a request, or the refusal of the request.
fn only(decoded: Decoded) -> Result<Event, Malformed> {
    let mut events = decoded?;
    assert_eq!(events.len(), 1, "a request of one event has one result");
    events.remove(0)
}

/// Reads the JSON form of one event.
fn structured(body: impl AsRef<[u8]>) -> Result<Event, Malformed> {
    only(decode(&[("content-type", ONE)], body))
}

/// An event with nothing but what is required.
fn least() -> Event {
    Event {
        id: "1".to_owned(),
        source: "/shop".to_owned(),
        kind: "order.paid".to_owned(),
        subject: None,
        time: None,
        content_type: None,
        schema: None,
        key: None,
        extensions: Vec::new(),
        data: Bytes::new(),
    }
}

/// The JSON form of [`least`] with more members, or others.
fn with(members: &Value) -> String {
    let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid" });
    let members = members.as_object().expect("members are an object");
    event.as_object_mut().expect("an event is an object").extend(members.clone());
    event.to_string()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Malformed>, pointer: &str, about: &str) {
    let refusal = result.expect_err("is refused");
    assert_eq!(refusal.pointer, pointer, "{}", refusal.message);
    assert!(refusal.message.contains(about), "{}", refusal.message);
}
