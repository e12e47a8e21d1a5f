//! One text, or several of which the first that has a value counts.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// One text, or several of which the first that has a value counts.
#[derive(Debug)]
pub enum Texts {
    /// A text; its place is that of the whole.
    One(String),
    /// Several, each with its place.
    Several(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                if texts.is_empty() {
                    Err(A::Error::custom("the list is empty"))
                } else {
                    Ok(Texts::Several(texts))
                }
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}
