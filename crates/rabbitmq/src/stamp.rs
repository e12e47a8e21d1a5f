//! Offsets for a broker that has none.
//!
//! A queue numbers nothing that outlives it, and the position of an event must be the same after every redelivery: held
//! events and dead letters are known by it. So the publisher stamps each event with its offset, which then travels as a header.
//!
//! A stamp has 63 bits: milliseconds since 2024 (41, until 2093), a count within the millisecond (8), the publisher (14, drawn
//! when it is opened). So stamps of one publisher ascend within a shard, also when the clock goes back, and those of a later one
//! are higher as far as the clocks of their machines agree. Two publishers can give one number only if they drew
//! the same one of 16,384, publish to the same shard in the same millisecond, and are equally far within it; and only one
//! relay at a time publishes. More than 256 events of a shard in a millisecond take the numbers of the next ones.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossdock_core::{Offset, Partition};
use jiff::Timestamp;

/// 2024-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_704_067_200);
const PUBLISHER_BITS: u32 = 14;
const COUNT_BITS: u32 = 8;

/// Gives out stamps.
pub(crate) struct Stamps {
    publisher: u64,
    /// The last tick (time and count) of each shard.
    last: HashMap<Partition, u64>,
}

impl Stamps {
    pub(crate) fn new() -> Self {
        Self { publisher: rand::random::<u64>() & ((1 << PUBLISHER_BITS) - 1), last: HashMap::new() }
    }

    /// The next stamp of a shard.
    pub(crate) fn next(&mut self, partition: &Partition, now: u64) -> Offset {
        let tick = match self.last.get_mut(partition) {
            Some(last) => {
                *last = now.max(*last + 1);
                *last
            }
            None => {
                self.last.insert(partition.clone(), now);
                now
            }
        };
        tick << PUBLISHER_BITS | self.publisher
    }

    /// What the next stamp of a shard is not below.
    pub(crate) fn end(&self, partition: &Partition) -> Offset {
        let next = self.last.get(partition).map_or(0, |last| last + 1);
        next.max(now()) << PUBLISHER_BITS
    }
}

/// The first tick of this millisecond.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH + EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or_default() & ((1 << 41) - 1);
    milliseconds << COUNT_BITS
}

/// When a stamp was given out, to the millisecond.
pub(crate) fn time(offset: Offset) -> Timestamp {
    let since = EPOCH + Duration::from_millis(offset >> (PUBLISHER_BITS + COUNT_BITS));
    // 41 bits of milliseconds end in 2093.
    Timestamp::UNIX_EPOCH.checked_add(since).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use crossdock_core::Topic;

    use super::*;

    #[test]
    fn stamps_ascend_whatever_the_clock_does() {
        let partition = |number| Partition { topic: Topic::new("orders").expect("a name"), number };
        let mut stamps = Stamps::new();
        let ticks = [now(), now(), 5, now() + 1_000, 7];
        let given: Vec<_> = ticks.iter().map(|now| stamps.next(&partition(0), *now)).collect();
        assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
        assert!(stamps.end(&partition(0)) > given[4] && given[4] < 1 << 63);
        let age = Timestamp::now().duration_since(time(given[0])).abs();
        assert!(age < jiff::SignedDuration::from_secs(1), "{age:?}");
        assert!(stamps.end(&partition(1)) <= stamps.next(&partition(1), now()));
    }
}
