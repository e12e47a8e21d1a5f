//! Refusals: what is wrong, and where.

use crossdock_core::{Malformed, is_obeyed};

/// A problem of the request, or of one event, as a whole.
pub(crate) fn whole(what: impl AsRef<str>) -> Malformed {
    Malformed { pointer: String::new(), message: format!("the body {}", what.as_ref()) }
}

/// A refusal of one member.
pub(crate) fn refuse(name: &str, what: impl AsRef<str>) -> Malformed {
    const SHOWN_MAX: usize = 64;
    let shown: String =
        name.chars().take(SHOWN_MAX).map(|c| if is_obeyed(c) { '\u{FFFD}' } else { c }).collect();
    let pointer = format!("/{}", shown.replace('~', "~0").replace('/', "~1"));
    Malformed { pointer, message: format!("the attribute `{shown}` {}", what.as_ref()) }
}
