//! How far a reader has read: the last number, the numbers that are missing, and when a missing one is given up.
//!
//! A number is taken when the row is inserted, and the row is seen when its transaction commits. Transactions commit in another order
//! than they take numbers, so a missing number may still come: it is asked for again with every page, in the same snapshot, until
//! it is there or dead. Whoever takes a number holds a lock on the table from before that until after the commit is seen.
//! Therefore a number is dead when every transaction that held the lock after it was missed is gone, and a read that began
//! after that misses it still.

use std::collections::{BTreeMap, HashMap};

use super::{copy::Range, holders::Holders};

/// How a reader treats missing numbers. Only one way is right; the others show that the tests notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[doc(hidden)]
pub enum Reading {
    /// Publishes past them and asks again.
    #[default]
    PastGaps,
    /// Never asks again.
    Forgetting,
    /// Waits for each.
    Stopping,
}

/// How far a reader has read.
#[derive(Debug)]
pub(crate) struct Scan {
    reading: Reading,
    position: i64,
    /// Missing numbers by the first of each range.
    gaps: BTreeMap<i64, Gap>,
    holders: Watch,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    last: i64,
    /// The look at the holders after which it waits for them; none before there was one.
    looked: Option<u64>,
    /// Whether they are gone: the next read decides.
    cleared: bool,
}

/// Who holds the lock, and since which look.
#[derive(Debug, Default)]
struct Watch {
    looks: u64,
    held: HashMap<String, Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    since: u64,
    prepared: bool,
    /// A prepared transaction takes no more numbers: the last one that it may have taken, once that is known.
    last: i64,
}

impl Scan {
    pub(crate) fn new(reading: Reading, position: i64, gaps: &[Range]) -> Self {
        let gap = |(first, last): &Range| (*first, Gap { last: *last, looked: None, cleared: false });
        Self { reading, position, gaps: gaps.iter().map(gap).collect(), holders: Watch::default() }
    }

    /// Everything up to this number was read, apart from the gaps.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// The missing numbers, in order.
    pub(crate) fn gaps(&self) -> Vec<Range> {
        self.gaps.iter().map(|(first, gap)| (*first, gap.last)).collect()
    }

    /// Those that the next read asks for.
    pub(crate) fn asked(&self) -> Vec<Range> {
        match self.reading {
            Reading::PastGaps | Reading::Forgetting => self.gaps(),
            // They are behind the position.
            Reading::Stopping => Vec::new(),
        }
    }

    /// Whether holders of the lock must be looked at after this read.
    pub(crate) fn waits(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Takes the numbers that a read found, in order, and answers how many of them count. `known_to` is the last number of
    /// which the read tells whether it is there.
    pub(crate) fn take(&mut self, found: &[i64], known_to: i64) -> usize {
        let filled = found.partition_point(|seq| *seq <= self.position);
        for seq in &found[..filled] {
            self.fill(*seq);
        }
        self.bury(known_to);
        if self.reading == Reading::Stopping {
            return self.take_until_gap(found, filled);
        }
        for seq in &found[filled..] {
            if *seq > self.position + 1 && self.reading == Reading::PastGaps {
                self.open(self.position + 1, *seq - 1);
            }
            self.position = *seq;
        }
        found.len()
    }

    /// The defect of waiting: what is behind a gap does not count.
    fn take_until_gap(&mut self, found: &[i64], filled: usize) -> usize {
        for (count, seq) in found.iter().enumerate().skip(filled) {
            if *seq > self.position + 1 {
                if self.gaps.is_empty() {
                    self.open(self.position + 1, *seq - 1);
                }
                return count;
            }
            self.position = *seq;
            self.gaps.clear();
        }
        found.len()
    }

    fn open(&mut self, first: i64, last: i64) {
        self.gaps.insert(first, Gap { last, looked: None, cleared: false });
    }

    fn fill(&mut self, seq: i64) {
        let Some((first, gap)) = self.gaps.range(..=seq).next_back().map(|(first, gap)| (*first, *gap))
        else {
            return;
        };
        if seq > gap.last {
            return;
        }
        self.gaps.remove(&first);
        if first < seq {
            self.gaps.insert(first, Gap { last: seq - 1, ..gap });
        }
        if seq < gap.last {
            self.gaps.insert(seq + 1, gap);
        }
    }

    /// Gives up what was missed once more after its holders were gone.
    fn bury(&mut self, known_to: i64) {
        let dead: Vec<_> =
            self.gaps.iter().filter(|(first, gap)| gap.cleared && **first <= known_to).collect();
        let dead: Vec<_> = dead.into_iter().map(|(first, gap)| (*first, *gap)).collect();
        for (first, gap) in dead {
            self.gaps.remove(&first);
            if gap.last > known_to {
                self.gaps.insert(known_to + 1, gap);
            }
            if self.reading == Reading::Stopping {
                self.position = self.position.max(gap.last);
            }
        }
    }

    /// Takes a look at who holds the lock, made after the last read.
    pub(crate) fn look(&mut self, holders: &Holders) {
        self.holders.look(holders);
        let look = self.holders.looks;
        // Gaps ascend with their looks, so most are decided by one comparison.
        let oldest = self.holders.held.values().filter(|held| !held.prepared).map(|held| held.since).min();
        let prepared: Vec<_> = self.holders.held.values().filter(|held| held.prepared).copied().collect();
        for (first, gap) in &mut self.gaps {
            let looked = *gap.looked.get_or_insert(look);
            gap.cleared = oldest.is_none_or(|oldest| oldest > looked)
                && prepared.iter().all(|held| held.since > looked || held.last < *first);
        }
    }
}

impl Watch {
    fn look(&mut self, holders: &Holders) {
        self.looks += 1;
        let before = std::mem::take(&mut self.held);
        // A prepared transaction may have another name by now: it may be any of those that are gone.
        let gone = before
            .iter()
            .filter(|(name, _)| !holders.prepared.contains_key(*name))
            .map(|(_, held)| held.since)
            .min();
        for (name, prepared) in &holders.prepared {
            let since = match before.get(name) {
                Some(held) => held.since,
                None if *prepared => gone.unwrap_or(self.looks),
                None => self.looks,
            };
            let last = match before.get(name) {
                // It was prepared at the look before, and the number is from after that.
                Some(held) if held.prepared && held.last == i64::MAX => holders.last_number,
                Some(held) => held.last,
                None => i64::MAX,
            };
            let held = Held { since, prepared: *prepared, last };
            self.held.insert(name.clone(), held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that begin with `p` are prepared.
    fn holders(names: &[&str], last_number: i64) -> Holders {
        let prepared = names.iter().map(|name| ((*name).to_owned(), name.starts_with('p'))).collect();
        Holders { prepared, last_number }
    }

    fn scan() -> Scan {
        Scan::new(Reading::PastGaps, 0, &[])
    }

    #[test]
    fn a_missing_number_is_asked_for_until_it_comes() {
        let mut scan = scan();
        scan.take(&[1, 4], i64::MAX);
        assert_eq!((scan.position(), scan.asked()), (4, vec![(2, 3)]));
        scan.look(&holders(&["3/1"], 4));
        scan.take(&[2, 5], i64::MAX);
        assert_eq!((scan.position(), scan.asked()), (5, vec![(3, 3)]));
        scan.take(&[3], i64::MAX);
        assert_eq!((scan.position(), scan.asked()), (5, vec![]));
    }

    #[test]
    fn a_number_is_given_up_when_all_are_gone_who_may_have_it_and_a_later_read_misses_it() {
        let mut scan = scan();
        scan.take(&[2], i64::MAX);
        scan.look(&holders(&["3/1", "4/1"], 2));
        scan.take(&[], i64::MAX);
        scan.look(&holders(&["4/1", "3/2"], 2));
        scan.take(&[], i64::MAX);
        assert_eq!(scan.asked(), [(1, 1)], "one of them is there");
        scan.look(&holders(&["3/2"], 2));
        assert_eq!(scan.asked(), [(1, 1)], "it may have been committed just now");
        scan.take(&[], i64::MAX);
        assert_eq!(scan.asked(), []);
    }

    #[test]
    fn a_read_that_was_cut_says_nothing_of_what_is_behind_it() {
        let mut scan = Scan::new(Reading::PastGaps, 100, &[(1, 50)]);
        scan.take(&[], i64::MAX);
        scan.look(&holders(&[], 100));
        scan.take(&[10, 11], 11);
        assert_eq!(scan.asked(), [(12, 50)]);
    }

    #[test]
    fn a_transaction_under_a_new_name_is_one_of_those_that_are_gone() {
        let mut scan = scan();
        scan.take(&[2], i64::MAX);
        scan.look(&holders(&["3/1"], 2));
        scan.take(&[], i64::MAX);
        scan.look(&holders(&["p-1/7"], 2));
        scan.take(&[], i64::MAX);
        scan.look(&holders(&["p-1/7"], 2));
        scan.take(&[], i64::MAX);
        assert_eq!(scan.asked(), [(1, 1)], "it may hold the number");
        scan.look(&holders(&[], 2));
        scan.take(&[], i64::MAX);
        assert_eq!(scan.asked(), []);
    }

    #[test]
    fn a_prepared_transaction_takes_no_more_numbers() {
        let mut scan = scan();
        scan.take(&[2], i64::MAX);
        scan.look(&holders(&["p3/1"], 2));
        scan.take(&[], i64::MAX);
        scan.look(&holders(&["p3/1"], 2));
        scan.take(&[4], i64::MAX);
        assert_eq!(scan.asked(), [(1, 1), (3, 3)]);
        scan.look(&holders(&["p3/1"], 4));
        scan.take(&[], i64::MAX);
        assert_eq!(scan.asked(), [(1, 1)], "3 was given out after it was prepared");
    }
}
