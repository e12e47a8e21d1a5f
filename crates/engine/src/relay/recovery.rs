//! What the broker has of pages that come again. Pure bookkeeping; empty as long as the broker takes everything.
//!
//! Pages whose events were not all taken are not advanced, so that all of them come again. Of these the ones that failed are
//! published again, and so is every later event of their keys, whether the broker has it or not: what it had too early it
//! then has in order as well. The others are passed over.

use std::collections::HashSet;

use crossdock_core::{OutboxEvent, Topic};

/// What is known of pages that come again.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Rows that the broker has.
    taken: HashSet<i64>,
    /// Rows that it did not take, or perhaps not.
    failed: HashSet<i64>,
    /// Keys of rows that failed.
    keys: HashSet<(Topic, String)>,
}

impl Recovery {
    /// Whether nothing comes again.
    pub(super) fn is_over(&self) -> bool {
        self.taken.is_empty() && self.failed.is_empty()
    }

    /// Rows of a page that is not advanced.
    pub(super) fn note(
        &mut self,
        taken: impl IntoIterator<Item = i64>,
        failed: impl IntoIterator<Item = i64>,
    ) {
        self.taken.extend(taken);
        for seq in failed {
            self.taken.remove(&seq);
            self.failed.insert(seq);
        }
    }

    /// Another reader has been there in between, or nothing more comes again of what is known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether an event that is read is to be published. Asked once for each, in order.
    pub(super) fn is_due(&mut self, read: &OutboxEvent) -> bool {
        let key = || read.event.key.clone().map(|key| (read.topic.clone(), key));
        if self.failed.remove(&read.seq) {
            self.keys.extend(key());
            return true;
        }
        !self.taken.remove(&read.seq) || key().is_some_and(|key| self.keys.contains(&key))
    }

    /// A page was taken whole, or passed over.
    pub(super) fn settled(&mut self) {
        if self.is_over() {
            self.keys = HashSet::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use crossdock_core::Event;

    use super::*;

    fn read(seq: i64, key: Option<&str>) -> OutboxEvent {
        let event = Event {
            id: seq.to_string(),
            source: "/s".to_owned(),
            kind: "t".to_owned(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            key: key.map(str::to_owned),
            extensions: Vec::new(),
            data: Bytes::new(),
        };
        OutboxEvent { seq, topic: Topic::new("orders").expect("a name"), event }
    }

    fn due(recovery: &mut Recovery, rows: &[(i64, &str)]) -> Vec<i64> {
        let due = rows.iter().filter(|(seq, key)| recovery.is_due(&read(*seq, Some(key))));
        due.map(|(seq, _)| *seq).collect()
    }

    #[test]
    fn what_failed_goes_again_with_everything_behind_it_in_its_key() {
        let mut recovery = Recovery::default();
        recovery.note([1, 3, 4, 5], [2]);
        assert_eq!(
            due(&mut recovery, &[(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b"), (6, "b")]),
            [2, 4, 6]
        );
        assert!(recovery.is_over());
    }

    #[test]
    fn a_second_failure_does_not_lose_what_is_still_to_go_behind_the_first() {
        let mut recovery = Recovery::default();
        recovery.note([2, 4], [1]);
        assert_eq!(due(&mut recovery, &[(1, "a")]), [1]);
        recovery.settled();
        // The next page fails for another reason before the second event of the key has come again.
        recovery.note([1], [3]);
        assert_eq!(due(&mut recovery, &[(1, "a"), (2, "a"), (3, "b"), (4, "b")]), [1, 2, 3, 4]);
        recovery.settled();
        assert_eq!(due(&mut recovery, &[(5, "a")]), [5]);
    }

    #[test]
    fn events_without_a_key_hold_nobody_up() {
        let mut recovery = Recovery::default();
        recovery.note([2], [1]);
        assert!(recovery.is_due(&read(1, None)));
        assert!(!recovery.is_due(&read(2, None)));
    }
}
