//! What is wrong with a configuration, and where.

use std::sync::Arc;

use serde_json::{Value, json};

use super::yaml::Span;

/// The codes of problems, for programs that read `check --output json`.
pub mod code {
    /// The file cannot be read.
    pub const FILE: &str = "file";
    /// The text is not YAML, or YAML that we refuse.
    pub const YAML: &str = "yaml";
    /// A key is written twice.
    pub const DUPLICATE: &str = "duplicate";
    /// A field that is not known here.
    pub const UNKNOWN_FIELD: &str = "unknown_field";
    /// A field that must be there.
    pub const MISSING_FIELD: &str = "missing_field";
    /// A list where a map is wanted, a word where a number is wanted and the like.
    pub const WRONG_TYPE: &str = "wrong_type";
    /// The right type, but not a value that is allowed.
    pub const WRONG_VALUE: &str = "wrong_value";
    /// A connection, connector, action or topic that is not there.
    pub const UNKNOWN_NAME: &str = "unknown_name";
    /// A name with characters that names cannot have.
    pub const WRONG_NAME: &str = "wrong_name";
    /// A `${…}` that is not a reference.
    pub const WRONG_REFERENCE: &str = "wrong_reference";
    /// An environment variable that is not set.
    pub const MISSING_VARIABLE: &str = "missing_variable";
    /// A secret that is written into the file.
    pub const LITERAL_SECRET: &str = "literal_secret";
    /// A jq expression or template that does not compile.
    pub const EXPRESSION: &str = "expression";
    /// Parts that are right by themselves and wrong together.
    pub const CONFLICT: &str = "conflict";
    /// Text that looks like an expression (a warning).
    pub const PLAIN_TEXT: &str = "plain_text";
    /// Something that has no effect (a warning).
    pub const UNUSED: &str = "unused";
}

/// Whether a problem stops us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably does not do what its writer wants.
    Warning,
}

/// One thing that is wrong. Never quotes a value that came from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// One of [`code`].
    pub code: &'static str,
    /// Where; none if it concerns the whole file.
    pub span: Option<Span>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What is allowed, and the nearest name.
    pub help: Option<String>,
    /// Whether it stops us.
    pub severity: Severity,
}

impl Problem {
    /// An error at a place.
    pub fn new(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, span: Some(span), message: message.into(), help: None, severity: Severity::Error }
    }

    /// An error that concerns the whole file.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self { code: code::FILE, span: None, message: message.into(), help: None, severity: Severity::Error }
    }

    /// The same problem as a warning.
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same problem with what to do about it.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone)]
pub struct Problems {
    /// The file as it was named.
    pub file: String,
    /// Its text.
    pub text: Arc<str>,
    /// What is wrong, by place.
    pub items: Vec<Problem>,
    /// Places that are never shown: secrets that were written into the file.
    pub hidden: Vec<Span>,
}

impl Problems {
    /// None yet.
    pub fn new(file: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), text: text.into(), items: Vec::new(), hidden: Vec::new() }
    }

    /// Whether any of them stops us.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// How many errors and how many warnings there are.
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.items.iter().filter(|problem| problem.severity == Severity::Error).count();
        (errors, self.items.len() - errors)
    }

    /// The errors without the warnings, some of which are only there because of an error.
    pub fn errors_only(mut self) -> Self {
        self.items.retain(|problem| problem.severity == Severity::Error);
        self
    }

    /// The same problems in the order of the file.
    pub fn sorted(mut self) -> Self {
        self.items.sort_by_key(|problem| {
            (problem.span.as_ref().map(|span| (span.start, span.end)), problem.severity)
        });
        self.items.dedup();
        self
    }

    /// The same place, or the character before it if it is the empty end of a line, where nothing can be underlined.
    pub fn visible(&self, span: &Span) -> Span {
        let at = self.text.floor_char_boundary(span.start);
        let ends = self.text[at..].chars().next().is_none_or(|next| matches!(next, '\n' | '\r'));
        match self.text[..at].chars().next_back() {
            Some(last) if span.is_empty() && ends && last != '\n' => at - last.len_utf8()..at,
            _ => span.clone(),
        }
    }

    /// The line and the column (in characters) of a byte, both from 1.
    pub fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The list as programs read it.
    pub fn json(&self) -> Value {
        let items: Vec<_> = self.items.iter().map(|problem| self.item(problem)).collect();
        json!({ "items": items, "next": null })
    }

    fn item(&self, problem: &Problem) -> Value {
        let place = problem.span.as_ref().map(|span| self.line_and_column(self.visible(span).start));
        json!({
            "file": self.file,
            "line": place.map(|(line, _)| line),
            "column": place.map(|(_, column)| column),
            "severity": match problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "code": problem.code,
            "message": problem.message,
            "help": problem.help,
        })
    }
}
