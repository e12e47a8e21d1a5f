//! From a message to an event.

use bytes::Bytes;
use crossdock_core::{Event, Offset};
use lapin::{
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use sha2::{Digest, Sha256};

use super::{OFFSET, ORDER, OTHER_PREFIX, PREFIX, SEQUENCE, TRACE};
use crate::sequence::Sequence;

/// What a message says.
pub(crate) struct Read {
    pub(crate) event: Event,
    /// The offset that its publisher gave it; none if that was not a Crossdock.
    pub(crate) offset: Option<Offset>,
    /// An offset for a message without one: the same in every redelivery, in no order. Made of the message's id, or else of
    /// all that it holds; two messages without an id that are alike in everything have the same one.
    pub(crate) fallback: Offset,
    /// The number that its publisher gave it.
    pub(crate) sequence: Option<Sequence>,
}

/// Reads a message. One that is no CloudEvent becomes one, so that nothing that somebody publishes can stop a shard.
pub(crate) fn read(delivery: Delivery) -> Read {
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let number = |name| match headers.inner().get(name) {
        Some(AMQPValue::LongLongInt(number)) => Some(*number),
        _ => None,
    };
    let offset = number(OFFSET).and_then(|offset| Offset::try_from(offset).ok());
    let sequence = number(SEQUENCE).and_then(Sequence::read);
    let fallback = if offset.is_none() { hash(&delivery) } else { 0 };
    let mut attributes = attributes(&headers);
    if let Some(content_type) = delivery.properties.content_type() {
        attributes.push(("datacontenttype".to_owned(), content_type.as_str().to_owned()));
    }
    let is_event = attributes.iter().any(|(name, _)| name == "id");
    let event = match is_event.then(|| Event::from_attributes(attributes, Bytes::new())) {
        Some(Ok(event)) => Event { data: Bytes::from(delivery.data), ..event },
        _ => foreign(delivery, fallback),
    };
    Read { event, offset, fallback, sequence }
}

/// The attributes in the headers, the extensions in their order.
fn attributes(headers: &FieldTable) -> Vec<(String, String)> {
    let mut attributes = Vec::with_capacity(headers.inner().len());
    let order = order(headers);
    for (name, value) in headers {
        let name = name.as_str();
        let Some(name) = name.strip_prefix(PREFIX).or_else(|| name.strip_prefix(OTHER_PREFIX)) else {
            continue;
        };
        if let Some(value) = as_text(value)
            && !order.iter().any(|(listed, _)| listed == name)
        {
            attributes.push((name.to_owned(), value));
        }
    }
    for (name, value) in order {
        let found = || {
            [PREFIX, OTHER_PREFIX].iter().find_map(|prefix| headers.inner().get(&*format!("{prefix}{name}")))
        };
        if let Some(value) = value.or_else(|| found().and_then(as_text)) {
            attributes.push((name, value));
        }
    }
    // Plain headers give way to the attribute.
    for name in TRACE {
        if let Some(value) = headers.inner().get(name).and_then(as_text)
            && !attributes.iter().any(|(known, _)| known == name)
        {
            attributes.push((name.to_owned(), value));
        }
    }
    attributes
}

/// The extensions whose order the publisher wrote down, some with their values.
fn order(headers: &FieldTable) -> Vec<(String, Option<String>)> {
    let Some(AMQPValue::FieldArray(order)) = headers.inner().get(ORDER) else { return Vec::new() };
    let listed = order.as_slice().iter().filter_map(|entry| match entry {
        AMQPValue::FieldArray(pair) => match pair.as_slice() {
            [name, value] => Some((as_text(name)?, Some(as_text(value)?))),
            _ => None,
        },
        name => Some((as_text(name)?, None)),
    });
    listed.collect()
}

/// A value as CloudEvents writes it.
fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        AMQPValue::Timestamp(seconds) => {
            jiff::Timestamp::from_second(i64::try_from(*seconds).ok()?).ok().map(|time| time.to_string())
        }
        _ => None,
    }
}

/// An event out of a message that is none. Only what every producer means alike is kept.
fn foreign(delivery: Delivery, fallback: Offset) -> Event {
    let properties = &delivery.properties;
    let sound = |value: &&str| {
        (1..=Event::ATTRIBUTE_BYTES_MAX).contains(&value.len()) && !value.chars().any(char::is_control)
    };
    let property = |value: &Option<lapin::types::ShortString>| {
        value.as_ref().map(|value| value.as_str()).filter(sound).map(str::to_owned)
    };
    let headers = properties.headers().as_ref();
    let trace = TRACE.into_iter().filter_map(|name| {
        let value = as_text(headers?.inner().get(name)?)?;
        sound(&value.as_str()).then(|| (name.to_owned(), value))
    });
    let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    Event {
        id: property(properties.message_id()).unwrap_or_else(|| format!("{fallback:016x}")),
        source: format!("amqp:///{}", delivery.exchange),
        kind: property(properties.kind()).unwrap_or_else(|| "rabbitmq.message".to_owned()),
        subject: None,
        time: seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()),
        content_type: property(properties.content_type()),
        schema: None,
        key: None,
        extensions: trace.collect(),
        data: Bytes::from(delivery.data),
    }
}

/// 63 bits that tell this message from others.
fn hash(delivery: &Delivery) -> Offset {
    let properties = &delivery.properties;
    let mut digest = Sha256::new();
    match properties.message_id() {
        Some(id) => digest.update(id.as_str()),
        None => {
            let parts = [
                properties.content_type(),
                properties.kind(),
                properties.app_id(),
                properties.correlation_id(),
            ];
            for part in parts {
                digest.update(part.as_ref().map_or("", |part| part.as_str()));
                digest.update([0]);
            }
            digest.update(properties.timestamp().unwrap_or_default().to_be_bytes());
            digest.update(delivery.routing_key.as_str());
            digest.update([0]);
            digest.update(&delivery.data);
        }
    }
    let bytes: [u8; 8] = digest.finalize()[..8].try_into().expect("a SHA-256 digest has 32 bytes");
    u64::from_be_bytes(bytes) >> 1
}
