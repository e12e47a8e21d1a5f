//! One pass over JSON text that is known to be well-formed: what no parser tells.

/// What a JSON text is like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Levels of lists and objects.
    pub(crate) depth: usize,
    /// Members of all objects together, duplicates included.
    pub(crate) members: usize,
    /// Whether a `\u` escape is half of a surrogate pair: it stands for no character, and every reader makes something
    /// else of it.
    pub(crate) lone_surrogate: bool,
    /// Numbers that a 64-bit integer or float cannot hold as they are written, or that a reader without
    /// arbitrary precision may round the wrong way.
    pub(crate) wide_numbers: usize,
}

/// Decimal digits that every 64-bit float keeps.
const FLOAT_DIGITS: usize = 15;

/// Powers of ten that a 64-bit float holds exactly. One multiplication or division by them, which is how fast parsers
/// read a float, is rounded once and so right; beyond them the last digit may come out wrong.
const EXACT_POWERS: u64 = 22;

/// Looks through well-formed JSON; of anything else it makes nothing useful, and does not panic.
pub(crate) fn scan(json: &[u8]) -> Shape {
    let mut shape = Shape::default();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = json.get(at) {
        at += match byte {
            b'"' => string(&json[at..], &mut shape),
            b'-' | b'0'..=b'9' => number(&json[at..], &mut shape),
            _ => 1,
        };
        match byte {
            b'{' | b'[' => {
                depth += 1;
                shape.depth = shape.depth.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' => shape.members += 1,
            _ => {}
        }
    }
    shape
}

/// The length of the string that `rest` begins with, quotes included.
fn string(rest: &[u8], shape: &mut Shape) -> usize {
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += escape(&rest[at..], shape),
            _ => at += 1,
        }
    }
    at
}

/// The length of the escape that `rest` begins with.
fn escape(rest: &[u8], shape: &mut Shape) -> usize {
    let Some(unit) = unit(rest) else { return 2 };
    let low = rest.get(6..).and_then(self::unit);
    match (unit, low) {
        (0xD800..=0xDBFF, Some(0xDC00..=0xDFFF)) => 12,
        (0xD800..=0xDFFF, _) => {
            shape.lone_surrogate = true;
            6
        }
        _ => 6,
    }
}

/// The code unit of `\uXXXX`.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The length of the number that `rest` begins with.
fn number(rest: &[u8], shape: &mut Shape) -> usize {
    let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let length = rest.iter().take_while(|byte| part(byte)).count();
    if !std::str::from_utf8(&rest[..length]).is_ok_and(is_exact) {
        shape.wide_numbers += 1;
    }
    length
}

fn is_exact(number: &str) -> bool {
    if number.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0').count();
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let power = exponent.parse::<i64>().ok().zip(i64::try_from(fraction).ok());
    let power = power.and_then(|(exponent, fraction)| exponent.checked_sub(fraction));
    let fits = power.is_some_and(|power| power.unsigned_abs() <= EXACT_POWERS);
    digits == 0 || (digits <= FLOAT_DIGITS && fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_members_are_counted_outside_of_strings() {
        let shape = scan(br#"{"a{[:":[[1],{"b":"\"}:"}],"a{[:":2}"#);
        assert_eq!((shape.depth, shape.members), (3, 3));
    }

    #[test]
    fn half_a_surrogate_pair_is_seen() {
        for lone in
            [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x\udc00""#, r#""\uDFFF\uD800""#]
        {
            assert!(scan(lone.as_bytes()).lone_surrogate, "{lone}");
        }
        for fine in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u0000""#, r#""é""#] {
            assert!(!scan(fine.as_bytes()).lone_surrogate, "{fine}");
        }
    }

    #[test]
    fn numbers_that_a_reader_would_change_are_counted() {
        assert_eq!(scan(b"[0,-1,18446744073709551615,1.50,1e3,-0.0,0.000]").wide_numbers, 0);
        assert_eq!(
            scan(b"[18446744073709551616,1e999,0.1234567890123456,1e-999,1e23,-147865170517e-23]")
                .wide_numbers,
            6
        );
    }
}
