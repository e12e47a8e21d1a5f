//! Quantities with units: durations, sizes, rates.

use std::time::Duration;

/// What a duration looks like, for messages.
pub const DURATION_HELP: &str =
    "a duration is a whole number and a unit (ms, s, m, h, d), for example `200ms` or `1h30m`";

/// What a size looks like, for messages.
pub const SIZE_HELP: &str = "a size is a whole number and a unit (B, KiB, MiB, GiB), for example `1MiB`";

/// What a rate looks like, for messages.
pub const RATE_HELP: &str =
    "a rate is a number for each second, minute or hour, for example `1000/s`, `90/m` or `1/h`";

/// Reads `200ms`, `5s`, `1h30m`: whole numbers with units, the larger unit first, each once.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    let mut larger = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = milliseconds(&rest[digits..digits + letters]).filter(|unit| *unit < larger)?;
        total = total.checked_add(Duration::from_millis(number.checked_mul(unit)?))?;
        larger = unit;
        rest = &rest[digits + letters..];
    }
    (larger != u64::MAX).then_some(total)
}

fn milliseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    })
}

/// Reads `1MiB`, `512KiB`, `65536B`.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Reads `1000/s`, `90/m`, `0.5/s` as a number for each second, more than 0.
pub fn rate(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_once('/')?;
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number / seconds).filter(|rate| rate.is_finite() && *rate > 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units_the_larger_first() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("200ms"), Some(0.2));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("2d"), Some(172_800.0));
        assert_eq!(seconds("0s"), Some(0.0));
        for wrong in ["", "5", "s", "1.5s", "-1s", "5 s", "1m1h", "1s1s", "1w", "99999999999999999999s"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_and_rates_have_units_too() {
        assert_eq!(size("1MiB"), Some(1 << 20));
        assert_eq!(size("1"), None);
        assert_eq!(size("99999999999GiB"), None);
        assert_eq!(rate("1000/s"), Some(1000.0));
        assert_eq!(rate("90/m"), Some(1.5));
        for wrong in ["1000", "0/s", "-1/s", "inf/s", "NaN/s", "1/d", "/s"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "[0-9a-zA-Z./ ä]{0,30}") {
            let _ = (duration(&text), size(&text), rate(&text));
        }

        #[test]
        fn whole_milliseconds_are_read_back(milliseconds in 0u64..1 << 40) {
            prop_assert_eq!(duration(&format!("{milliseconds}ms")), Some(Duration::from_millis(milliseconds)));
        }
    }
}
