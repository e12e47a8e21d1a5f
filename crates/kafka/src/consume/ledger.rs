//! What is finished of a partition, while it is ours.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use crossdock_core::{Completed, Offset, Partition, Settle};

/// Begins the metadata of our commits.
const MARK: &str = "c1:";
/// The most bytes of metadata that a broker takes by default (`offset.metadata.max.bytes`).
pub(crate) const METADATA_MAX: usize = 4096;

/// The finished offsets of a partition during one assignment. Each assignment has a ledger of its own: a delivery that is
/// finished late, after its partition went to another member, is written into a ledger that nobody commits.
pub(crate) struct Ledger {
    pub(crate) partition: Partition,
    completed: Mutex<Completed>,
    unsaved: AtomicBool,
}

impl Ledger {
    pub(crate) fn new(partition: Partition, completed: Completed) -> Self {
        Self { partition, completed: Mutex::new(completed), unsaved: AtomicBool::new(false) }
    }

    pub(crate) fn completed(&self) -> MutexGuard<'_, Completed> {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be committed, if anything changed since it was last asked for.
    pub(crate) fn take_unsaved(&self, metadata_max: usize) -> Option<(Offset, String)> {
        if !self.unsaved.swap(false, Ordering::AcqRel) {
            return None;
        }
        let completed = self.completed();
        Some((completed.mark(), encode(&completed, metadata_max)))
    }

    /// Whether something is finished that no commit has carried yet, or one that was refused.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved.load(Ordering::Acquire)
    }

    /// It must be committed again.
    pub(crate) fn unsave(&self) {
        self.unsaved.store(true, Ordering::Release);
    }

    /// Offsets that hold no event count as finished.
    pub(crate) fn skip(&self, from: Offset, to: Offset) {
        self.completed().finish_range(from, to);
        self.unsave();
    }
}

impl Settle for Ledger {
    fn complete(&self, offset: Offset) {
        self.completed().finish(offset);
        self.unsave();
    }
}

/// The finished ranges above the mark as text of at most `max` bytes; the highest ranges are left out where there is no room,
/// and come again after a restart.
fn encode(completed: &Completed, max: usize) -> String {
    let room = max.saturating_sub(MARK.len()) / 4 * 3;
    let count = completed.ranges().count();
    if count == 0 || room < 16 {
        return String::new();
    }
    let mut kept = count;
    let mut bytes = completed.encode();
    while bytes.len() > room && kept > 0 {
        // By what the ranges weigh on the average, and always by one.
        kept = (kept * room / bytes.len()).min(kept - 1);
        let mut fewer = Completed::from(completed.mark());
        completed.ranges().take(kept).for_each(|(start, end)| fewer.finish_range(start, end));
        bytes = fewer.encode();
    }
    format!("{MARK}{}", STANDARD_NO_PAD.encode(bytes))
}

/// What a commit says: the mark, and the ranges if its metadata is ours and belongs to this mark.
pub(crate) fn decode(mark: Offset, metadata: &str) -> Completed {
    let ranges = metadata
        .strip_prefix(MARK)
        .and_then(|text| STANDARD_NO_PAD.decode(text).ok())
        .and_then(|bytes| Completed::decode(&bytes))
        .filter(|completed| completed.mark() == mark);
    ranges.unwrap_or_else(|| Completed::from(mark))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_commit_keeps_what_fits_and_never_more_than_was_finished(
            mark in 0u64..1 << 40,
            offsets in prop::collection::vec(0u64..100_000, 0..3000),
            max in 0usize..5000,
        ) {
            let mut completed = Completed::from(mark);
            offsets.iter().for_each(|offset| completed.finish(mark + 1 + offset));
            let text = encode(&completed, max);
            prop_assert!(text.len() <= max);
            let kept = decode(mark, &text);
            prop_assert_eq!(kept.mark(), mark);
            prop_assert!(kept.ranges().zip(completed.ranges()).all(|(kept, whole)| kept == whole));
            if text.len() + 64 < max {
                prop_assert_eq!(kept, completed);
            }
        }
    }

    #[test]
    fn the_metadata_of_others_is_no_matter() {
        for metadata in ["", "hello", "c1:", "c1:!!", "c1:AQEB"] {
            assert_eq!(decode(7, metadata), Completed::from(7), "{metadata}");
        }
    }
}
