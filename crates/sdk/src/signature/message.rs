//! What is signed: text with names in braces.

use serde::{Deserialize, Deserializer, de::Error as _};

/// What is signed, in parts, so that the body is hashed where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

impl Message {
    /// The names that every recipe may use.
    pub(super) const BUILT_IN: [&'static str; 5] = ["body", "method", "url", "url_decoded", "secret"];

    /// The body alone.
    pub(super) fn body() -> Self {
        Self(vec![Part::Name("body".to_owned())])
    }

    /// Reads text with names in braces; there is no way to write a literal brace, since no vendor signs one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a `{` is not closed")?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                return Err(format!("`{{{name}}}` is not a name: use a-z and _"));
            }
            parts.extend(text_part(before)?);
            parts.push(Part::Name(name.to_owned()));
            rest = after;
        }
        parts.extend(text_part(rest)?);
        Ok(Self(parts))
    }

    /// The names that are used.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Hands every part to `update`, with names looked up. `Err` is the name that has no value.
    pub(super) fn feed<'a, 'v>(
        &'a self,
        lookup: impl Fn(&str) -> Option<std::borrow::Cow<'v, [u8]>>,
        mut update: impl FnMut(&[u8]),
    ) -> Result<(), &'a str> {
        for part in &self.0 {
            match part {
                Part::Text(text) => update(text.as_bytes()),
                Part::Name(name) => update(&lookup(name).ok_or(name.as_str())?),
            }
        }
        Ok(())
    }
}

fn text_part(text: &str) -> Result<Option<Part>, String> {
    if text.contains('}') {
        return Err("a `}` has no `{`".to_owned());
    }
    Ok((!text.is_empty()).then(|| Part::Text(text.to_owned())))
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
