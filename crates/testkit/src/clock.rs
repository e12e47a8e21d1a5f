//! Time for tests.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crossdock_core::Clock;
use jiff::Timestamp;

/// A clock that stands still until it is told to go on.
///
/// Shows whole microseconds, since that is what every store can keep.
#[derive(Debug)]
pub struct ManualClock {
    microseconds: AtomicI64,
}

impl ManualClock {
    /// A clock that shows the present moment and stands.
    pub fn new() -> Self {
        Self { microseconds: AtomicI64::new(Timestamp::now().as_microsecond()) }
    }

    /// Goes on by so much, in whole microseconds.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("tests do not wait for 292,000 years");
        self.microseconds.fetch_add(by, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.microseconds.load(Ordering::SeqCst))
            .expect("a present moment and some days")
    }
}
