//! Which offsets of a partition are finished: a low-water mark and the finished ranges above it.

use std::collections::BTreeMap;

use crate::Offset;

/// The finished offsets of one partition.
///
/// Everything below the mark is finished; above it the finished offsets stand as ranges. Offsets that the broker
/// never gave out (gaps in the numbering) are finished like the others: as the whole range between two deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completed {
    mark: Offset,
    /// Start → end (excluded) of finished ranges above the mark; neither overlapping nor touching.
    above: BTreeMap<Offset, Offset>,
}

impl Completed {
    /// Nothing at or above `mark` is finished.
    pub fn from(mark: Offset) -> Self {
        Self { mark, above: BTreeMap::new() }
    }

    /// The lowest offset that is not finished: what a consumer group commits.
    pub fn mark(&self) -> Offset {
        self.mark
    }

    /// Whether an offset is finished.
    pub fn contains(&self, offset: Offset) -> bool {
        offset < self.mark || self.above.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// Marks one offset as finished. Doing it twice changes nothing.
    pub fn finish(&mut self, offset: Offset) {
        self.finish_range(offset, offset + 1);
    }

    /// Marks `start..end` as finished.
    pub fn finish_range(&mut self, start: Offset, end: Offset) {
        let (mut start, mut end) = (start.max(self.mark), end);
        if start >= end {
            return;
        }
        if let Some((&before, &before_end)) = self.above.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
            self.above.remove(&before);
        }
        while let Some((&next, &next_end)) = self.above.range(start..=end).next() {
            end = end.max(next_end);
            self.above.remove(&next);
        }
        if start == self.mark {
            self.mark = end;
        } else {
            self.above.insert(start, end);
        }
    }

    /// The width between the lowest unfinished and the highest finished offset: what in-flight work is bounded by.
    pub fn gap(&self) -> u64 {
        self.above.last_key_value().map_or(0, |(_, end)| end - self.mark)
    }

    /// The finished ranges above the mark, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (Offset, Offset)> + '_ {
        self.above.iter().map(|(start, end)| (*start, *end))
    }

    /// As bytes: the mark, then start and length of each range, as LEB128 differences. Small by construction: two to
    /// four bytes a range.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.above.len() * 4);
        push_leb128(&mut bytes, self.mark);
        let mut last = self.mark;
        for (start, end) in self.ranges() {
            push_leb128(&mut bytes, start - last);
            push_leb128(&mut bytes, end - start);
            last = end;
        }
        bytes
    }

    /// Reads what [`Completed::encode`] wrote. `None` if the bytes are damaged.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut completed = Self::from(pull_leb128(&mut bytes)?);
        let mut last = completed.mark;
        while !bytes.is_empty() {
            let start = last.checked_add(pull_leb128(&mut bytes)?)?;
            let end = start.checked_add(pull_leb128(&mut bytes)?)?;
            if start >= end || start <= completed.mark {
                return None;
            }
            completed.above.insert(start, end);
            last = end;
        }
        Some(completed)
    }
}

fn push_leb128(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pull_leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mark_waits_for_the_lowest_unfinished_offset() {
        let mut completed = Completed::from(10);
        completed.finish(12);
        completed.finish(11);
        assert_eq!((completed.mark(), completed.gap()), (10, 3));
        completed.finish(10);
        assert_eq!((completed.mark(), completed.gap()), (13, 0));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        assert_eq!(Completed::decode(&[]), None);
        assert_eq!(Completed::decode(&[0x80]), None);
        assert_eq!(Completed::decode(&[5, 1]), None);
        assert_eq!(Completed::decode(&[5, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_order_of_finishing_ends_as_the_set_says(start in 0u64..50, offsets in prop::collection::vec(0u64..120, 0..200)) {
            let mut completed = Completed::from(start);
            let mut model: BTreeSet<u64> = (0..start).collect();
            for offset in offsets {
                completed.finish(offset);
                model.insert(offset);
                let lowest = (0..).find(|n| !model.contains(n)).expect("the set is finite");
                prop_assert_eq!(completed.mark(), lowest);
            }
            for offset in 0..130 {
                prop_assert_eq!(completed.contains(offset), model.contains(&offset));
            }
            prop_assert_eq!(Completed::decode(&completed.encode()), Some(completed));
        }

        #[test]
        fn ranges_finish_like_their_members(ranges in prop::collection::vec((0u64..100, 0u64..20), 0..40)) {
            let (mut by_range, mut by_one) = (Completed::default(), Completed::default());
            for (start, length) in ranges {
                by_range.finish_range(start, start + length);
                (start..start + length).for_each(|offset| by_one.finish(offset));
            }
            prop_assert_eq!(by_range, by_one);
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Completed::decode(&bytes);
        }
    }
}
