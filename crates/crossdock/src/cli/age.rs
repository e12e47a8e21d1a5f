//! Moments and durations as people say them.

use jiff::Timestamp;

/// `3m ago`, `in 20s`, `now`.
pub fn age(moment: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(moment).as_secs();
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("{} ago", short(seconds.unsigned_abs())),
        _ => format!("in {}", short(seconds.unsigned_abs())),
    }
}

/// The largest unit that fits, rounded down: `45s`, `3m`, `2h`, `5d`.
pub fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let told: Vec<_> =
            [0, 1, 59, 60, 3_599, 7_200, 172_800, -20].map(|ago| age(at(-ago), at(0))).to_vec();
        assert_eq!(told, ["now", "1s ago", "59s ago", "1m ago", "59m ago", "2h ago", "2d ago", "in 20s"]);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1_000, 40_000, 1_234_567].map(count),
            ["0", "999", "1,000", "40,000", "1,234,567"]
        );
    }
}
