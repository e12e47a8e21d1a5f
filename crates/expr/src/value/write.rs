//! Values as JSON text.

use std::fmt;
use std::io::Write;

use jaq_json::Num;

use super::Val;
use crate::limits;

/// A value contains NaN or an infinity, which JSON cannot write.
#[derive(Debug)]
pub(crate) struct NotFinite;

impl Val {
    /// Append the value as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), NotFinite> {
        if self.put(out) { Ok(()) } else { Err(NotFinite) }
    }

    /// The value as jaq's `tojson` gives it: NaN and infinities by name.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        limits::work(out.len() as u64);
        out
    }

    /// Append the value, and tell whether what was written is JSON.
    fn put(&self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Num(number) => return put_number(number, out),
            Self::Str(text) => put_string(text, out),
            Self::Arr(array) => {
                let items = array.items.iter().map(|item| (None, item));
                return put_container(b'[', items, b']', out);
            }
            Self::Obj(object) => {
                let fields = object.fields.iter().map(|(key, value)| (Some(&key[..]), value));
                return put_container(b'{', fields, b'}', out);
            }
        }
        true
    }
}

fn put_number(number: &Num, out: &mut Vec<u8>) -> bool {
    write!(out, "{number}").expect("a vector takes any text");
    !matches!(number, Num::Float(float) if !float.is_finite())
}

/// Append a string. What is not UTF-8 in it becomes U+FFFD.
fn put_string(text: &[u8], out: &mut Vec<u8>) {
    serde_json::to_writer(out, &String::from_utf8_lossy(text)).expect("a vector takes any text");
}

fn put_container<'a>(
    open: u8,
    children: impl Iterator<Item = (Option<&'a [u8]>, &'a Val)>,
    close: u8,
    out: &mut Vec<u8>,
) -> bool {
    let mut is_json = true;
    out.push(open);
    for (position, (key, value)) in children.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        if let Some(key) = key {
            put_string(key, out);
            out.push(b':');
        }
        is_json &= value.put(out);
    }
    out.push(close);
    is_json
}

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_json()))
    }
}
