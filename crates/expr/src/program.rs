//! A bare jq program.

use bytes::Bytes;
use serde_json::Value;

use crate::{CompileError, Document, EvalError, Failure, Scope, Variables};

/// Most steps that one evaluation may take.
pub const STEPS_MAX: u32 = 100_000;

/// Most bytes that one evaluation may produce or look through.
pub const WORK_BYTES_MAX: u64 = 256 << 20;

/// A compiled jq program. Cheap to evaluate, from many threads at once.
#[derive(Debug)]
pub struct Program {
    source: String,
}

impl Program {
    /// Compile jq source text.
    pub fn compile(source: &str, _scope: &Scope) -> Result<Self, CompileError> {
        Ok(Self { source: source.to_owned() })
    }

    /// The source text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the first output is neither `false` nor `null`; no output is `false`.
    pub fn test(&self, _input: &Document, _vars: &Variables<'_>) -> Result<bool, EvalError> {
        Err(Failure::NoOutput.in_expression(&self.source))
    }

    /// The first output. None at all is [`Failure::NoOutput`].
    pub fn value(&self, _input: &Document, _vars: &Variables<'_>) -> Result<Value, EvalError> {
        Err(Failure::NoOutput.in_expression(&self.source))
    }

    /// All outputs, in order.
    pub fn values(&self, _input: &Document, _vars: &Variables<'_>) -> Result<Vec<Value>, EvalError> {
        Err(Failure::NoOutput.in_expression(&self.source))
    }

    /// The first output as JSON text, appended to `out`.
    pub fn json(
        &self,
        _input: &Document,
        _vars: &Variables<'_>,
        _out: &mut Vec<u8>,
    ) -> Result<(), EvalError> {
        Err(Failure::NoOutput.in_expression(&self.source))
    }

    /// All outputs as JSON texts, in order.
    pub fn jsons(&self, _input: &Document, _vars: &Variables<'_>) -> Result<Vec<Bytes>, EvalError> {
        Err(Failure::NoOutput.in_expression(&self.source))
    }

    /// The first output as text: `None` for null or no output, a scalar's text, an error for an array or object.
    pub fn text(&self, _input: &Document, _vars: &Variables<'_>) -> Result<Option<String>, EvalError> {
        Err(Failure::NoOutput.in_expression(&self.source))
    }
}
