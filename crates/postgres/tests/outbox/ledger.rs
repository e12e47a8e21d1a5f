//! What came out of the outbox, compared with what was committed.

use std::collections::{HashMap, HashSet};

use crossdock_core::OutboxEvent;

/// What is wrong with what came out. Each event's data is `key number`, ascending for each key in the order of the commits.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Committed, and never came.
    pub lost: usize,
    /// Came, and was never committed.
    pub ghosts: usize,
    /// Came after a later one of its key.
    pub inversions: usize,
    /// Came before.
    pub duplicates: usize,
}

/// Compares.
pub fn verdict(committed: &[String], came: &[OutboxEvent]) -> Verdict {
    let mut verdict = Verdict::default();
    let committed: HashSet<&str> = committed.iter().map(String::as_str).collect();
    let mut seen: HashSet<&str> = HashSet::with_capacity(came.len());
    let mut last: HashMap<&str, u64> = HashMap::new();
    for read in came {
        let data = str::from_utf8(&read.event.data).expect("the tests write text");
        if !seen.insert(data) {
            verdict.duplicates += 1;
            continue;
        }
        verdict.ghosts += usize::from(!committed.contains(data));
        let (key, number) = data.split_once(' ').expect("key number");
        let number: u64 = number.parse().expect("a number");
        let last = last.entry(key).or_insert(number);
        verdict.inversions += usize::from(number < *last);
        *last = number.max(*last);
    }
    verdict.lost = committed.iter().filter(|data| !seen.contains(**data)).count();
    verdict
}
