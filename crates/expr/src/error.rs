//! What can go wrong: when compiling (with a place) and when evaluating (with the expression).

use std::ops::Range;

/// Longest message that a failed evaluation carries, in characters. jq messages quote values of the payload, so they
/// are cut: enough to see the cause, too little to leak a document into a log.
const MESSAGE_CHARS_MAX: usize = 200;

/// A program or template that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// What is wrong, in one sentence without the place.
    pub message: String,
    /// The byte range within the source text that was compiled; for the jq inside a template, within the template's
    /// text. Never past its end; empty where something is missing.
    pub span: Range<usize>,
    /// What to do about it: what is allowed here, and the nearest name.
    pub help: Option<String>,
}

impl CompileError {
    pub(crate) fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), span, help: None }
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same error seen from a text in which this source begins at `offset`.
    pub(crate) fn moved(self, offset: usize) -> Self {
        Self { span: self.span.start + offset..self.span.end + offset, ..self }
    }
}

/// An evaluation that failed. Its source is the [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to evaluate `{}`", cut(.expression))]
pub struct EvalError {
    /// The source of the failing expression: inside a template or tree, of the one `${…}` that failed.
    pub expression: String,
    /// What went wrong.
    #[source]
    pub failure: Failure,
}

/// Why an evaluation failed. None of these is cured by trying again with the same document, save [`Failure::StepLimit`]
/// for a program that depends on `now`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The program failed as jq programs do (`error("…")`, a number where text is needed, …).
    #[error("{message}")]
    Runtime {
        /// jq's message, at most 200 characters. It may quote a value of the document.
        message: String,
    },
    /// A document that the program looks into is not JSON.
    #[error("the document is not JSON: {message}")]
    NotJson {
        /// What is wrong and at which byte; quotes nothing of the document.
        message: String,
    },
    /// The program was stopped because it passed a limit.
    #[error("the expression was stopped: {limit}")]
    StepLimit {
        /// Which limit it was.
        limit: Limit,
    },
    /// One value was needed and the program gave none (for example `empty`, or `.a?` of a string).
    #[error("the expression gave no value")]
    NoOutput,
    /// A value that has no text (null, array or object) was to be written into text.
    #[error("the expression gave {found}, which cannot be written into text")]
    NotText {
        /// `null`, `an array` or `an object`.
        found: &'static str,
    },
}

/// A limit that keeps programs from running or growing for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// More than [`STEPS_MAX`](crate::STEPS_MAX) steps.
    Steps,
    /// Recursion, or a value, nested too deeply.
    Depth,
    /// More than [`WORK_BYTES_MAX`](crate::WORK_BYTES_MAX) bytes produced or looked through.
    Work,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps => write!(f, "it took more than {} steps", crate::STEPS_MAX),
            Self::Depth => f.write_str("it recursed, or nested a value, too deeply"),
            Self::Work => write!(f, "it handled more than {} MiB", crate::WORK_BYTES_MAX >> 20),
        }
    }
}

impl Failure {
    pub(crate) fn runtime(message: &str) -> Self {
        Self::Runtime { message: cut(message) }
    }

    pub(crate) fn in_expression(self, expression: &str) -> EvalError {
        EvalError { expression: expression.to_owned(), failure: self }
    }
}

/// `text`, or as much of it as a message may carry.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
