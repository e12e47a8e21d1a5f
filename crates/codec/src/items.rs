//! The items of a JSON list, in order, untouched.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The most events of one request: each costs memory and an answer of its own, however short it is.
const EVENTS_MAX: usize = 10_000;

/// What a list with more of them does.
pub(crate) const TOO_MANY: &str = "holds more than 10,000 events; send them in several requests";

/// The items of a list: slices of the text. What follows the largest number of events is not read.
pub(crate) struct Items<'a>(pub(crate) Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == EVENTS_MAX {
                return Err(A::Error::custom(TOO_MANY));
            }
            items.push(item);
        }
        Ok(Items(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(json: &str) -> Result<usize, serde_json::Error> {
        serde_json::from_str(json).map(|Items(items)| items.len())
    }

    #[test]
    fn a_list_has_so_many_items_and_not_one_more() {
        let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
        assert_eq!(count(&list(EVENTS_MAX)).unwrap(), 10_000);
        let error = count(&list(EVENTS_MAX + 1)).unwrap_err();
        assert!(error.is_data() && error.to_string().starts_with(TOO_MANY), "{error}");
        assert_eq!(count("[]").unwrap(), 0);
    }

    #[test]
    fn what_is_no_json_is_no_question_of_its_number() {
        for broken in ["[", "[{]", "[1,]", "[1] 2", "[\"\u{1}\"]"] {
            assert!(!count(broken).unwrap_err().is_data(), "{broken}");
        }
    }
}
