//! The recipe as data.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{RecipeSettings, message::Message};

/// A recipe contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecipeError(pub String);

/// How a vendor signs its requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What makes the signature.
    pub algorithm: Algorithm,
    /// How the secret is written.
    #[serde(default)]
    pub secret: SecretFormat,
    /// Values that the request carries and that are signed with it, by the name that `signed` uses.
    #[serde(default)]
    pub vars: BTreeMap<String, Place>,
    /// What is signed: text with `{body}`, `{method}`, `{url}`, `{url_decoded}`, `{secret}` and `vars`.
    #[serde(default = "Message::body")]
    pub signed: Message,
    /// Where the signature stands.
    pub signature: SignaturePlace,
    /// Which of the `vars` is the time of signing, and how far it may be off.
    #[serde(default)]
    pub timestamp: Option<TimestampRule>,
    /// What of this an operator may set.
    #[serde(default)]
    pub settings: RecipeSettings,
}

/// What makes a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-512.
    HmacSha512,
    /// HMAC with SHA-1. Still safe as a MAC, but only for vendors that have nothing else.
    HmacSha1,
    /// SHA-256 of what is signed, which must hold `{secret}`.
    Sha256,
    /// No signature: the header holds the secret itself, as with GitLab.
    Token,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The text itself.
    #[default]
    Utf8,
    /// Base64 with `+`, `/` and padding.
    Base64,
    /// Hexadecimal, in lower case.
    Hex,
}

/// How a secret is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFormat {
    /// The fields of `config` that hold secrets. Any of them verifies, so that a secret can be rotated; the first signs.
    #[serde(default)]
    pub from: Vec<String>,
    /// What the secret's text stands for.
    #[serde(default)]
    pub encoding: Encoding,
    /// A prefix that is no part of the secret, such as `whsec_`.
    #[serde(default)]
    pub strip_prefix: Option<String>,
    /// The fewest and the most bytes that a secret may stand for, where the vendor's standard says so.
    #[serde(default)]
    pub bytes: Option<(usize, usize)>,
}

/// Where a value stands in a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The header, in any case.
    #[serde(deserialize_with = "header_name")]
    pub header: String,
    /// What separates several values in the header.
    #[serde(default)]
    pub split: Option<String>,
    /// What the value begins with; values that begin otherwise are passed over.
    #[serde(default)]
    pub prefix: String,
}

/// Where the signature stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignaturePlace {
    /// The header, in any case.
    #[serde(deserialize_with = "header_name")]
    pub header: String,
    /// What separates several signatures in the header; one that fits is enough.
    #[serde(default)]
    pub split: Option<String>,
    /// What a signature begins with; values that begin otherwise are passed over.
    #[serde(default)]
    pub prefix: String,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
}

/// Which value is the time of signing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampRule {
    /// Its name in `vars`.
    pub var: String,
    /// How it is written.
    #[serde(default)]
    pub unit: TimestampUnit,
    /// How far it may lie in the past or in the future.
    #[serde(deserialize_with = "duration")]
    pub tolerance: Duration,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampUnit {
    /// Whole seconds since 1970.
    #[default]
    Seconds,
    /// Whole milliseconds since 1970.
    Milliseconds,
    /// RFC 3339.
    Rfc3339,
}

impl Recipe {
    /// The names that are used in `signed`.
    pub(crate) fn signed_names(&self) -> impl Iterator<Item = &str> {
        self.signed.names()
    }

    /// Checks that the parts fit: every name in `signed` is there, a timestamp is signed, a plain hash holds the secret.
    pub fn check(&self) -> Result<(), RecipeError> {
        for name in self.signed.names() {
            if !Message::BUILT_IN.contains(&name) && !self.vars.contains_key(name) {
                let known = Message::BUILT_IN.iter().copied().chain(self.vars.keys().map(String::as_str));
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(RecipeError(format!("`signed` names `{{{name}}}`; known here are: {known}")));
            }
        }
        if let Some(name) = self.vars.keys().find(|name| Message::BUILT_IN.contains(&name.as_str())) {
            return Err(RecipeError(format!("`{name}` has its meaning already; name the value otherwise")));
        }
        if self.algorithm == Algorithm::Sha256 && !self.signed.names().any(|name| name == "secret") {
            return Err(RecipeError(
                "a plain `sha256` proves nothing unless `signed` holds `{secret}`".into(),
            ));
        }
        if self.algorithm != Algorithm::Token && self.signature.encoding == Encoding::Utf8 {
            return Err(RecipeError("`signature` needs an `encoding`: base64 or hex".into()));
        }
        // The header holds the text of the secret. Bytes of another encoding may be no text, and two that are none look alike.
        let plain = [self.secret.encoding, self.signature.encoding] == [Encoding::Utf8; 2];
        if self.algorithm == Algorithm::Token && !plain {
            return Err(RecipeError("a `token` is compared as it is written: it takes no `encoding`".into()));
        }
        self.check_timestamp()
    }

    fn check_timestamp(&self) -> Result<(), RecipeError> {
        let Some(rule) = &self.timestamp else { return Ok(()) };
        if !self.vars.contains_key(&rule.var) {
            return Err(RecipeError(format!("`timestamp` names `{}`, which `vars` does not have", rule.var)));
        }
        if !self.signed.names().any(|name| name == rule.var) || self.algorithm == Algorithm::Token {
            let message =
                format!("`{0}` must be signed, or anyone can change it: put {{{0}}} in `signed`", rule.var);
            return Err(RecipeError(message));
        }
        Ok(())
    }
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let parsed = http::HeaderName::from_bytes(name.as_bytes());
    parsed
        .map(|name| name.as_str().to_owned())
        .map_err(|_| D::Error::custom("this is not the name of a header"))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| duration.try_into().ok());
    parsed.ok_or_else(|| D::Error::custom("this is not a duration such as `5m` or `300s`"))
}
