//! Ids that ascend in time.

/// A letter and 26 characters: 128 bits (of a UUID of version 7, say) in Crockford's base 32 in lower case, in which no
/// letter can be taken for another one or for a digit. Ids sort like their numbers.
pub fn time_ordered_id(kind: char, mut number: u128) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = [b'0'; 26];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(number & 31) as usize];
        number >>= 5;
    }
    std::iter::once(kind).chain(text.iter().map(|byte| char::from(*byte))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_like_their_numbers() {
        let ids = [0, 1, 31, 32, u128::from(u64::MAX), u128::MAX].map(|number| time_ordered_id('d', number));
        assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 27), "{ids:?}");
        assert_eq!(ids[3], "d00000000000000000000000010");
    }
}
