//! Cursors: two numbers that say behind which row the next page begins.

use crossdock_core::{Cursor, PageRequest, StoreError};

/// A page that is asked for: the row to begin behind, and how many to read.
pub(crate) struct From {
    /// The numbers of the last row of the page before; those of the first page are the largest there are.
    pub(crate) last: (i64, i64),
    pub(crate) limit: usize,
}

/// Reads a request.
pub(crate) fn read(page: &PageRequest) -> Result<From, StoreError> {
    let limit = page.limit.max(1);
    let Some(cursor) = &page.cursor else { return Ok(From { last: (i64::MAX, i64::MAX), limit }) };
    let numbers = || {
        let (one, other) = cursor.split_once('_')?;
        Some((number(one)?, number(other)?))
    };
    Ok(From { last: numbers().ok_or(StoreError::BadCursor)?, limit })
}

fn number(text: &str) -> Option<i64> {
    // Only what we wrote: no sign, no second spelling.
    let number: u64 = u64::from_str_radix(text, 36).ok()?;
    (base36(number) == text).then_some(number as i64)
}

/// The cursor behind a row.
pub(crate) fn behind(one: i64, other: i64) -> Cursor {
    format!("{}_{}", base36(one as u64), base36(other as u64))
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).expect("a remainder of 36 is a digit"));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_wrote_is_read() {
        for (one, other) in [(0, 0), (i64::MIN, i64::MAX), (-1, 35)] {
            let page = PageRequest { limit: 1, cursor: Some(behind(one, other)) };
            assert_eq!(read(&page).expect("our own cursor").last, (one, other));
        }
        for wrong in ["", "_", "1", "1_", "+1_1", "01_1", "A_1", "1_1_1", "zzzzzzzzzzzzzzzz_1"] {
            let page = PageRequest { limit: 1, cursor: Some(wrong.to_owned()) };
            assert!(matches!(read(&page), Err(StoreError::BadCursor)), "{wrong}");
        }
    }
}
