//! Numbers without gaps, by which whoever reads a queue sees that something is missing from it.
//!
//! A queue of RabbitMQ tells nobody what it has lost: purged by a person, dropped by a policy, never got because it was unbound while other
//! flows had queues. So each event carries a number: the run, drawn for each channel, and a count for each shard within it. The
//! broker takes what comes on a channel in order, so a reader that has seen one number of a run and then gets a higher one than the
//! next, for the first time it is delivered at all, knows how many there were in between.
//!
//! A run ends with its channel, and when the broker refuses an event: what is published once more has numbers of another run.

use std::collections::{HashMap, VecDeque};

use crossdock_core::Topic;

/// How many runs a reader tells apart: several only while one publisher follows another.
const RUNS: usize = 8;

/// How many bits the count has: a year of a shard at full speed on one channel. 23 are left for the run.
const COUNT_BITS: u32 = 40;

/// The number of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    run: u32,
    number: u64,
}

impl From<Sequence> for i64 {
    fn from(Sequence { run, number }: Sequence) -> Self {
        Self::from(run) << COUNT_BITS | Self::try_from(number).unwrap_or_default()
    }
}

impl Sequence {
    /// Reads one; none where somebody else has written something else there.
    pub(crate) fn read(value: i64) -> Option<Self> {
        let value = u64::try_from(value).ok()?;
        let (run, number) = (value >> COUNT_BITS, value & ((1 << COUNT_BITS) - 1));
        Some(Self { run: u32::try_from(run).ok()?, number })
    }
}

/// Gives out the numbers of one run.
pub(crate) struct Numbers {
    run: u32,
    next: HashMap<Topic, HashMap<u32, u64>>,
}

impl Numbers {
    pub(crate) fn new() -> Self {
        Self { run: rand::random::<u32>() >> 9, next: HashMap::new() }
    }

    /// Those of a topic.
    pub(crate) fn of(&mut self, topic: &Topic) -> impl FnMut(u32) -> Sequence {
        let (run, next) = (self.run, self.next.entry(topic.clone()).or_default());
        move |shard| {
            let next = next.entry(shard).or_default();
            *next += 1;
            Sequence { run, number: *next - 1 }
        }
    }
}

/// What a reader has seen of a shard.
#[derive(Default)]
pub(crate) struct Seen(VecDeque<Run>);

struct Run {
    run: u32,
    /// The number that comes next.
    next: u64,
    /// Some number was seen when it was delivered for the first time: from then on there are no gaps. Of what comes again others may
    /// have finished some in between.
    is_whole: bool,
}

impl Seen {
    /// Takes a number in; how many are missing before it.
    pub(crate) fn note(&mut self, sequence: Sequence, redelivered: bool) -> u64 {
        let Sequence { run, number } = sequence;
        let next = number + 1;
        let Some(known) = self.0.iter_mut().find(|known| known.run == run) else {
            if self.0.len() == RUNS {
                self.0.pop_front();
            }
            self.0.push_back(Run { run, next, is_whole: !redelivered });
            return 0;
        };
        if number < known.next {
            return 0;
        }
        let missing = if known.is_whole && !redelivered { number - known.next } else { 0 };
        known.next = next;
        known.is_whole |= !redelivered;
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(seen: &mut Seen, numbers: impl IntoIterator<Item = u64>, redelivered: bool) -> u64 {
        numbers.into_iter().map(|number| seen.note(Sequence { run: 7, number }, redelivered)).sum()
    }

    #[test]
    fn numbers_of_a_shard_have_no_gaps_and_travel_as_they_are() {
        let topic = Topic::new("orders").expect("a name");
        let mut numbers = Numbers::new();
        let given = [0, 1, 0, 0].map(|shard| numbers.of(&topic)(shard));
        assert_eq!(given.map(|sequence| sequence.number), [0, 0, 1, 2]);
        for sequence in given {
            assert_eq!(Sequence::read(i64::from(sequence)), Some(sequence));
        }
        assert_eq!(Sequence::read(-1), None);
    }

    #[test]
    fn what_is_missing_is_counted_and_what_comes_again_is_not() {
        let mut seen = Seen::default();
        assert_eq!(noted(&mut seen, 5..10, false), 0, "what was before is not known");
        assert_eq!(noted(&mut seen, 12..14, false), 2);
        assert_eq!(noted(&mut seen, [8, 9, 12], true), 0);
        assert_eq!(noted(&mut seen, 14..16, false), 0);
        assert_eq!(seen.note(Sequence { run: 8, number: 3 }, false), 0, "another run");
        assert_eq!(noted(&mut seen, [20], false), 4);
    }

    /// Another worker has finished some of what it had, up to 11.
    #[test]
    fn gaps_in_what_others_had_are_none() {
        let mut seen = Seen::default();
        assert_eq!(noted(&mut seen, [3, 7], true), 0);
        assert_eq!(noted(&mut seen, 12..15, false), 0);
        assert_eq!(noted(&mut seen, [16], false), 1);
    }

    /// The channel was lost with deliveries on their way to us.
    #[test]
    fn what_was_on_its_way_comes_again_without_a_gap() {
        let mut seen = Seen::default();
        noted(&mut seen, 0..5, false);
        assert_eq!(noted(&mut seen, 2..9, true), 0);
        assert_eq!(noted(&mut seen, 9..12, false), 0);
    }
}
