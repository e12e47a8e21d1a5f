//! Why an attempt failed.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::span;

/// What kind of failure it was. The class alone decides retry, grouping and hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// May go away by itself: no connection, a time-out before the request was sent, 408, 5xx. Retried on schedule.
    Transient,
    /// The other side asks us to slow down. Waits as told; no attempt is counted.
    Throttled,
    /// The credential is too old. Refreshed once; a second time it is [`Class::AuthBroken`].
    AuthExpired,
    /// The credential is refused. The connection stops and its events wait; nothing is dead-lettered.
    AuthBroken,
    /// The other side will never take this event. Dead-lettered at once.
    Rejected,
    /// The other side has it already. Counts as success.
    AlreadyDone,
    /// It may have happened. Dead-lettered at once unless the action may be repeated safely.
    Ambiguous,
    /// Our side failed on this event: decoding, mapping, a panic. Dead-lettered at once.
    Bug,
}

impl Class {
    /// The name in configuration, API and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::AuthExpired => "auth_expired",
            Self::AuthBroken => "auth_broken",
            Self::Rejected => "rejected",
            Self::AlreadyDone => "already_done",
            Self::Ambiguous => "ambiguous",
            Self::Bug => "bug",
        }
    }

    /// The class of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Transient,
            Self::Throttled,
            Self::AuthExpired,
            Self::AuthBroken,
            Self::Rejected,
            Self::AlreadyDone,
            Self::Ambiguous,
            Self::Bug,
        ];
        all.into_iter().find(|class| class.as_str() == name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long the other side asks us to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// From now on.
    For(Duration),
    /// Until this moment of the wall clock.
    Until(Timestamp),
}

impl Wait {
    /// The wait as a duration from `now`; a moment in the past is no wait.
    pub fn from(self, now: Timestamp) -> Duration {
        match self {
            Self::For(duration) => duration,
            Self::Until(moment) => span(now, moment),
        }
    }
}

/// The only error that an attempt can end with. The class decides what happens; the rest is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure.
    pub class: Class,
    /// The wait that the other side asked for.
    pub wait: Option<Wait>,
    /// The status that the other side answered with, if it answered.
    pub status: Option<u16>,
    /// The other side's error code: part of the fingerprint.
    pub code: Option<String>,
    /// What went wrong, for people. Never part of the fingerprint, never a secret.
    pub message: String,
    /// What an operator should do.
    pub advice: Option<String>,
    /// The beginning of the answer, redacted.
    pub excerpt: Option<String>,
}

impl Fault {
    /// A fault of a class with a message and nothing else.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            wait: None,
            status: None,
            code: None,
            message: message.into(),
            advice: None,
            excerpt: None,
        }
    }

    /// The same fault with an error code.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The same fault with what an operator should do.
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}
