//! The event.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An event was refused because an attribute is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the attribute `{attribute}` {problem}")]
pub struct EventError {
    /// The CloudEvents name of the attribute.
    pub attribute: &'static str,
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

    /// Checks what CloudEvents requires: `id`, `source` and `type` are there, and no attribute is too long.
    pub fn validate(&self) -> Result<(), EventError> {
        for (attribute, value) in [("id", &self.id), ("source", &self.source), ("type", &self.kind)] {
            if value.is_empty() {
                return Err(EventError { attribute, problem: "must not be empty" });
            }
        }
        let optional =
            [("subject", &self.subject), ("partitionkey", &self.key), ("dataschema", &self.schema)];
        let attributes =
            [("id", &self.id), ("source", &self.source), ("type", &self.kind)].into_iter().chain(
                optional.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value))),
            );
        for (attribute, value) in attributes {
            if value.len() > Self::ATTRIBUTE_BYTES_MAX {
                return Err(EventError { attribute, problem: "is longer than 1,024 bytes" });
            }
            if value.chars().any(char::is_control) {
                return Err(EventError { attribute, problem: "holds a control character" });
            }
        }
        Ok(())
    }

    /// The bytes that the event holds in memory, roughly: what budgets count.
    pub fn weight(&self) -> usize {
        256 + self.id.len() + self.source.len() + self.kind.len() + self.data.len()
    }
}
