//! Text from outside, made safe for a terminal. An event's id or a vendor's message may hold characters that a terminal
//! obeys, or that turn what stands around them.

pub use crossdock_core::is_obeyed;

/// The same text in one line: line ends and tabs are spaces, what a terminal obeys is a mark.
pub fn line(text: &str) -> String {
    text.chars().map(|character| if is_obeyed(character) { stand_in(character) } else { character }).collect()
}

/// The same text with its lines.
pub fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn stand_in(character: char) -> char {
    if character.is_whitespace() { ' ' } else { '\u{FFFD}' }
}

/// The same JSON: what a terminal obeys is written as `\u…`, which stands for the same character.
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        // Below a space, JSON has only line ends and tabs, between its values.
        if is_obeyed(character) && character > ' ' {
            safe.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json as value};

    use super::*;

    const WILD: &str = "a\u{1b}[2J\r\n\tb\u{9b}31m\u{202e}c\u{2028}d\u{7f}é😀";

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(line(WILD), "a\u{FFFD}[2J   b\u{FFFD}31m\u{FFFD}c d\u{FFFD}é😀");
        assert_eq!(lines("a\u{7}\nb"), "a\u{FFFD}\nb");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let text = serde_json::to_string_pretty(&value!({ "id": WILD })).unwrap();
        let safe = json(&text);
        assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), value!({ "id": WILD }));
        assert!(!safe.chars().any(|character| is_obeyed(character) && character != '\n'), "{safe}");
    }
}
