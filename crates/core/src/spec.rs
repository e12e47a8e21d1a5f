//! What a connector says of itself, so that configuration can be checked where it is written.

use std::{collections::BTreeMap, fmt, time::Duration};

use secrecy::SecretString;
use serde::Serialize;

/// What a field of a connection or an action takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// Any text.
    Text,
    /// Text that must come from a reference (`${env.X}`), never literally; kept out of every output.
    Secret,
    /// An `http` or `https` URL.
    Url,
    /// A whole number of at least 0.
    Integer,
    /// `true` or `false`.
    Bool,
    /// A duration such as `200ms`, `5s`, `1h`.
    Duration,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Names and text values.
    TextMap,
    /// Names and secret values.
    SecretMap,
    /// A list of text.
    TextList,
    /// A URL path: inserted values are percent-encoded, so that they cannot leave their segment.
    Path,
}

/// One field of a connection's `config` or of an action.
#[derive(Debug, Clone, Serialize)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: FieldKind,
    /// Whether it must be there.
    pub required: bool,
    /// What it does, its default and its unit, in one sentence.
    pub about: &'static str,
}

/// What a connector can do to a system.
#[derive(Debug, Clone, Serialize)]
pub struct ActionSpec {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it takes besides the mapped event. Text and paths may hold expressions.
    pub fields: &'static [Field],
}

/// What a connector says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectorSpec {
    /// Its name, as in `connector: http`.
    pub name: String,
    /// What it connects.
    pub about: String,
    /// The fields of `config`.
    pub config: Vec<Field>,
    /// The actions; empty if events only come in.
    pub actions: Vec<ActionSpec>,
    /// Whether events can come in (`from: { connection: … }`).
    pub source: bool,
}

/// The value of one field, checked and with its references resolved.
#[derive(Clone)]
pub enum Setting {
    /// Text, choice or path.
    Text(String),
    /// A URL, and the parts of it that references put in: an address of a webhook may be the only credential there is.
    Url(String, Vec<SecretString>),
    /// A secret.
    Secret(SecretString),
    /// A whole number.
    Integer(u64),
    /// A truth value.
    Bool(bool),
    /// A duration.
    Duration(Duration),
    /// Names and text.
    TextMap(Vec<(String, String)>),
    /// Names and secrets.
    SecretMap(Vec<(String, SecretString)>),
    /// A list of text.
    TextList(Vec<String>),
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Secret(_) | Self::SecretMap(_) | Self::Url(..) => f.write_str("‹secret›"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Duration(duration) => write!(f, "{duration:?}"),
            Self::TextMap(map) => write!(f, "{map:?}"),
            Self::TextList(list) => write!(f, "{list:?}"),
        }
    }
}

/// The checked `config` of a connection, by field name. Fields that were not written are not there.
#[derive(Debug, Clone, Default)]
pub struct Settings(pub BTreeMap<String, Setting>);

impl Settings {
    /// A text or URL field.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Setting::Text(text) | Setting::Url(text, _)) => Some(text),
            _ => None,
        }
    }

    /// What references put into a URL field; empty if the field is not there.
    pub fn inserted(&self, name: &str) -> &[SecretString] {
        match self.0.get(name) {
            Some(Setting::Url(_, inserted)) => inserted,
            _ => &[],
        }
    }

    /// A secret field.
    pub fn secret(&self, name: &str) -> Option<&SecretString> {
        match self.0.get(name) {
            Some(Setting::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    /// A number.
    pub fn integer(&self, name: &str) -> Option<u64> {
        match self.0.get(name) {
            Some(Setting::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// A truth value.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Setting::Bool(truth)) => Some(*truth),
            _ => None,
        }
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.0.get(name) {
            Some(Setting::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    /// Names and text; empty if the field is not there.
    pub fn text_map(&self, name: &str) -> &[(String, String)] {
        match self.0.get(name) {
            Some(Setting::TextMap(map)) => map,
            _ => &[],
        }
    }

    /// Names and secrets; empty if the field is not there.
    pub fn secret_map(&self, name: &str) -> &[(String, SecretString)] {
        match self.0.get(name) {
            Some(Setting::SecretMap(map)) => map,
            _ => &[],
        }
    }

    /// A list of text; empty if the field is not there.
    pub fn text_list(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(Setting::TextList(list)) => list,
            _ => &[],
        }
    }
}
