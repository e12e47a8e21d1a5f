//! What a terminal does with text.

/// Whether a terminal obeys this character instead of drawing it, writes what follows it in another direction, or begins a
/// new line with it. Text from outside is shown without such characters: an event's id or a vendor's message may hold any.
pub fn is_obeyed(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    );
    turns || character.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_told_from_what_is_read() {
        for obeyed in "\u{1b}\r\n\t\u{7f}\u{9b}\u{61c}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}".chars() {
            assert!(is_obeyed(obeyed), "{obeyed:?}");
        }
        for read in "a é😀\u{200d}\u{2027}\u{202f}م".chars() {
            assert!(!is_obeyed(read), "{read:?}");
        }
    }
}
