//! The event.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An event was refused because an attribute is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the attribute `{attribute}` {problem}")]
pub struct EventError {
    /// The CloudEvents name of the attribute.
    pub attribute: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// A CloudEvents 1.0 event with the key by which its order is kept. The data stays the bytes that came in.
///
/// Serialises to its attributes under their CloudEvents names; `data` is left out and travels beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique together with `source`; the hub drops a second event with the same pair (in one topic).
    pub id: String,
    /// A URI reference that names where the event comes from.
    pub source: String,
    /// What happened, for example `github.issues.opened`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to, inside the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened, as the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The media type of `data`.
    #[serde(default, rename = "datacontenttype", skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// A URI of the schema that `data` follows.
    #[serde(default, rename = "dataschema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What order is kept by (CloudEvents `partitionkey`). Without one the event has no order.
    #[serde(default, rename = "partitionkey", skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Other CloudEvents extension attributes, in the order they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<(String, String)>,
    /// The data, untouched.
    #[serde(skip)]
    pub data: Bytes,
}

impl Event {
    /// The longest value of an attribute, in bytes.
    pub const ATTRIBUTE_BYTES_MAX: usize = 1024;

    /// Checks what CloudEvents requires: `id`, `source` and `type` are there. No attribute, extensions included, is too long
    /// or holds a control character.
    pub fn validate(&self) -> Result<(), EventError> {
        for (attribute, value) in self.attributes() {
            let problem = if value.is_empty() && REQUIRED.contains(&attribute) {
                "must not be empty"
            } else if value.len() > Self::ATTRIBUTE_BYTES_MAX {
                "is longer than 1,024 bytes"
            } else if value.chars().any(char::is_control) {
                "holds a control character"
            } else {
                continue;
            };
            return Err(EventError { attribute: attribute.to_owned(), problem });
        }
        Ok(())
    }

    /// An event from its attributes under their CloudEvents names and its data: what the bindings of Kafka and AMQP read.
    /// `specversion` is passed over; a name that CloudEvents does not know is an extension; of a name that comes twice the
    /// last one counts.
    pub fn from_attributes(
        attributes: impl IntoIterator<Item = (String, String)>,
        data: Bytes,
    ) -> Result<Self, EventError> {
        let mut event = Self {
            id: String::new(),
            source: String::new(),
            kind: String::new(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            key: None,
            extensions: Vec::new(),
            data,
        };
        for (name, value) in attributes {
            event.set(name, value)?;
        }
        event.validate()?;
        Ok(event)
    }

    fn set(&mut self, name: String, value: String) -> Result<(), EventError> {
        match name.as_str() {
            "specversion" => {}
            "id" => self.id = value,
            "source" => self.source = value,
            "type" => self.kind = value,
            "subject" => self.subject = Some(value),
            "datacontenttype" => self.content_type = Some(value),
            "dataschema" => self.schema = Some(value),
            "partitionkey" => self.key = Some(value),
            "time" => match value.parse() {
                Ok(time) => self.time = Some(time),
                Err(_) => {
                    return Err(EventError { attribute: name, problem: "is not a time as RFC 3339 has it" });
                }
            },
            _ => match self.extensions.iter_mut().find(|(known, _)| *known == name) {
                Some((_, before)) => *before = value,
                None => self.extensions.push((name, value)),
            },
        }
        Ok(())
    }

    /// The text attributes that are set, by their CloudEvents names; [`Event::time`] is not among them.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let required = [("id", &self.id), ("source", &self.source), ("type", &self.kind)];
        let optional = [
            ("subject", &self.subject),
            ("datacontenttype", &self.content_type),
            ("dataschema", &self.schema),
            ("partitionkey", &self.key),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let extensions = self.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        required.map(|(name, value)| (name, value.as_str())).into_iter().chain(optional).chain(extensions)
    }

    /// The bytes that the event holds in memory, roughly: what budgets count.
    pub fn weight(&self) -> usize {
        let attributes: usize = self.attributes().map(|(name, value)| name.len() + value.len()).sum();
        256 + attributes + self.extensions.len() * size_of::<(String, String)>() + self.data.len()
    }
}

/// What no event is without.
const REQUIRED: [&str; 3] = ["id", "source", "type"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_from_its_attributes() {
        let event = Event {
            subject: Some("s".to_owned()),
            time: Some("2026-01-02T03:04:05.678Z".parse().expect("a time")),
            key: Some("k".to_owned()),
            extensions: vec![("traceparent".to_owned(), "00-1-2-01".to_owned())],
            ..event()
        };
        let mut attributes: Vec<(String, String)> =
            event.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        attributes.push(("time".to_owned(), event.time.expect("it was set").to_string()));
        attributes.push(("specversion".to_owned(), "1.0".to_owned()));
        assert_eq!(Event::from_attributes(attributes.clone(), event.data.clone()), Ok(event.clone()));
        attributes.retain(|(name, _)| name != "source");
        let refused = Event::from_attributes(attributes, event.data.clone()).expect_err("it has no source");
        assert_eq!(refused.attribute, "source");
    }

    fn event() -> Event {
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

    fn refused(event: &Event) -> Option<String> {
        event.validate().err().map(|error| error.to_string())
    }

    #[test]
    fn every_attribute_has_its_limit_extensions_too() {
        let long = "x".repeat(Event::ATTRIBUTE_BYTES_MAX + 1);
        assert_eq!(refused(&event()), None);
        let broken = Event { content_type: Some(long.clone()), ..event() };
        assert_eq!(
            refused(&broken).as_deref(),
            Some("the attribute `datacontenttype` is longer than 1,024 bytes")
        );
        let broken = Event { extensions: vec![("tenant".to_owned(), long)], ..event() };
        assert_eq!(refused(&broken).as_deref(), Some("the attribute `tenant` is longer than 1,024 bytes"));
        let broken = Event { extensions: vec![("tenant".to_owned(), "a\nb".to_owned())], ..event() };
        assert_eq!(refused(&broken).as_deref(), Some("the attribute `tenant` holds a control character"));
        let broken = Event { source: String::new(), ..event() };
        assert_eq!(refused(&broken).as_deref(), Some("the attribute `source` must not be empty"));
    }

    #[test]
    fn everything_that_can_be_large_weighs() {
        let kilobyte = "x".repeat(1024);
        let extensions = (0..64).map(|n| (format!("e{n}"), kilobyte.clone())).collect();
        let heavy = Event { subject: Some(kilobyte.clone()), key: Some(kilobyte), extensions, ..event() };
        assert!(heavy.weight() > event().weight() + 66 * 1024);
    }
}
