//! When a connection was closed to events: that time makes none of them older.

use std::{collections::VecDeque, time::Duration};

use crossdock_core::span;
use jiff::Timestamp;

/// Closures that are remembered one by one; before that the two oldest become one of the same length. Enough for the wait
/// between two tries of an event while a circuit opens every few seconds.
const REMEMBERED: usize = 256;

/// The times that a connection was anything but `ok`, since the hub started.
#[derive(Default)]
pub(crate) struct Closures {
    /// From when until when, oldest first, without overlaps.
    over: VecDeque<(Timestamp, Timestamp)>,
    /// Since when it is closed now.
    since: Option<Timestamp>,
}

impl Closures {
    /// It closes now, if it is not closed already.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    /// It opens now, if it is closed.
    pub(crate) fn end(&mut self, now: Timestamp) {
        let Some(since) = self.since.take() else { return };
        self.over.push_back((since, now.max(since)));
        if self.over.len() > REMEMBERED
            && let (Some(first), Some(second)) = (self.over.pop_front(), self.over.pop_front())
        {
            let from = second.0.checked_sub(span(first.0, first.1)).unwrap_or(Timestamp::MIN);
            self.over.push_front((from, second.1));
        }
    }

    /// For how long of the time between two moments it was closed.
    pub(crate) fn between(&self, from: Timestamp, to: Timestamp) -> Duration {
        let open = self.since.map(|since| (since, to));
        let all = self.over.iter().rev().copied().take_while(|(_, end)| *end > from);
        all.chain(open).map(|(begin, end)| span(begin.max(from), end.min(to))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number of seconds")
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_the_closed_part_of_a_span_counts() {
        let mut closures = Closures::default();
        closures.begin(at(10));
        closures.begin(at(12));
        closures.end(at(20));
        closures.end(at(25));
        closures.begin(at(30));
        assert_eq!(closures.between(at(0), at(40)), seconds(20));
        assert_eq!(closures.between(at(15), at(35)), seconds(10));
        assert_eq!(closures.between(at(20), at(30)), seconds(0));
        assert_eq!(closures.between(at(40), at(0)), seconds(0));
    }

    #[test]
    fn many_short_closures_keep_their_sum() {
        let mut closures = Closures::default();
        for second in 0..2000 {
            closures.begin(at(second * 10));
            closures.end(at(second * 10 + 1));
        }
        assert_eq!(closures.over.len(), REMEMBERED);
        assert_eq!(closures.between(at(-10_000), at(20_000)), seconds(2000));
        assert_eq!(closures.between(at(19_000), at(20_000)), seconds(100));
    }
}
