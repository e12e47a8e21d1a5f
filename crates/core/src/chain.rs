//! Errors as logs print them.

use std::{error::Error, fmt::Write as _};

/// An error with its causes, outermost first: `reading the journal: disk I/O error`. A cause that its effect has printed
/// already is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a `String` cannot fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreError;

    #[test]
    fn every_cause_is_printed_once() {
        let source = "the disk is full".into();
        let error = StoreError::Unavailable { doing: "saving a letter", source };
        assert_eq!(chain(&error), "the store is not available while saving a letter: the disk is full");
        assert_eq!(chain(&StoreError::Conflict("it is over".to_owned())), "it is over");
    }
}
