//! What a program gives: a value of the document, left as text, or one that jq made.

use crate::Failure;
use crate::condition::is_true;
use crate::outline::{Kind, Node};
use crate::value::Val;

/// One output of a program.
#[derive(Debug)]
pub(crate) enum Output<'a> {
    Null,
    Bool(bool),
    Node(Node<'a>),
    Value(Val),
}

impl Output<'_> {
    /// Whether jq takes this for true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Node(node) => is_true(*node),
            Self::Value(value) => value.is_true(),
        }
    }

    /// Append the output as JSON; a value of the document to the letter.
    pub(crate) fn json(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Node(node) => out.extend_from_slice(node.raw()),
            Self::Value(value) => value.write(out).map_err(|_| {
                Failure::runtime("the result contains NaN or an infinite number, which JSON cannot write")
            })?,
        }
        Ok(())
    }

    /// The output as text: a string's content, a number or boolean as in JSON. `None` for null.
    pub(crate) fn text(&self) -> Result<Option<String>, Failure> {
        match self {
            Self::Null | Self::Value(Val::Null) => Ok(None),
            Self::Bool(value) => Ok(Some(value.to_string())),
            Self::Node(node) => match node.kind() {
                Kind::Null => Ok(None),
                Kind::String => Ok(Some(node.string().into_owned())),
                Kind::Bool | Kind::Number => Ok(Some(node.raw_str().to_owned())),
                Kind::Array => Err(Failure::NotText { found: "an array" }),
                Kind::Object => Err(Failure::NotText { found: "an object" }),
            },
            Self::Value(Val::Str(text)) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
            Self::Value(Val::Arr(_)) => Err(Failure::NotText { found: "an array" }),
            Self::Value(Val::Obj(_)) => Err(Failure::NotText { found: "an object" }),
            Self::Value(Val::Bool(_) | Val::Num(_)) => {
                let mut text = Vec::new();
                self.json(&mut text)?;
                Ok(Some(String::from_utf8_lossy(&text).into_owned()))
            }
        }
    }
}
