//! Events as messages of AMQP 0-9-1, in the way of the CloudEvents binding
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md>), binary mode.
//!
//! The data is the body, untouched; the content type is the property of that name; every other attribute is a header
//! `cloudEvents:<name>`, the key `cloudEvents:partitionkey`. For tools that look there: `message_id` is the id, `type` the type,
//! and the trace context also stands under its plain names. `cloudEvents_<name>` is read as well.
//!
//! Headers of AMQP are a table that lapin sorts. Extensions whose order is another one are listed in [`ORDER`], and those whose
//! names are too long for a header stand there whole.

mod read;

use crossdock_core::{Event, Offset};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};

pub(crate) use read::{Read, read};

use crate::sequence::Sequence;

const PREFIX: &str = "cloudEvents:";
/// JMS clients know no colons in names.
const OTHER_PREFIX: &str = "cloudEvents_";
const TRACE: [&str; 2] = ["traceparent", "tracestate"];
/// The offset that the publisher gave the event.
pub(crate) const OFFSET: &str = "x-crossdock-offset";
/// The number by which a loss is seen.
const SEQUENCE: &str = "x-crossdock-sequence";
/// The order of the extensions: names, and pairs of a name and a value.
const ORDER: &str = "x-crossdock-extensions";
/// The longest short string: names of headers, and properties.
const SHORT_MAX: usize = 255;
const PERSISTENT: u8 = 2;

/// The properties of an event.
pub(crate) fn properties(event: &Event, offset: Offset, sequence: Sequence) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(SEQUENCE.into(), AMQPValue::LongLongInt(sequence.into()));
    headers.insert(OFFSET.into(), AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)));
    put(&mut headers, "specversion", "1.0");
    put(&mut headers, "id", &event.id);
    put(&mut headers, "source", &event.source);
    put(&mut headers, "type", &event.kind);
    if let Some(subject) = &event.subject {
        put(&mut headers, "subject", subject);
    }
    if let Some(time) = &event.time {
        put(&mut headers, "time", &time.to_string());
    }
    if let Some(schema) = &event.schema {
        put(&mut headers, "dataschema", schema);
    }
    if let Some(key) = &event.key {
        put(&mut headers, "partitionkey", key);
    }
    put_extensions(&mut headers, &event.extensions);
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Some(content_type) = &event.content_type {
        match ShortString::try_new(content_type.as_str()) {
            Ok(content_type) => properties = properties.with_content_type(content_type),
            Err(_) => put(&mut headers, "datacontenttype", content_type),
        }
    }
    if let Ok(id) = ShortString::try_new(event.id.as_str()) {
        properties = properties.with_message_id(id);
    }
    if let Ok(kind) = ShortString::try_new(event.kind.as_str()) {
        properties = properties.with_type(kind);
    }
    if let Some(seconds) = event.time.and_then(|time| u64::try_from(time.as_second()).ok()) {
        properties = properties.with_timestamp(seconds);
    }
    properties.with_headers(headers)
}

fn put(headers: &mut FieldTable, name: &str, value: &str) {
    let mut header = String::with_capacity(PREFIX.len() + name.len());
    header.push_str(PREFIX);
    header.push_str(name);
    headers.insert(header.into(), text(value));
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn put_extensions(headers: &mut FieldTable, extensions: &[(String, String)]) {
    let fits = |name: &str| PREFIX.len() + name.len() <= SHORT_MAX;
    for (name, value) in extensions.iter().filter(|(name, _)| fits(name)) {
        put(headers, name, value);
        if TRACE.contains(&name.as_str()) {
            headers.insert(name.as_str().into(), text(value));
        }
    }
    if extensions.is_sorted_by(|(a, _), (b, _)| a < b) && extensions.iter().all(|(name, _)| fits(name)) {
        return;
    }
    let order = extensions.iter().map(|(name, value)| match fits(name) {
        true => text(name),
        false => AMQPValue::FieldArray(FieldArray::from(vec![text(name), text(value)])),
    });
    headers.insert(ORDER.into(), AMQPValue::FieldArray(FieldArray::from(order.collect::<Vec<_>>())));
}

/// What the attributes of an event take in a frame, which holds them all: a little more than they really do.
pub(crate) fn header_bytes(event: &Event) -> usize {
    // Name and value may stand in three places: the header, a property or a plain header, and the order.
    let attributes =
        event.attributes().map(|(name, value)| 2 * (PREFIX.len() + name.len() + value.len()) + 16);
    512 + attributes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::message::Delivery;
    use proptest::prelude::*;

    use super::*;

    fn delivery(properties: BasicProperties, data: &[u8]) -> Delivery {
        let exchange = "crossdock.orders".into();
        let mut delivery = Delivery::mock(1, exchange, "0".into(), false, data.to_vec());
        delivery.properties = properties;
        delivery
    }

    fn event() -> Event {
        Event {
            id: "e1".to_owned(),
            source: "/shop".to_owned(),
            kind: "order.placed".to_owned(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            key: None,
            extensions: Vec::new(),
            data: Bytes::new(),
        }
    }

    proptest! {
        #[test]
        fn an_event_comes_back_as_it_was(
            texts in prop::collection::vec("[ -~ü🦀]{1,300}", 6),
            names in prop::collection::btree_set("[a-z]{1,300}", 0..4),
            reversed in any::<bool>(), time in prop::option::of(0i64..4_000_000_000), data: Vec<u8>, offset in 0u64..1 << 63,
        ) {
            let reserved = ["id", "source", "type", "subject", "time", "specversion", "datacontenttype", "dataschema", "partitionkey"];
            let names = names.into_iter().filter(|name| !reserved.contains(&name.as_str()));
            let mut extensions: Vec<_> = names.map(|name| (name, texts[0].clone())).collect();
            if reversed {
                extensions.reverse();
            }
            let sent = Event {
                id: texts[0].clone(), kind: texts[1].clone(), subject: Some(texts[2].clone()),
                content_type: Some(texts[3].clone()), schema: Some(texts[4].clone()), key: Some(texts[5].clone()),
                time: time.map(|time| jiff::Timestamp::from_second(time).expect("a time")),
                extensions, data: data.clone().into(), ..event()
            };
            let sequence = Sequence::read(7).expect("a number");
            let read = read(delivery(properties(&sent, offset, sequence), &data));
            prop_assert_eq!((read.offset, read.sequence, read.event), (Some(offset), Some(sequence), sent));
        }
    }

    #[test]
    fn both_prefixes_are_read_and_numbers_become_text() {
        let mut headers = FieldTable::default();
        for (name, value) in [("id", "7"), ("source", "/s"), ("type", "t")] {
            headers.insert(format!("cloudEvents_{name}").into(), text(value));
        }
        headers.insert("cloudEvents:level".into(), AMQPValue::LongInt(3));
        headers.insert("traceparent".into(), text("00-1-2-01"));
        let properties = BasicProperties::default().with_headers(headers).with_content_type("a/b".into());
        let read = read(delivery(properties, b"x"));
        let extensions = [("level", "3"), ("traceparent", "00-1-2-01")];
        let extensions = extensions.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let content_type = Some("a/b".to_owned());
        let data = Bytes::from_static(b"x");
        let expected = Event {
            id: "7".into(),
            source: "/s".into(),
            kind: "t".into(),
            content_type,
            extensions,
            data,
            ..event()
        };
        assert_eq!((read.offset, read.event), (None, expected));
    }

    #[test]
    fn what_is_no_cloud_event_becomes_one_with_a_stable_id() {
        let plain =
            |data: &[u8]| read(delivery(BasicProperties::default().with_type("invoice".into()), data));
        let (one, again, other) = (plain(b"a"), plain(b"a"), plain(b"b"));
        assert_eq!(one.event, again.event);
        assert_ne!(one.event.id, other.event.id);
        assert_eq!(
            (one.event.source.as_str(), one.event.kind.as_str()),
            ("amqp:///crossdock.orders", "invoice")
        );
        assert_eq!(one.fallback, again.fallback);
        assert!(one.event.validate().is_ok() && one.fallback < 1 << 63);
        let named = read(delivery(BasicProperties::default().with_message_id("m1".into()), b"a"));
        assert_eq!(named.event.id, "m1");
    }
}
