//! `Retry-After`, read strictly.

use std::time::Duration;

use jiff::{
    Timestamp,
    fmt::{rfc2822::DateTimeParser, strtime::BrokenDownTime},
    tz::TimeZone,
};

use crate::Wait;

/// The longest date that is looked at; the longest of the three forms has 33 characters.
const DATE_BYTES_MAX: usize = 64;

/// Reads a `Retry-After` value: whole seconds or an HTTP date in any of its three forms (RFC 9110 §10.2.3, §5.6.7). The name
/// of the day says nothing that the date does not, so a wrong one is no error.
///
/// Anything else (negative, fractional, longer than ten digits, a bad date) is `None`, and the schedule decides.
/// The caller clamps: [`crate::RetryPolicy`] never waits longer than its `retry_after_max`.
pub fn parse_retry_after(value: &str) -> Option<Wait> {
    let value = value.trim();
    if value.len() <= 10 && !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return value.parse().ok().map(|seconds| Wait::For(Duration::from_secs(seconds)));
    }
    if value.len() > DATE_BYTES_MAX {
        return None;
    }
    http_date(value).map(Wait::Until)
}

fn http_date(value: &str) -> Option<Timestamp> {
    if let Some((_, date)) = value.split_once(", ") {
        // `Sun, 06 Nov 1994 08:49:37 GMT`, or as it was before 1989: `Sunday, 06-Nov-94 08:49:37 GMT`.
        let now = DateTimeParser::new().parse_timestamp(date).ok();
        return now.or_else(|| in_form("%d-%b-%y %H:%M:%S GMT", date));
    }
    // As C prints it: `Sun Nov  6 08:49:37 1994`.
    let (_, date) = value.split_once(' ')?;
    in_form("%b %e %H:%M:%S %Y", date)
}

fn in_form(form: &str, date: &str) -> Option<Timestamp> {
    let moment = BrokenDownTime::parse(form, date).ok()?.to_datetime().ok()?;
    moment.to_zoned(TimeZone::UTC).ok().map(|moment| moment.timestamp())
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
    fn every_form_of_an_http_date_is_read_whatever_day_it_names() {
        let moment = Wait::Until("1994-11-06T08:49:37Z".parse().expect("a timestamp"));
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
        ] {
            assert_eq!(parse_retry_after(date), Some(moment), "{date}");
        }
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
            "Friday, 31-Dec 23:59:59 GMT",
            "Fri Dec 31 25:59:59 1999",
            "Fri, ",
            &"9".repeat(400),
        ] {
            assert_eq!(parse_retry_after(value), None, "{value}");
        }
    }
}
