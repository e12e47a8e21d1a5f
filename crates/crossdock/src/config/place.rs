//! From a place inside a scalar's text to the place in the file.

use super::yaml::Span;

/// The place in the file of a range of the text of a scalar that stands at `scalar`.
///
/// Exact for plain, quoted and block scalars, over line breaks and the usual escapes. Where the text cannot be found in the
/// file character by character (`\u` escapes), it is the whole scalar.
pub fn within(file: &str, scalar: &Span, text: &str, inner: &Span) -> Span {
    let Some(written) = file.get(scalar.clone()) else { return scalar.clone() };
    let Some(places) = align(written, text) else { return scalar.clone() };
    let at =
        |byte: usize| places.get(byte).or(places.last()).map_or(scalar.end, |place| scalar.start + place);
    at(inner.start)..at(inner.end).max(at(inner.start))
}

/// For each byte of `text`, and for its end, the byte of `written` that it comes from.
fn align(written: &str, text: &str) -> Option<Vec<usize>> {
    let mut places = Vec::with_capacity(text.len() + 1);
    let mut at = opening(written);
    let double = written.starts_with('"');
    for character in text.chars() {
        at = advance(written, at, character, double)?;
        let (taken, found) = read(&written[at..], character, double)?;
        if found != character && !character.is_whitespace() {
            return None;
        }
        places.extend(std::iter::repeat_n(at, character.len_utf8()));
        at += taken;
    }
    places.push(at);
    Some(places)
}

/// The bytes before the text begins: a quote, or the header of a block.
fn opening(written: &str) -> usize {
    match written.as_bytes().first() {
        Some(b'"' | b'\'') => 1,
        Some(b'|' | b'>') => written.find('\n').map_or(written.len(), |end| end + 1),
        _ => 0,
    }
}

/// Skips what stands in the file and not in the text before this character: indentation, folded line breaks.
fn advance(written: &str, mut at: usize, character: char, double: bool) -> Option<usize> {
    if character.is_whitespace() {
        return (at < written.len()).then_some(at);
    }
    loop {
        let rest = written.get(at..)?;
        let next = rest.chars().next()?;
        if next.is_whitespace() {
            at += next.len_utf8();
        } else if double && (rest.starts_with("\\\n") || rest.starts_with("\\\r\n")) {
            at += 1;
        } else {
            return Some(at);
        }
    }
}

/// The bytes of the next written character and what it stands for.
fn read(rest: &str, wanted: char, double: bool) -> Option<(usize, char)> {
    let mut characters = rest.chars();
    let first = characters.next()?;
    if double && first == '\\' {
        let escaped = match characters.next()? {
            'n' => '\n',
            't' => '\t',
            other @ ('"' | '\\' | '/' | ' ') => other,
            _ => return None,
        };
        return Some((2, escaped));
    }
    if first == '\'' && wanted == '\'' && rest.starts_with("''") {
        return Some((2, first));
    }
    if wanted.is_whitespace() && !first.is_whitespace() {
        return None;
    }
    Some((first.len_utf8(), first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::yaml, *};

    /// Marks in the file what a marker in the only scalar's text points to.
    fn found(file: &str, wanted: &str) -> String {
        let (tree, _) = yaml::parse(file);
        let yaml::Value::Map(entries) = tree.expect("YAML").value else { panic!("a map") };
        let yaml::Value::Scalar { text, .. } = &entries[0].node.value else { panic!("a scalar") };
        let at = text.find(wanted).expect("the text holds it");
        let place = within(file, &entries[0].node.span, text, &(at..at + wanted.len()));
        format!("{}«{}»", &file[..place.start], &file[place])
    }

    #[test]
    fn plain_and_quoted_text_is_found_to_the_character() {
        assert_eq!(found("k: .a == $evnt # note\n", "$evnt"), "k: .a == «$evnt»");
        assert_eq!(found("k: \".a == $evnt\"\n", "$evnt"), "k: \".a == «$evnt»");
        assert_eq!(found("k: 'it''s $evnt'\n", "$evnt"), "k: 'it''s «$evnt»");
        assert_eq!(found("k: \"\\\"ä\\\" == $evnt\"\n", "$evnt"), "k: \"\\\"ä\\\" == «$evnt»");
    }

    #[test]
    fn block_and_folded_text_is_found_to_the_character() {
        assert_eq!(found("k: |\n  .a\n    | $evnt\n  | .b\n", "$evnt"), "k: |\n  .a\n    | «$evnt»");
        assert_eq!(found("k: >-\n  .a ==\n  $evnt\n", "$evnt"), "k: >-\n  .a ==\n  «$evnt»");
        assert_eq!(found("k: .a ==\n  $evnt\n", "$evnt"), "k: .a ==\n  «$evnt»");
    }

    proptest! {
        #[test]
        fn any_text_has_a_place_inside_the_file(
            written in "[a-z'\"\\\\ \n|>äé]{0,40}", text in "[a-z'\" \nä]{0,40}", start in 0usize..40, length in 0usize..40,
        ) {
            let place = within(&written, &(0..written.len()), &text, &(start..start + length));
            prop_assert!(place.start <= place.end && place.end <= written.len());
        }
    }
}
