//! What an adapter finds when it compares the outside world with the configuration.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Missing, and the hub makes it by itself when it runs.
    Missing,
    /// It works, but somebody should look at it.
    Warning,
    /// The hub cannot work like that.
    Error,
}

/// One thing that was looked at: a topic, a queue, a right, a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, for example "topic `orders`" or "store".
    pub subject: String,
    /// What was found, for people, without a full stop.
    pub detail: String,
    /// What to do; for an error always there.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub fn ok(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, subject: subject.into(), detail: detail.into(), remedy: None }
    }

    /// Something that the hub makes by itself when it runs.
    pub fn missing(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { severity: Severity::Missing, ..Self::ok(subject, detail) }
    }

    /// Something that somebody should look at.
    pub fn warning(subject: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, remedy: Some(remedy.into()), ..Self::ok(subject, detail) }
    }

    /// Something that the hub cannot work with.
    pub fn error(subject: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, remedy: Some(remedy.into()), ..Self::ok(subject, detail) }
    }
}
