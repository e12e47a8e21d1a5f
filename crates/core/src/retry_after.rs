//! `Retry-After`, read strictly.

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use std::time::Duration;

use crate::Wait;

/// Reads a `Retry-After` value: whole seconds or an HTTP date (RFC 9110 §10.2.3).
///
/// Anything else (negative, fractional, longer than ten digits, a bad date) is `None`, and the schedule decides.
/// The caller clamps: [`crate::RetryPolicy`] never waits longer than its `wait_max`.
pub fn parse_retry_after(value: &str) -> Option<Wait> {
    let value = value.trim();
    if value.len() <= 10 && !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return value.parse().ok().map(|seconds| Wait::For(Duration::from_secs(seconds)));
    }
    if value.len() > 64 {
        return None;
    }
    let zoned = DateTimeParser::new().parse_zoned(value).ok()?;
    Some(Wait::Until(Timestamp::from(&zoned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        assert_eq!(parse_retry_after("120"), Some(Wait::For(Duration::from_secs(120))));
        let date = parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT").expect("an HTTP date");
        assert_eq!(date, Wait::Until("1999-12-31T23:59:59Z".parse().expect("a timestamp")));
    }

    #[test]
    fn absurd_values_are_ignored() {
        for value in [
            "",
            "-1",
            "1.5",
            "soon",
            "99999999999",
            "1e9",
            "٣",
            "Fri, 99 Dec 1999 23:59:59 GMT",
            &"9".repeat(400),
        ] {
            assert_eq!(parse_retry_after(value), None, "{value}");
        }
    }
}
