//! A row of the outbox becomes an event.
//!
//! Rows come as the binary format of `COPY` has them: <https://www.postgresql.org/docs/current/sql-copy.html>. The data is a
//! part of what was received, not a copy.

use std::collections::HashMap;

use bytes::Bytes;
use crossdock_core::{Event, OutboxEvent, RefusedEvent, Topic};
use jiff::Timestamp;
use uuid::Uuid;

/// What is asked for, in this order.
pub(crate) const NAMES: &str = "seq, id, aggregatetype, aggregateid, type, payload, contenttype, source, subject, headers, \
                                tracingspancontext, attributes, created_at";

/// How many columns that are.
pub(crate) const COLUMNS: usize = 13;

/// What a row is.
#[expect(clippy::large_enum_variant, reason = "almost every row is an event")]
pub(crate) enum Read {
    /// An event.
    Event(OutboxEvent),
    /// Something that can never be published.
    Malformed(RefusedEvent),
}

/// A row, with what names it in the table.
pub(crate) struct OutboxRow {
    pub(crate) seq: i64,
    pub(crate) id: Uuid,
    pub(crate) read: Read,
}

impl OutboxRow {
    /// The bytes of its data.
    pub(crate) fn bytes(&self) -> usize {
        match &self.read {
            Read::Event(read) => read.event.data.len(),
            Read::Malformed(_) => 0,
        }
    }
}

/// The fields of a row, as they came; the data travels beside them.
pub(crate) type Fields<'a> = [Option<&'a [u8]>; COLUMNS];

/// Where among them the data is.
pub(crate) const DATA: usize = 5;

/// Turns rows into events.
pub(crate) struct Decoder {
    source: String,
    topics: HashMap<Box<[u8]>, Topic>,
    /// The last one: most rows in a row have the same.
    last: Option<(Box<[u8]>, Topic)>,
}

/// Topics that are remembered; an application that makes up more is only slower.
const TOPICS_MAX: usize = 10_000;
/// What the data is unless the row says it.
const JSON: &str = "application/json";
/// From the beginning of 1970 to that of 2000, in microseconds: Postgres counts from the latter.
const EPOCH: i64 = 946_684_800_000_000;

impl Decoder {
    /// `source` is that of rows that name none.
    pub(crate) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), topics: HashMap::new(), last: None }
    }

    /// Reads one row. An error means that the answer of the server is not what was asked for.
    pub(crate) fn read(&mut self, fields: Fields<'_>, data: Bytes) -> Result<OutboxRow, &'static str> {
        let seq = fields[0].and_then(int8).ok_or("a row has no number")?;
        let id = fields[1].and_then(|id| Uuid::from_slice(id).ok()).ok_or("a row has no id")?;
        let read = match self.event(id, fields, data) {
            Ok((topic, event)) => Read::Event(OutboxEvent { seq, topic, event }),
            Err(reason) => Read::Malformed(RefusedEvent { seq, reason }),
        };
        Ok(OutboxRow { seq, id, read })
    }

    fn event(&mut self, id: Uuid, fields: Fields<'_>, data: Bytes) -> Result<(Topic, Event), String> {
        let [_, _, topic, key, kind, _, content_type, source, subject, headers, tracing, attributes, at] =
            fields;
        let topic = self.topic(topic)?;
        if let Some(attributes) = attributes {
            let event: Event = serde_json::from_slice(attributes)
                .map_err(|error| format!("the column `attributes` cannot be read: {error}"))?;
            return Ok((topic, Event { data, ..event }));
        }
        let mut plain = true;
        let mut text = |name: &str, value: Option<&[u8]>| {
            value.map(|value| read_text(name, value, &mut plain)).transpose()
        };
        let mut event = Event {
            id: hyphenated(id),
            source: text("source", source)?.unwrap_or_else(|| self.source.clone()),
            kind: text("type", kind)?.unwrap_or_default(),
            subject: text("subject", subject)?,
            time: at.and_then(int8).and_then(moment),
            content_type: Some(text("contenttype", content_type)?.unwrap_or_else(|| JSON.to_owned())),
            schema: None,
            key: text("aggregateid", key)?,
            extensions: Vec::new(),
            data,
        };
        let tracing = text("tracingspancontext", tracing)?;
        if let Some(headers) = headers {
            event = with_headers(event, headers)?;
        }
        if let Some(tracing) = tracing {
            event.extensions.extend(trace(&tracing));
            plain = false;
        }
        if !plain || event.kind.is_empty() || event.source.is_empty() {
            event.validate().map_err(|error| error.to_string())?;
        }
        Ok((topic, event))
    }

    fn topic(&mut self, name: Option<&[u8]>) -> Result<Topic, String> {
        let name = name.ok_or("the column `aggregatetype` is empty")?;
        if let Some((last, topic)) = &self.last
            && **last == *name
        {
            return Ok(topic.clone());
        }
        let topic = match self.topics.get(name) {
            Some(topic) => topic.clone(),
            None => self.new_topic(name)?,
        };
        self.last = Some((name.into(), topic.clone()));
        Ok(topic)
    }

    fn new_topic(&mut self, name: &[u8]) -> Result<Topic, String> {
        let text = str::from_utf8(name).map_err(|_| "the column `aggregatetype` is not UTF-8".to_owned())?;
        let topic = Topic::new(text)
            .map_err(|error| format!("the column `aggregatetype` names no topic: {error}"))?;
        if self.topics.len() >= TOPICS_MAX {
            self.topics.clear();
        }
        self.topics.insert(name.into(), topic.clone());
        Ok(topic)
    }
}

/// A text, and whether it is as most are: short and printable ASCII, in which there is nothing to refuse.
fn read_text(name: &str, value: &[u8], plain: &mut bool) -> Result<String, String> {
    let printable = value.iter().fold(true, |all, byte| all & (0x20..0x7f).contains(byte));
    *plain &= printable && value.len() <= Event::ATTRIBUTE_BYTES_MAX;
    let text = str::from_utf8(value).map_err(|_| format!("the column `{name}` is not UTF-8"))?;
    Ok(text.to_owned())
}

/// As Postgres writes it.
pub(crate) fn hyphenated(id: Uuid) -> String {
    let mut text = Uuid::encode_buffer();
    id.as_hyphenated().encode_lower(&mut text).to_owned()
}

/// Other attributes: an object of texts, numbers and truths, in `jsonb` as it is sent: a version before its text.
fn with_headers(event: Event, headers: &[u8]) -> Result<Event, String> {
    use serde_json::Value;

    let json = headers.strip_prefix(&[1]).ok_or("the column `headers` has a format that is not known")?;
    let object: serde_json::Map<String, Value> = serde_json::from_slice(json)
        .map_err(|_| "the column `headers` is not an object of texts".to_owned())?;
    let mut attributes = Vec::with_capacity(object.len() + 8);
    for (name, value) in object {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Array(_) | Value::Object(_) => return Err(format!("the header `{name}` is not a text")),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(format!("the header `{name}` is no CloudEvents name: use a-z and 0-9"));
        }
        attributes.push((name, value));
    }
    // The columns stand behind the headers: of a name that comes twice the last one counts.
    attributes.extend(event.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let time = event.time;
    let read = Event::from_attributes(attributes, event.data).map_err(|error| error.to_string())?;
    Ok(Event { time: read.time.or(time), ..read })
}

/// The W3C trace context: alone, or in the lines `name=value` that Debezium reads.
fn trace(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.trim().split_once('='));
    let found: Vec<_> = lines
        .filter(|(name, _)| matches!(*name, "traceparent" | "tracestate"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match found.is_empty() && text.starts_with("00-") {
        true => vec![("traceparent".to_owned(), text.trim().to_owned())],
        false => found,
    }
}

/// None for `infinity`.
fn moment(since_2000: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(since_2000.checked_add(EPOCH)?).ok()
}

fn int8(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: [u8; 8] = 7i64.to_be_bytes();
    const AT: [u8; 8] = [0; 8];

    fn read(column: usize, value: Option<&[u8]>) -> Result<Event, String> {
        let id = Uuid::from_u128(5);
        let mut fields: Fields<'_> = [None; COLUMNS];
        fields[0] = Some(&SEQ);
        fields[1] = Some(id.as_bytes());
        for (column, text) in [(2, "orders"), (3, "17"), (4, "order.paid")] {
            fields[column] = Some(text.as_bytes());
        }
        fields[12] = Some(&AT);
        fields[column] = value;
        let row = Decoder::new("/outbox/shop").read(fields, Bytes::from_static(b"{}")).expect("a row");
        match row.read {
            Read::Event(read) => Ok(read.event),
            Read::Malformed(refused) => Err(refused.reason),
        }
    }

    fn with(column: usize, value: &[u8]) -> Result<Event, String> {
        read(column, Some(value))
    }

    #[test]
    fn a_plain_row_is_an_event() {
        let event = read(DATA, None).expect("an event");
        assert_eq!(event.id, "00000000-0000-0000-0000-000000000005");
        assert_eq!((event.source.as_str(), event.kind.as_str()), ("/outbox/shop", "order.paid"));
        assert_eq!((event.key.as_deref(), event.content_type.as_deref()), (Some("17"), Some(JSON)));
        assert_eq!(event.time, Some("2000-01-01T00:00:00Z".parse().expect("a time")));
        assert_eq!(event.data, "{}");
    }

    #[test]
    fn headers_are_attributes_and_columns_come_before_them() {
        let event = with(9, b"\x01{\"tenant\": \"a\", \"n\": 1, \"dataschema\": \"/s\", \"type\": \"x\"}")
            .expect("an event");
        assert_eq!(event.kind, "order.paid");
        assert_eq!(event.schema.as_deref(), Some("/s"));
        assert_eq!(
            event.extensions,
            [("tenant", "a"), ("n", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
        assert!(event.time.is_some(), "the time stays");
    }

    #[test]
    fn a_trace_context_is_read_alone_and_as_debezium_writes_it() {
        for text in ["00-4bf9-00f0-01", "#comment\ntraceparent=00-4bf9-00f0-01\n"] {
            let event = with(10, text.as_bytes()).expect("an event");
            assert_eq!(event.extensions, [("traceparent".to_owned(), "00-4bf9-00f0-01".to_owned())]);
        }
    }

    #[test]
    fn what_is_no_event_is_told_with_its_column() {
        assert!(with(2, b"no topic").unwrap_err().starts_with("the column `aggregatetype` names no topic"));
        assert_eq!(with(4, b"").unwrap_err(), "the attribute `type` must not be empty");
        assert_eq!(with(4, b"a\xff").unwrap_err(), "the column `type` is not UTF-8");
        assert_eq!(with(3, b"a\nb").unwrap_err(), "the attribute `partitionkey` holds a control character");
        assert_eq!(with(9, b"\x01{\"a\": []}").unwrap_err(), "the header `a` is not a text");
        assert_eq!(
            with(9, b"\x01{\"A-b\": 1}").unwrap_err(),
            "the header `A-b` is no CloudEvents name: use a-z and 0-9"
        );
        assert!(with(11, b"{}").unwrap_err().starts_with("the column `attributes` cannot be read"));
    }
}
