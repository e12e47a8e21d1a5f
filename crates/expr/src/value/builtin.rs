//! The built-in functions that look into values: `length`, `has`, `contains`, `indices`, `bsearch`.

use jaq_json::Num;

use super::{Error, Val};
use crate::limits;

impl Val {
    /// 0 for null, the absolute value of a number, the length of anything else; a boolean has none.
    pub(crate) fn length(&self) -> Result<Val, Error> {
        match self {
            Self::Null => Ok(Self::from(0_usize)),
            Self::Num(Num::Dec(text)) => Self::Num(Num::from_dec_str(text)).length(),
            Self::Num(number) if *number < Num::Int(0) => Ok(Self::Num(-number.clone())),
            Self::Num(number) => Ok(Self::Num(number.clone())),
            Self::Str(text) => Ok(Self::from(String::from_utf8_lossy(text).chars().count())),
            Self::Arr(array) => Ok(Self::from(array.items.len())),
            Self::Obj(object) => Ok(Self::from(object.fields.len())),
            Self::Bool(_) => Err(Error::str(format_args!("{self} has no length"))),
        }
    }

    /// Whether `other` is within this: a part of a string, an array whose items are each contained in one of these, an
    /// object whose values are contained in those of the same keys, or the same.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        if !limits::work(16) {
            return false;
        }
        match (self, other) {
            (Self::Str(whole), Self::Str(part)) => {
                find(&String::from_utf8_lossy(whole), &String::from_utf8_lossy(part)).is_some()
            }
            (Self::Arr(whole), Self::Arr(part)) => {
                part.items.iter().all(|part| whole.items.iter().any(|whole| whole.contains(part)))
            }
            (Self::Obj(whole), Self::Obj(part)) => part
                .fields
                .iter()
                .all(|(key, part)| whole.fields.get(key).is_some_and(|whole| whole.contains(part))),
            _ => self == other,
        }
    }

    /// Where `part` occurs: in an array as an item, or as a run of items if it is an array; in a string, in characters.
    pub(crate) fn indices(&self, part: &Self) -> Result<Vec<usize>, Error> {
        match (self, part) {
            (Self::Str(_), Self::Str(part)) if part.is_empty() => Ok(Vec::new()),
            (Self::Arr(_), Self::Arr(part)) if part.items.is_empty() => Ok(Vec::new()),
            (Self::Str(whole), Self::Str(part)) => Ok(text_indices(whole, part)),
            (Self::Arr(whole), Self::Arr(part)) => {
                let runs = whole.items.windows(part.items.len()).enumerate();
                let same = |run: &[Val]| limits::work(16) && run == part.items;
                Ok(runs.filter(|(_, run)| same(run)).map(|(position, _)| position).collect())
            }
            (Self::Arr(whole), part) => {
                let items = whole.items.iter().enumerate();
                Ok(items.filter(|(_, item)| *item == part).map(|(position, _)| position).collect())
            }
            (whole, part) => Err(Error::index(whole.clone(), part.clone())),
        }
    }

    /// The position of `item` in a sorted array, or `-1 - position` of where it would stand.
    pub(crate) fn search(&self, item: &Self) -> Result<Val, Error> {
        let position = match self.as_array()?.binary_search(item) {
            Ok(position) => position as isize,
            Err(position) => -1 - position as isize,
        };
        Ok(Self::from(position))
    }
}

/// Every occurrence, overlapping ones too, counted in characters.
fn text_indices(whole: &[u8], part: &[u8]) -> Vec<usize> {
    let (whole, part) = (String::from_utf8_lossy(whole), String::from_utf8_lossy(part));
    let mut found = Vec::new();
    let (mut rest, mut characters) = (&*whole, 0);
    while let Some(start) = find(rest, &part) {
        characters += rest[..start].chars().count();
        found.push(characters);
        let mut after = rest[start..].chars();
        characters += after.by_ref().take(1).count();
        rest = after.as_str();
    }
    found
}

/// The first occurrence, in time linear in what is searched; nothing once the program must end.
fn find(whole: &str, part: &str) -> Option<usize> {
    let start = if limits::work(part.len() as u64 + 16) { whole.find(part) } else { None };
    limits::work(start.unwrap_or(whole.len()) as u64);
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Val {
        Val::string(text)
    }

    #[test]
    fn indices_of_text_are_counted_in_characters_and_overlap() {
        assert_eq!(text("aéaéa").indices(&text("éa")).ok(), Some(vec![1, 3]));
        assert_eq!(text("aaaa").indices(&text("aa")).ok(), Some(vec![0, 1, 2]));
        assert_eq!(text("a").indices(&text("")).ok(), Some(vec![]));
    }

    #[test]
    fn contains_looks_into_containers() {
        let array = |items: &[&'static str]| items.iter().map(|item| text(item)).collect::<Val>();
        assert!(array(&["foobar", "baz"]).contains(&array(&["bar"])));
        assert!(!array(&["foobar"]).contains(&array(&["bar", "baz"])));
    }
}
