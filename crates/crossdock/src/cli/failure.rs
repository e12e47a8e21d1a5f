//! How a command ends.

use std::{fmt, process::ExitCode};

use serde_json::{Value, json};

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// Failed, or a part of it did.
    Failed = 1,
    /// What was asked for cannot be understood.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Somebody must say yes first.
    NeedsConfirmation = 4,
    /// The hub asks for a token, or for another one.
    Unauthorised = 5,
}

impl Code {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::NeedsConfirmation => "needs_confirmation",
            Self::Unauthorised => "unauthorised",
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A command that was not done: what went wrong, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// More about it, a line each.
    pub details: Vec<String>,
    /// What to do.
    pub next: Option<String>,
}

impl Failure {
    /// A failure with a message and nothing else.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), next: None }
    }

    /// The same failure with what to do.
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// What the hub answered: a problem by RFC 9457, or something that is none.
    pub fn answered(status: u16, body: &str) -> Self {
        let code = match status {
            400 | 422 => Code::Usage,
            401 | 403 => Code::Unauthorised,
            404 => Code::NotFound,
            _ => Code::Failed,
        };
        let problem: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |name| problem.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let message = match text("detail").or(text("title")) {
            Some(message) => message.to_owned(),
            None => format!("the hub answered {status} and said nothing more"),
        };
        let next = (code == Code::Unauthorised && status == 401)
            .then(|| "pass the hub's token with --token, or set CROSSDOCK_TOKEN".to_owned());
        let known = problem.get("known").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let known: Vec<_> = known.iter().filter_map(Value::as_str).collect();
        let details = [
            text("pointer").filter(|pointer| pointer.len() > 1).map(|pointer| format!("at {pointer}")),
            (!known.is_empty()).then(|| format!("there is: {}", known.join(", "))),
        ];
        Self { code, message, details: details.into_iter().flatten().collect(), next }
    }

    /// The failure as programs read it.
    pub fn json(&self) -> Value {
        json!({
            "error": self.message,
            "code": self.code.as_str(),
            "details": self.details,
            "next": self.next,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Code::Failed, format!("the result cannot be written: {error}"))
    }
}
