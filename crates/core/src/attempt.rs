//! What is remembered of one attempt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Class, Fault};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The other side has the event.
    Delivered,
    /// It failed.
    Failed,
}

/// One try of a delivery, as it is shown to people. Holds no secret and no payload but a redacted excerpt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first counted try. A throttled try does not count and repeats the number.
    pub n: u32,
    /// When the try began.
    pub at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// What was called, for example `POST http://127.0.0.1:9001/all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The status that the other side answered with.
    pub status: Option<u16>,
    /// The class of the failure.
    pub class: Option<Class>,
    /// The other side's error code.
    pub code: Option<String>,
    /// What went wrong.
    pub message: String,
    /// The beginning of the answer, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    /// How often in a row it ended like this, for tries that do not count (throttled, credential refused).
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
    /// The replay that made this try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
}

impl Attempt {
    /// The record of a failed try.
    pub fn failed(n: u32, at: Timestamp, duration_ms: u64, request: Option<String>, fault: &Fault) -> Self {
        Self {
            n,
            at,
            duration_ms,
            request,
            status: fault.status,
            class: Some(fault.class),
            code: fault.code.clone(),
            message: fault.message.clone(),
            excerpt: fault.excerpt.clone(),
            times: 1,
            replay: None,
        }
    }
}

fn once() -> u32 {
    1
}

fn is_once(times: &u32) -> bool {
    *times == 1
}
