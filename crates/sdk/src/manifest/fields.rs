//! The fields of a connection, as a manifest declares them.

use serde::Deserialize;

use crate::{Field, FieldKind};

/// A field of `config`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigField {
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// Whether it must be there.
    #[serde(default)]
    pub required: bool,
    /// What it does, its default and its unit, in one sentence.
    pub about: String,
    /// The words that a `choice` takes.
    #[serde(default, rename = "in")]
    pub words: Vec<String>,
}

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Any text.
    Text,
    /// A secret; never in an expression, never in an output.
    Secret,
    /// An `http` or `https` URL.
    Url,
    /// A whole number of at least 0.
    Integer,
    /// `true` or `false`.
    Bool,
    /// A duration such as `5s`.
    Duration,
    /// One of the words under `in`.
    Choice,
    /// Names and text.
    TextMap,
    /// Names and secrets.
    SecretMap,
    /// A list of text.
    TextList,
}

impl ConfigField {
    /// The field in the words of the port. Connectors live as long as the program, so what the port wants to keep for ever is
    /// kept for ever; that is a few hundred bytes for each manifest.
    pub(crate) fn to_field(&self, name: &str) -> Field {
        let forever = |text: &str| -> &'static str { text.to_owned().leak() };
        let kind = match self.kind {
            FieldType::Text => FieldKind::Text,
            FieldType::Secret => FieldKind::Secret,
            FieldType::Url => FieldKind::Url,
            FieldType::Integer => FieldKind::Integer,
            FieldType::Bool => FieldKind::Bool,
            FieldType::Duration => FieldKind::Duration,
            FieldType::Choice => {
                FieldKind::Choice(self.words.iter().map(|word| forever(word)).collect::<Vec<_>>().leak())
            }
            FieldType::TextMap => FieldKind::TextMap,
            FieldType::SecretMap => FieldKind::SecretMap,
            FieldType::TextList => FieldKind::TextList,
        };
        Field { name: forever(name), kind, required: self.required, about: forever(&self.about) }
    }
}
