//! A bare jq program.

use std::ops::ControlFlow;

use bytes::Bytes;
use jaq_core::load::{Lexer, Parser};
use serde_json::Value;

use crate::condition::Condition;
use crate::jq::Jq;
use crate::output::Output;
use crate::path::{Found, Path};
use crate::{CompileError, Document, EvalError, Failure, Scope, Variables, diagnose};

/// Longest program, in bytes.
const SOURCE_BYTES_MAX: usize = 64 << 10;

/// The stack for compiling, per byte of source and altogether at least. jaq's parser and compiler recurse with each
/// bracket, sign and keyword; in a debug build the worst of them takes about 8 KiB. It is reserved, not used.
const STACK_BYTES_PER_BYTE: usize = 16 << 10;
const STACK_BYTES_MIN: usize = 2 << 20;

/// A compiled jq program. Cheap to evaluate, from many threads at once.
pub struct Program {
    source: String,
    plan: Plan,
}

/// How a program runs.
enum Plan {
    Path(Path),
    Condition(Condition),
    Jq(Box<Jq>),
}

impl Program {
    /// Compile jq source text.
    ///
    /// Not for every event: a program that is more than a path or a comparison takes about a millisecond.
    pub fn compile(source: &str, scope: &Scope) -> Result<Self, CompileError> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("the program is longer than {} KiB", SOURCE_BYTES_MAX >> 10);
            return Err(CompileError::new(message, 0..source.len()));
        }
        if source.trim().is_empty() {
            return Err(CompileError::new("the expression is empty", 0..source.len()));
        }
        let failed = |what: &str| {
            CompileError::new(format!("the program cannot be compiled: {what}"), 0..source.len())
        };
        let stack_bytes = STACK_BYTES_MIN + source.len() * STACK_BYTES_PER_BYTE;
        let plan = std::thread::scope(|threads| {
            let thread = std::thread::Builder::new().name("compile-jq".to_owned()).stack_size(stack_bytes);
            let thread = thread.spawn_scoped(threads, || plan(source, scope));
            let thread = thread.map_err(|error| failed(&error.to_string()))?;
            thread.join().map_err(|_| failed("jaq does not understand it"))?
        })?;
        Ok(Self { source: source.to_owned(), plan })
    }

    /// The source text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the program is a path or comparison that runs over the text, without jq.
    pub fn is_native(&self) -> bool {
        !matches!(self.plan, Plan::Jq(_))
    }

    /// Whether the first output is neither `false` nor `null`; no output is `false`.
    pub fn test(&self, input: &Document, vars: &Variables<'_>) -> Result<bool, EvalError> {
        Ok(self.first(input, vars, |output| Ok(output.is_true()))?.unwrap_or(false))
    }

    /// The first output. None at all is [`Failure::NoOutput`].
    ///
    /// `serde_json` keeps integers of 64 bits and floats; a longer number loses digits, and one past the floats is a failure.
    /// [`Program::json`] does neither.
    pub fn value(&self, input: &Document, vars: &Variables<'_>) -> Result<Value, EvalError> {
        let value = self.first(input, vars, |output| value(&output))?;
        value.ok_or_else(|| Failure::NoOutput.in_expression(&self.source))
    }

    /// All outputs, in order. Numbers as in [`Program::value`].
    pub fn values(&self, input: &Document, vars: &Variables<'_>) -> Result<Vec<Value>, EvalError> {
        let mut values = Vec::new();
        self.each(input, vars, |output| {
            values.push(value(&output)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(values)
    }

    /// Append the first output as JSON text. None at all is [`Failure::NoOutput`].
    ///
    /// Numbers: what a plain path copies keeps its text to the letter. What passes through jq keeps it as well, except that
    /// an integer is written plainly (`-0` as `0`). What jq computes with is an integer of any length, or a 64-bit float.
    pub fn json(&self, input: &Document, vars: &Variables<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        let written = self.first(input, vars, |output| output.json(out))?;
        written.ok_or_else(|| Failure::NoOutput.in_expression(&self.source))
    }

    /// All outputs as JSON texts, in order. Numbers as in [`Program::json`].
    pub fn jsons(&self, input: &Document, vars: &Variables<'_>) -> Result<Vec<Bytes>, EvalError> {
        let mut texts = Vec::new();
        self.each(input, vars, |output| {
            let mut text = Vec::new();
            output.json(&mut text)?;
            texts.push(Bytes::from(text));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(texts)
    }

    /// The first output as text: `None` for null or no output, a scalar's text, [`Failure::NotText`] for an array or object.
    pub fn text(&self, input: &Document, vars: &Variables<'_>) -> Result<Option<String>, EvalError> {
        Ok(self.first(input, vars, |output| output.text())?.flatten())
    }

    /// What `take` makes of the first output, if there is one.
    pub(crate) fn first<T>(
        &self,
        input: &Document,
        vars: &Variables<'_>,
        mut take: impl FnMut(Output<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, EvalError> {
        let mut first = None;
        self.each(input, vars, |output| {
            first = Some(take(output)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    fn each(
        &self,
        input: &Document,
        vars: &Variables<'_>,
        mut take: impl FnMut(Output<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), EvalError> {
        let result = match &self.plan {
            Plan::Path(path) => path.find(input, vars).and_then(|found| match found {
                Found::Value(node) => take(Output::Node(node)).map(drop),
                Found::Null => take(Output::Null).map(drop),
                Found::Nothing => Ok(()),
            }),
            Plan::Condition(condition) => condition.decide(input, vars).and_then(|decided| match decided {
                Some(decided) => take(Output::Bool(decided)).map(drop),
                None => Ok(()),
            }),
            Plan::Jq(jq) => jq.run(input, vars, |value| take(Output::Value(value))),
        };
        result.map_err(|failure| failure.in_expression(&self.source))
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("source", &self.source).field("native", &self.is_native()).finish()
    }
}

/// Parse a program and choose how it runs. Recursive in all it does, so it needs a large stack.
fn plan(source: &str, scope: &Scope) -> Result<Plan, CompileError> {
    let tokens = Lexer::new(source).lex().map_err(|errors| diagnose::lexing(source, &errors))?;
    if let Some(error) = tokens.first().and_then(|first| diagnose::module(source, first)) {
        return Err(error);
    }
    let term = Parser::new(&tokens).parse(|parser| parser.term());
    let term = term.map_err(|errors| diagnose::parsing(source, &errors))?;
    if let Some(path) = Path::from_term(&term, scope) {
        return Ok(Plan::Path(path));
    }
    if let Some(condition) = Condition::from_term(&term, scope) {
        return Ok(Plan::Condition(condition));
    }
    Ok(Plan::Jq(Box::new(Jq::compile(source, term, scope)?)))
}

fn value(output: &Output<'_>) -> Result<Value, Failure> {
    let mut text = Vec::new();
    output.json(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| Failure::runtime(&error.to_string()))
}
