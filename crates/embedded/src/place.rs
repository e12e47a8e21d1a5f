//! Positions as one number, so that keys and indexes stay small.

use crossdock_core::Offset;
use jiff::Timestamp;

/// Bits of an offset in a place: 22 years at 100,000 events a second in one partition.
const OFFSET_BITS: u32 = 46;

/// The number of a partition in the file; see the table `partitions`.
pub(crate) type Part = i64;

/// A partition and an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(pub(crate) i64);

impl Place {
    pub(crate) fn new(part: Part, offset: Offset) -> Self {
        let offset = offset.min((1 << OFFSET_BITS) - 1);
        Self((part << OFFSET_BITS) | i64::try_from(offset).expect("46 bits fit"))
    }

    pub(crate) fn part(self) -> Part {
        self.0 >> OFFSET_BITS
    }

    pub(crate) fn offset(self) -> Offset {
        Offset::try_from(self.0 & ((1 << OFFSET_BITS) - 1)).expect("the sign bit is masked")
    }

    /// The first place behind the partition.
    pub(crate) fn end_of(part: Part) -> i64 {
        (part + 1) << OFFSET_BITS
    }
}

/// A moment as it is stored: nanoseconds since 1970, clamped to what 64 bits hold (the years 1677 to 2262).
pub(crate) fn nanoseconds(moment: Timestamp) -> i64 {
    moment.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// A stored moment.
pub(crate) fn moment(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).expect("64 bits of nanoseconds are inside jiff's range")
}
