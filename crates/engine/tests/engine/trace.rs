//! What is shown of an event, and what is logged of its tries.

use std::sync::{Arc, Mutex};

use crossdock_core::{Class, LetterState};
use crossdock_engine::DeliveryView;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::rig::{Options, Rig, fault, list, ok};

async fn delivery(rig: &Rig, id: &str) -> DeliveryView {
    let mut views = rig.hub.events(id).await.expect("the memory answers");
    views.remove(0).deliveries.remove(0)
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_tried_again_shows_its_tries_and_the_one_behind_it_waits() {
    let rig = Rig::new(Options { retry: list(&[100, 3_600_000]), ..Options::default() }).await;
    rig.remote.answers(|_| fault(Class::Transient));
    rig.publish([("e0".to_owned(), "k"), ("e1".to_owned(), "k")]).await;
    rig.until("the head is held", async || delivery(&rig, "e0").await.state == "held").await;
    rig.until("so is the one behind it", async || delivery(&rig, "e1").await.state == "held").await;
    let (head, behind) = (delivery(&rig, "e0").await, delivery(&rig, "e1").await);
    assert_eq!((head.attempts, head.due_at.is_some()), (Some(2), true));
    let last = head.last.expect("it failed");
    assert_eq!((last.class, last.message.as_str()), (Some(Class::Transient), Class::Transient.as_str()));
    assert_eq!((behind.attempts, behind.last, behind.due_at), (Some(0), None, None));

    rig.until("it is dead", async || delivery(&rig, "e0").await.state == "dead").await;
    let dead = delivery(&rig, "e0").await;
    assert_eq!((dead.attempts, dead.last.map(|last| last.class)), (Some(3), Some(Some(Class::Transient))));
    rig.until("so is the other", async || rig.letters(LetterState::Open).await == 2).await;
    rig.remote.answers(|_| ok());
    rig.replay_all(None).await;
    rig.until("it is delivered", async || delivery(&rig, "e0").await.state == "replayed").await;
    assert_eq!(delivery(&rig, "e0").await.last, None, "it has not failed last");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_filter_leaves_out_is_not_shown_as_delivered() {
    let rig = Rig::new(Options { filter: Some("$event.id != \"e0\""), ..Options::default() }).await;
    rig.publish([("e0".to_owned(), "k"), ("e1".to_owned(), "k")]).await;
    rig.until("it is delivered", async || delivery(&rig, "e1").await.state == "done").await;
    rig.until("the other is left out", async || delivery(&rig, "e0").await.state == "filtered").await;
    assert_eq!(rig.remote.calls().len(), 1);
}

/// The levels of the lines that tell of a try.
#[derive(Clone, Default)]
struct Levels(Arc<Mutex<Vec<Level>>>);

impl Subscriber for Levels {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "crossdock::attempt"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().expect("no holder of this lock panics").push(*event.metadata().level());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn only_the_try_that_makes_a_dead_letter_is_a_warning() {
    let levels = Levels::default();
    // With a single subscriber, whether a line is wanted is decided by whichever test comes to it first.
    let _second = tracing::Dispatch::new(Levels::default());
    let _logging = tracing::subscriber::set_default(levels.clone());
    let rig = Rig::new(Options { retry: list(&[100, 100]), ..Options::default() }).await;
    rig.remote.answers(|_| fault(Class::Transient));
    rig.publish([("e0".to_owned(), "k")]).await;
    rig.until("it is dead", async || rig.letters(LetterState::Open).await == 1).await;
    rig.remote.answers(|_| ok());
    rig.publish([("e1".to_owned(), "k")]).await;
    rig.until("it is delivered", async || delivery(&rig, "e1").await.state == "done").await;
    let seen = levels.0.lock().expect("no holder of this lock panics").clone();
    assert_eq!(seen, [Level::INFO, Level::INFO, Level::WARN, Level::INFO]);
}
