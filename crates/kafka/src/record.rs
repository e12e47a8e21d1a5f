//! Events as records of Kafka: the binary mode of the CloudEvents binding
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>).
//!
//! The data is the value, untouched; the key is `partitionkey`; the other attributes are headers `ce_<name>`, the content type is
//! `content-type`. The trace context stands under its plain names too, where tracing libraries look for it.

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use crossdock_core::{Event, Position, hash_key};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

const PREFIX: &str = "ce_";
const TRACE: [&str; 2] = ["traceparent", "tracestate"];
const CONTENT_TYPE: &str = "content-type";
/// What a header costs on the wire beside its name and value, roughly.
const HEADER_BYTES: usize = 4;

/// Writes headers; keeps its buffers from one event to the next.
#[derive(Default)]
pub(crate) struct Writer {
    name: String,
    time: String,
}

impl Writer {
    /// The headers of an event.
    pub(crate) fn headers(&mut self, event: &Event) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(8 + event.extensions.len())
            .insert(header("ce_specversion", "1.0"))
            .insert(header("ce_id", &event.id))
            .insert(header("ce_source", &event.source))
            .insert(header("ce_type", &event.kind));
        if let Some(time) = event.time {
            self.time.clear();
            // Writing to a `String` cannot fail.
            let _ = write!(self.time, "{time}");
            headers = headers.insert(header("ce_time", &self.time));
        }
        if let Some(subject) = &event.subject {
            headers = headers.insert(header("ce_subject", subject));
        }
        if let Some(schema) = &event.schema {
            headers = headers.insert(header("ce_dataschema", schema));
        }
        if let Some(content_type) = &event.content_type {
            headers = headers.insert(header(CONTENT_TYPE, content_type));
        }
        for (name, value) in &event.extensions {
            self.name.clear();
            self.name.push_str(PREFIX);
            self.name.push_str(name);
            headers = headers.insert(header(&self.name, value));
            if TRACE.contains(&name.as_str()) {
                headers = headers.insert(header(name, value));
            }
        }
        headers
    }
}

fn header<'h>(key: &'h str, value: &'h str) -> Header<'h, &'h str> {
    Header { key, value: Some(value) }
}

/// What an event takes as a record, without what a batch adds.
pub(crate) fn bytes(event: &Event) -> usize {
    let attributes: usize =
        event.attributes().map(|(name, value)| PREFIX.len() + name.len() + value.len() + HEADER_BYTES).sum();
    event.data.len() + attributes + 64
}

/// The event that a record is. A record that is no CloudEvent becomes one that names its place, so that nothing that
/// somebody writes into a topic can stop it.
pub(crate) fn event(message: &BorrowedMessage<'_>, position: &Position) -> Event {
    let mut event = Event {
        id: String::new(),
        source: String::new(),
        kind: String::new(),
        subject: None,
        time: None,
        content_type: None,
        schema: None,
        key: message.key().map(key),
        extensions: Vec::new(),
        data: message.payload().map_or_else(Bytes::new, Bytes::copy_from_slice),
    };
    // The names of headers are text by the protocol, and rdkafka panics where a producer broke it.
    let whole = catch_unwind(AssertUnwindSafe(|| read_headers(message, &mut event))).unwrap_or(false);
    if whole && event.validate().is_ok() { event } else { foreign(event, message, position) }
}

/// Sets the attributes that stand in the headers; false if one cannot be read.
fn read_headers(message: &BorrowedMessage<'_>, event: &mut Event) -> bool {
    let Some(headers) = message.headers() else { return true };
    for header in headers.iter() {
        let Some(value) = header.value.and_then(|value| str::from_utf8(value).ok()) else { continue };
        let text = || value.to_owned();
        match header.key {
            "ce_specversion" => {}
            "ce_id" => event.id = text(),
            "ce_source" => event.source = text(),
            "ce_type" => event.kind = text(),
            "ce_subject" => event.subject = Some(text()),
            "ce_dataschema" => event.schema = Some(text()),
            "ce_partitionkey" => event.key = Some(text()),
            CONTENT_TYPE | "ce_datacontenttype" => event.content_type = Some(text()),
            "ce_time" => match value.parse() {
                Ok(time) => event.time = Some(time),
                Err(_) => return false,
            },
            name => match name.strip_prefix(PREFIX) {
                Some(name) => set_extension(event, name, value, true),
                None if TRACE.contains(&name) => set_extension(event, name, value, false),
                None => {}
            },
        }
    }
    true
}

/// Of a name that comes twice the last value counts; a plain header gives way to the attribute.
fn set_extension(event: &mut Event, name: &str, value: &str, is_attribute: bool) {
    match event.extensions.iter_mut().find(|(known, _)| known == name) {
        Some((_, before)) if is_attribute => value.clone_into(before),
        Some(_) => {}
        None => event.extensions.push((name.to_owned(), value.to_owned())),
    }
}

/// An event out of a record that is none. Of what stands in its headers only what every producer means alike is kept.
fn foreign(read: Event, message: &BorrowedMessage<'_>, position: &Position) -> Event {
    let sound =
        |value: &String| value.len() <= Event::ATTRIBUTE_BYTES_MAX && !value.chars().any(char::is_control);
    let time = message.timestamp().to_millis();
    let mut extensions = read.extensions;
    extensions.retain(|(name, value)| TRACE.contains(&name.as_str()) && sound(value));
    Event {
        id: position.to_string(),
        source: format!("kafka:///{}", position.topic),
        kind: "kafka.record".to_owned(),
        subject: None,
        time: time.and_then(|time| jiff::Timestamp::from_millisecond(time).ok()),
        content_type: read.content_type.filter(sound),
        schema: None,
        // One that is too long for an attribute still tells its events from those of others.
        key: read.key.map(|key| if sound(&key) { key } else { format!("{:016x}", hash_key(&key)) }),
        extensions,
        data: read.data,
    }
}

/// A key as text. Bytes that are no text are written in base64, so that different keys stay different.
fn key(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => URL_SAFE_NO_PAD.encode(bytes),
    }
}
