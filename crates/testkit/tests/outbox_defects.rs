//! The suite of the relay's side notices: an outbox with one broken promise fails the case that holds it.

use std::{marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use crossdock_core::{Event, OutboxLog, Topic};
use crossdock_testkit::{HasOutboxLog, OutboxDefect, OutboxRows, Setup, Subject};

/// Names a defect as a type.
trait Breaks: Send + Sync + 'static {
    const DEFECT: OutboxDefect;
}

/// An outbox with a defect.
struct Broken<B> {
    rows: OutboxRows,
    defect: PhantomData<B>,
}

#[async_trait]
impl<B: Breaks> Subject for Broken<B> {
    async fn create(setup: &Setup) -> Self {
        Self { rows: OutboxRows::with_defect(setup.clock.clone(), B::DEFECT), defect: PhantomData }
    }
    async fn reopen(self, _: &Setup) -> Self {
        self
    }
    async fn crash(self, _: &Setup) -> Self {
        self
    }
}

#[async_trait]
impl<B: Breaks> HasOutboxLog for Broken<B> {
    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        Arc::new(self.rows.clone())
    }
    async fn write(&self, topic: &Topic, events: Vec<Event>) {
        self.rows.insert(topic, events);
    }
}

/// One test for each defect and case.
macro_rules! caught {
    ($($test:ident: $defect:ident by $case:ident;)*) => {
        $(
            #[test]
            fn $test() {
                struct Named;
                impl Breaks for Named {
                    const DEFECT: OutboxDefect = OutboxDefect::$defect;
                }
                let case = || crossdock_testkit::run(crossdock_testkit::outbox_log::$case::<Broken<Named>>());
                let run = std::thread::spawn(case);
                assert!(run.join().is_err(), "the case passed in spite of the defect");
            }
        )*
    };
}

caught! {
    a_fence_that_is_open: FenceOpen by a_lost_reader_is_followed_and_fenced;
    two_readers: TwoReaders by there_is_one_reader_at_a_time;
    an_advance_without_effect: AdvancesNothing by what_was_not_advanced_comes_again;
    an_advance_that_goes_too_far: AdvancesTooFar by a_mark_counts_for_all_before_it;
    what_was_read_is_gone: ReadIsGone by what_was_not_advanced_comes_again;
    what_was_read_is_gone_after_a_crash: ReadIsGone by a_crash_of_the_relay_loses_nothing;
    given_twice: GivenTwice by events_come_once_in_the_order_of_their_key;
    in_reverse: Reversed by events_come_once_in_the_order_of_their_key;
    a_page_without_bound: PageUnbounded by a_backlog_comes_in_bounded_pages;
    refused_and_forgotten: RefusedForgotten by what_is_refused_is_counted;
    a_reader_that_does_not_let_go: HoldsOn by there_is_one_reader_at_a_time;
}
