//! `map:`: a JSON-like tree whose strings are templates, or one program.

use serde_json::Value;

use crate::{CompileError, Document, EvalError, Program, Scope, Template, Variables};

/// A JSON-like tree whose strings are templates (object keys are literal), or one program. Built node by node by a reader
/// that knows the place of each string, or at once by [`Tree::compile`].
#[derive(Debug)]
pub struct Tree(Node);

#[derive(Debug)]
enum Node {
    Program(Program),
    Template(Template),
    /// JSON text.
    Literal(String),
    Array(Vec<Tree>),
    /// Keys as JSON text, with the colon.
    Object(Vec<(String, Tree)>),
}

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
    /// Compile a whole tree. Of several errors the first in reading order is given.
    pub fn compile(value: &Value, scope: &Scope) -> Result<Self, TreeError> {
        compile(value, scope, &mut String::new())
    }

    /// A tree that is one program: its first output is the result.
    pub fn program(program: Program) -> Self {
        Self(Node::Program(program))
    }

    /// A string of the tree.
    pub fn template(template: Template) -> Self {
        Self(Node::Template(template))
    }

    /// A value in which nothing is inserted, whatever its strings contain.
    pub fn literal(value: &Value) -> Self {
        Self(Node::Literal(value.to_string()))
    }

    /// An array.
    pub fn array(items: Vec<Tree>) -> Self {
        Self(Node::Array(items))
    }

    /// An object. Keys are written in this order, as they are.
    pub fn object(fields: Vec<(String, Tree)>) -> Self {
        let key = |key: String| format!("{}:", Value::String(key));
        Self(Node::Object(fields.into_iter().map(|(name, tree)| (key(name), tree)).collect()))
    }

    /// Append the result as JSON. After an error `out` holds a part of it.
    pub fn json(&self, input: &Document, vars: &Variables<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        match &self.0 {
            Node::Program(program) => program.json(input, vars, out)?,
            Node::Template(template) => template.json(input, vars, out)?,
            Node::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Node::Array(items) => {
                out.push(b'[');
                for (position, item) in items.iter().enumerate() {
                    out.extend_from_slice(if position == 0 { b"" } else { b"," });
                    item.json(input, vars, out)?;
                }
                out.push(b']');
            }
            Node::Object(fields) => {
                out.push(b'{');
                for (position, (key, tree)) in fields.iter().enumerate() {
                    out.extend_from_slice(if position == 0 { b"" } else { b"," });
                    out.extend_from_slice(key.as_bytes());
                    tree.json(input, vars, out)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }
}

/// Compile the value that stands at `pointer`.
fn compile(value: &Value, scope: &Scope, pointer: &mut String) -> Result<Tree, TreeError> {
    match value {
        Value::String(text) => {
            let error = |error| TreeError { pointer: pointer.clone(), error };
            Template::compile(text, scope).map(Tree::template).map_err(error)
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(position, item)| below(&position.to_string(), item, scope, pointer));
            items.collect::<Result<_, _>>().map(Tree::array)
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, _)| Ok((key.clone(), below(key, value, scope, pointer)?));
            fields.iter().map(field).collect::<Result<_, _>>().map(Tree::object)
        }
        scalar => Ok(Tree::literal(scalar)),
    }
}

fn below(key: &str, value: &Value, scope: &Scope, pointer: &mut String) -> Result<Tree, TreeError> {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    let tree = compile(value, scope, pointer)?;
    pointer.truncate(length);
    Ok(tree)
}
