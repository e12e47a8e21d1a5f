//! The values that jq programs compute with.
//!
//! jaq leaves the type of values to its user. `jaq_json::Val` would do, but nothing bounds it: `[., .]` forty times over is
//! a value of forty cells that takes 2⁴⁰ to print or compare, and `[.]` ninety thousand times over overflows the stack when
//! it is dropped. This one carries its size and depth, and refuses to be built past [`VALUE_BYTES_MAX`] and [`DEPTH_MAX`].
//! So every recursion over it ends soon, and needs no check of its own. Otherwise it behaves as `jaq_json::Val` does, whose
//! numbers it uses; two things that JSON cannot write are left out: byte strings, and keys that are not strings.

mod access;
mod arithmetic;
mod builtin;
mod order;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use jaq_json::Num;

use crate::Limit;
use crate::limits::{self, VALUE_BYTES_MAX};
use crate::outline::{DEPTH_MAX, Kind, Node};

/// What an item of an array or object costs to make, beside itself.
const ITEM_BYTES: u64 = 64;

/// Longest integer that is kept as one, in digits. A longer one keeps its text but computes as a float, because
/// arithmetic on integers takes time that is quadratic in their length.
const INTEGER_DIGITS_MAX: usize = 400;

type Error = jaq_core::Error<Val>;

/// A JSON value within a jq program.
#[derive(Debug, Clone, Default)]
pub(crate) enum Val {
    #[default]
    Null,
    Bool(bool),
    Num(Num),
    /// Text. Meant to be UTF-8; `@base64d` and slices by a program can make it otherwise, then it is written with U+FFFD.
    Str(Bytes),
    Arr(Arc<Array>),
    Obj(Arc<Object>),
}

pub(crate) type Fields = IndexMap<Bytes, Val>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Array {
    items: Vec<Val>,
    shape: Shape,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    fields: Fields,
    shape: Shape,
}

/// How large and how deep a value is; for containers that were changed in place, at most.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    /// About the length of its JSON text.
    bytes: u64,
    depth: usize,
}

impl Shape {
    fn add(&mut self, key_bytes: usize, child: Shape) {
        self.bytes += child.bytes + key_bytes as u64 + 2;
        self.depth = self.depth.max(child.depth + 1);
    }

    fn replace(&mut self, before: Shape, after: Shape) {
        self.bytes = self.bytes.saturating_sub(before.bytes) + after.bytes;
        self.depth = self.depth.max(after.depth + 1);
    }

    fn remove(&mut self, before: Shape) {
        self.bytes = self.bytes.saturating_sub(before.bytes);
    }

    fn allowed(self) -> bool {
        if self.depth > DEPTH_MAX {
            limits::pass(Limit::Depth);
        } else if self.bytes > VALUE_BYTES_MAX {
            limits::pass(Limit::Work);
        }
        self.depth <= DEPTH_MAX && self.bytes <= VALUE_BYTES_MAX
    }
}

impl Array {
    fn new(items: Vec<Val>) -> Self {
        let mut shape = Shape { bytes: 2, depth: 1 };
        items.iter().for_each(|item| shape.add(0, item.shape()));
        Self { items, shape }
    }
}

impl Object {
    fn new(fields: Fields) -> Self {
        let mut shape = Shape { bytes: 2, depth: 1 };
        fields.iter().for_each(|(key, value)| shape.add(key.len(), value.shape()));
        Self { fields, shape }
    }

    fn insert(&mut self, key: Bytes, value: Val) {
        let (key_bytes, after) = (key.len(), value.shape());
        match self.fields.insert(key, value) {
            Some(before) => self.shape.replace(before.shape(), after),
            None => self.shape.add(key_bytes, after),
        }
    }
}

impl Val {
    /// The value at a node of a document. Strings share the document's memory where they can.
    pub(crate) fn read(node: Node<'_>, text: &Bytes) -> Self {
        match node.kind() {
            Kind::Null => Self::Null,
            Kind::Bool => Self::Bool(node.raw() == b"true"),
            Kind::Number => Self::Num(number(node.raw_str())),
            Kind::String => Self::Str(read_string(node, text)),
            Kind::Array => Self::array(node.items().map(|item| Self::read(item, text)).collect()),
            Kind::Object => {
                let field = |(key, value)| (read_string(key, text), Self::read(value, text));
                Self::object(node.fields().map(field).collect())
            }
        }
    }

    pub(crate) fn string(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        if limits::work(text.len() as u64) && Self::Str(text.clone()).shape().allowed() {
            return Self::Str(text);
        }
        Self::Null
    }

    /// An array; null if it is too large or too deep, which also ends the program.
    fn array(items: Vec<Val>) -> Self {
        let array = Array::new(items);
        if array.shape.allowed() { Self::Arr(Arc::new(array)) } else { Self::Null }
    }

    /// An object; null if it is too large or too deep, which also ends the program.
    fn object(fields: Fields) -> Self {
        let object = Object::new(fields);
        if object.shape.allowed() { Self::Obj(Arc::new(object)) } else { Self::Null }
    }

    fn shape(&self) -> Shape {
        match self {
            Self::Null | Self::Bool(_) => Shape { bytes: 4, depth: 0 },
            Self::Num(Num::Dec(text)) => Shape { bytes: text.len() as u64, depth: 0 },
            Self::Num(Num::BigInt(integer)) => Shape { bytes: integer.bits() / 3, depth: 0 },
            Self::Num(_) => Shape { bytes: 4, depth: 0 },
            Self::Str(text) => Shape { bytes: text.len() as u64 + 2, depth: 0 },
            Self::Arr(array) => array.shape,
            Self::Obj(object) => object.shape,
        }
    }

    /// This value, changed in place, if it is still small and shallow enough.
    fn checked<E: From<Error>>(self) -> Result<Self, E> {
        if self.shape().allowed() { Ok(self) } else { Err(stopped().into()) }
    }

    fn as_number(&self) -> Option<&Num> {
        match self {
            Self::Num(number) => Some(number),
            _ => None,
        }
    }

    fn into_array(self) -> Result<Arc<Array>, Error> {
        match self {
            Self::Arr(array) => Ok(array),
            other => Err(Error::typ(other, "array")),
        }
    }

    fn as_array(&self) -> Result<&[Val], Error> {
        match self {
            Self::Arr(array) => Ok(&array.items),
            other => Err(Error::typ(other.clone(), "array")),
        }
    }

    pub(crate) fn as_text(&self) -> Result<&Bytes, Error> {
        match self {
            Self::Str(text) => Ok(text),
            other => Err(Error::typ(other.clone(), "string")),
        }
    }

    /// Whether this is neither null nor false.
    pub(crate) fn is_true(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }
}

/// The number with this JSON (or jq) text: an integer exactly, anything else with its text.
pub(crate) fn number(text: &str) -> Num {
    let integer = text.len() <= INTEGER_DIGITS_MAX && !text.contains(['.', 'e', 'E']);
    integer
        .then(|| Num::from_str_radix(text, 10))
        .flatten()
        .unwrap_or_else(|| Num::Dec(text.to_owned().into()))
}

fn read_string(node: Node<'_>, text: &Bytes) -> Bytes {
    match node.string() {
        std::borrow::Cow::Borrowed(part) => text.slice_ref(part.as_bytes()),
        std::borrow::Cow::Owned(whole) => Bytes::from(whole),
    }
}

/// The error for an operation that may not go on because a limit is passed. Whoever catches it is ended at the next step.
pub(crate) fn stopped() -> Error {
    Error::new(Val::Null)
}

impl From<bool> for Val {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<isize> for Val {
    fn from(value: isize) -> Self {
        Self::Num(Num::Int(value))
    }
}

impl From<usize> for Val {
    fn from(value: usize) -> Self {
        Self::Num(Num::from_integral(value))
    }
}

impl From<f64> for Val {
    fn from(value: f64) -> Self {
        Self::Num(Num::Float(value))
    }
}

impl From<String> for Val {
    fn from(text: String) -> Self {
        Self::string(text)
    }
}

impl From<jaq_core::val::Range<Val>> for Val {
    fn from(range: jaq_core::val::Range<Val>) -> Self {
        let field =
            |(key, value): (&'static str, Option<Val>)| Some((Bytes::from_static(key.as_bytes()), value?));
        Self::object([("start", range.start), ("end", range.end)].into_iter().filter_map(field).collect())
    }
}

impl FromIterator<Val> for Val {
    fn from_iter<I: IntoIterator<Item = Val>>(values: I) -> Self {
        let mut items = Vec::new();
        for value in values {
            if !limits::work(ITEM_BYTES) {
                break;
            }
            items.push(value);
        }
        Self::array(items)
    }
}

impl jaq_std::ValT for Val {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self {
            Self::Arr(array) if limits::work(array.items.len() as u64 * ITEM_BYTES) => {
                Ok(Arc::unwrap_or_clone(array).items.into_iter().collect())
            }
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self, Self::Num(Num::Int(_) | Num::BigInt(_)))
    }

    fn as_isize(&self) -> Option<isize> {
        self.as_number().and_then(Num::as_isize)
    }

    fn as_f64(&self) -> Option<f64> {
        match self.as_number()?.clone() * Num::Float(1.0) {
            Num::Float(float) => Some(float),
            _ => None,
        }
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Self::Str(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    fn as_sub_str(&self, part: &[u8]) -> Self {
        match self {
            Self::Str(text) => Self::Str(text.slice_ref(part)),
            _ => Self::Null,
        }
    }

    fn from_utf8_bytes(text: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::string(Bytes::from_owner(text))
    }
}
