//! Whether what was accepted came in order and once.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

/// What a receiver can say about order, from what it accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Accepted requests.
    pub accepted: u64,
    /// Different keys among them.
    pub keys: u64,
    /// First deliveries that came after a later one of their key.
    pub out_of_order: u64,
    /// Deliveries of a (key, sequence) that was accepted before.
    pub twice: u64,
}

/// Follows accepted requests one by one. Missing numbers are fine: not every event reaches every system.
#[derive(Debug, Default)]
pub(crate) struct OrderCheck {
    keys: BTreeMap<String, Seen>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Seen {
    highest: u64,
    all: HashSet<u64>,
}

impl OrderCheck {
    pub(crate) fn accept(&mut self, key: Option<&str>, seq: Option<u64>) {
        self.tally.accepted += 1;
        let (Some(key), Some(seq)) = (key, seq) else { return };
        if !self.keys.contains_key(key) {
            self.keys.insert(key.to_owned(), Seen::default());
            self.tally.keys += 1;
        }
        let Some(seen) = self.keys.get_mut(key) else { return };
        if !seen.all.insert(seq) {
            self.tally.twice += 1;
        } else if seq < seen.highest {
            self.tally.out_of_order += 1;
        }
        seen.highest = seen.highest.max(seq);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(deliveries: &[(&str, u64)]) -> (u64, u64) {
        let mut check = OrderCheck::default();
        deliveries.iter().for_each(|(key, seq)| check.accept(Some(key), Some(*seq)));
        (check.tally().out_of_order, check.tally().twice)
    }

    #[test]
    fn keys_may_overtake_each_other_and_numbers_may_be_missing() {
        assert_eq!(tally(&[("a", 1), ("b", 1), ("b", 5), ("a", 3)]), (0, 0));
    }

    #[test]
    fn a_first_delivery_after_a_later_one_is_out_of_order() {
        assert_eq!(tally(&[("a", 1), ("a", 3), ("a", 2)]), (1, 0));
    }

    #[test]
    fn a_second_delivery_is_twice_and_not_out_of_order() {
        assert_eq!(tally(&[("a", 1), ("a", 2), ("a", 1), ("a", 2)]), (0, 2));
    }
}
