//! `map:`: a JSON-like tree whose strings are templates, or one program.

use serde_json::Value;

use crate::{CompileError, Document, EvalError, Program, Scope, Template, Variables};

/// A JSON-like tree whose strings are templates (object keys are literal), or one program. Built node by node by a reader
/// that knows the place of each string, or at once by [`Tree::compile`].
#[derive(Debug)]
pub struct Tree(());

/// A string of a tree that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to compile the text at `{pointer}`")]
pub struct TreeError {
    /// The place of the string in the tree, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong; its span is within that string.
    #[source]
    pub error: CompileError,
}

impl Tree {
    /// Compile a whole tree.
    pub fn compile(_value: &Value, _scope: &Scope) -> Result<Self, TreeError> {
        Ok(Self(()))
    }

    /// A tree that is one program: the first output is the result.
    pub fn program(_program: Program) -> Self {
        Self(())
    }

    /// A string of the tree.
    pub fn template(_template: Template) -> Self {
        Self(())
    }

    /// A value in which nothing is inserted, whatever its strings contain.
    pub fn literal(_value: &Value) -> Self {
        Self(())
    }

    /// An array.
    pub fn array(_items: Vec<Tree>) -> Self {
        Self(())
    }

    /// An object. Keys are written in this order, as they are.
    pub fn object(_fields: Vec<(String, Tree)>) -> Self {
        Self(())
    }

    /// Append the result as JSON.
    pub fn json(
        &self,
        _input: &Document,
        _vars: &Variables<'_>,
        _out: &mut Vec<u8>,
    ) -> Result<(), EvalError> {
        Ok(())
    }
}
