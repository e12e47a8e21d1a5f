//! Which headers may be set.

use http::{HeaderName, HeaderValue};

/// A header may not be set, or not to this value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header `{name}` {problem}")]
pub struct HeaderError {
    /// The name as it was given, shortened.
    pub name: String,
    /// What is wrong; never the value, which may be a secret.
    pub problem: &'static str,
}

/// Follow from the request itself; setting them by hand breaks the framing or the routing.
const FRAMING: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The longest value of a header: servers refuse about 8 KiB of headers in all.
const VALUE_BYTES_MAX: usize = 4096;

/// Checks a header of our own: a name that is a token and neither frames nor routes the request, and a value that is
/// visible ASCII, spaces and tabs, so that it can neither end the header nor begin another.
pub fn own_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let refuse = |problem| HeaderError { name: name.chars().take(64).collect(), problem };
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refuse("is not a header name: use letters, digits and `-`"))?;
    if FRAMING.contains(&parsed.as_str()) {
        return Err(refuse("is set by the hub and cannot be set here"));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(refuse("is longer than 4,096 bytes"));
    }
    // A space at either end is none of the value by the standard, so that receivers would see another value.
    let value = value.trim_matches([' ', '\t']);
    // `HeaderValue` lets every byte from 0x80 through; some receivers refuse them, others read them as Latin-1.
    if !value.is_ascii() {
        return Err(refuse("holds letters beyond ASCII: percent-encode them, as in `${.name | @uri}`"));
    }
    let value = HeaderValue::from_str(value)
        .map_err(|_| refuse("holds a line break or another character that a header cannot hold"))?;
    Ok((parsed, value))
}

/// The same for a value that must stay out of logs and debug output.
pub fn secret_value(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let (name, mut value) = own_header(name, value)?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_and_routing_headers_cannot_be_set() {
        for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "TE", "upgrade", "Expect"] {
            let error = own_header(name, "x").unwrap_err();
            assert_eq!(error.problem, "is set by the hub and cannot be set here", "{name}");
        }
    }

    #[test]
    fn a_value_cannot_end_its_header() {
        for value in ["a\r\nx: y", "a\nb", "a\rb", "a\0b", "\u{7f}"] {
            assert!(own_header("x-note", value).is_err(), "{value:?}");
        }
        for name in ["", "x y", "x:y", "x\r\n", "ü", "x\0"] {
            assert!(own_header(name, "v").is_err(), "{name:?}");
        }
    }

    #[test]
    fn letters_beyond_ascii_are_refused_with_the_way_out() {
        for value in ["Müller", "a\u{80}", "€", "\u{a0}"] {
            let error = own_header("x-name", value).unwrap_err();
            assert!(error.problem.contains("@uri"), "{value:?}: {error}");
        }
        assert_eq!(own_header("x-name", "M%C3%BCller ~!\t").unwrap().1, "M%C3%BCller ~!");
    }

    #[test]
    fn an_error_never_shows_the_value() {
        let error = own_header("x-note", "s3cret\n").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
