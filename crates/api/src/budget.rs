//! How many bytes of bodies are in memory, over all requests.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{Problem, problem::Kind};

/// The budget.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    bytes_max: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), bytes_max })
    }

    /// A share of nothing, to be grown.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Counts what has arrived, so that a client that announces much and sends nothing takes nothing.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes;
        let before = self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.budget.bytes_max {
            return Err(Problem::new(Kind::BUSY, "too many bytes of requests are in memory"));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_to_the_byte_and_is_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.share();
        assert!(first.grow(10).is_ok());
        assert!(budget.share().grow(1).is_err());
        drop(first);
        assert!(budget.share().grow(10).is_ok());
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
