//! A file with a limit, which is a full disk as far as the store can tell.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use crossdock_core::{
    Act, Clock, DeadLetters, Delivery, HeldEvents, Outbox, Partition, PublishError, Published, Selection,
    Settlement, Settlements, StoreError,
};
use crossdock_embedded::{Embedded, Options};
use crossdock_testkit::ManualClock;

use crate::common::{
    DAY, append, billing, deliveries, event, eventually, held, join, letter, open_at, options, orders, put,
    unfinished,
};

const LIMIT: u64 = 2 << 20;

fn limited(bytes: u64) -> Options {
    Options { file_bytes_max: Some(bytes), ..options() }
}

/// Appends until there is no room; gives back the ids that were taken.
async fn fill(store: &Embedded) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    loop {
        let id = format!("e{}", taken.len());
        match append(store, event(&id, 20_000)).await {
            Ok(Published::New(_)) => drop(taken.insert(id)),
            Err(PublishError::Unavailable(why)) => {
                assert!(why.contains("data limit of 2.0 MiB"), "{why}");
                return taken;
            }
            other => panic!("{id} was answered with {other:?}"),
        }
    }
}

fn size(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("crossdock.db")).expect("the file").len()
}

#[tokio::test]
async fn events_are_refused_in_time_and_what_was_accepted_goes_on() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    let store = open_at(folder.path(), limited(LIMIT), &clock).await;
    let taken = fill(&store).await;
    assert!(taken.len() > 60, "{} events fit", taken.len());
    assert!(store.refusal().is_some_and(|why| why.contains("data limit")));

    // The rest is delivered, held and dead-lettered in the room that was kept.
    let mut subscription = join(&store).await;
    let mut given: Vec<Delivery> = deliveries(&mut subscription, taken.len()).await;
    assert_eq!(given.iter().map(|delivery| delivery.event.id.clone()).collect::<BTreeSet<_>>(), taken);
    let dead = letter(given[1].position.offset, 20_000, clock.now());
    let settlements = vec![
        Settlement::Hold(vec![held(given[0].position.offset, 20_000)]),
        Settlement::DeadLetter { letter: Arc::new(dead), held: None, replay: None },
    ];
    store.settle(None, settlements).await.expect("there is room for what was accepted");
    let last = given.pop().expect("many");
    given.into_iter().for_each(Delivery::complete);

    // What is finished goes in its time, and then there is room by itself.
    clock.advance(2 * DAY);
    eventually("there is room again", async || store.refusal().is_none()).await;
    put(&store, "more").await;
    assert_eq!(append(&store, event("e5", 10)).await, Ok(Published::Duplicate), "the ids were not lost");
    drop((last, subscription));
    let expected = [format!("e{}", taken.len() - 1), "more".to_owned()];
    assert_eq!(unfinished(&store).await, expected.into_iter().collect());
    assert_eq!(HeldEvents::count(&store, &billing()).await.expect("a count").0, 1);
    store.close().await;
    assert!(size(folder.path()) <= LIMIT);
}

#[tokio::test]
async fn a_larger_limit_makes_room_at_the_next_start() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    let store = open_at(folder.path(), limited(LIMIT), &clock).await;
    let taken = fill(&store).await;
    store.close().await;
    // A full store opens, and is still full.
    let store = open_at(folder.path(), limited(LIMIT), &clock).await;
    assert!(matches!(append(&store, event("x", 20_000)).await, Err(PublishError::Unavailable(_))));
    store.close().await;
    let store = open_at(folder.path(), limited(2 * LIMIT), &clock).await;
    put(&store, "x").await;
    assert_eq!(unfinished(&store).await.len(), taken.len() + 1);
    store.close().await;
}

#[tokio::test]
async fn a_file_without_any_room_still_settles_what_needs_none() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    let store = open_at(folder.path(), limited(LIMIT), &clock).await;
    let taken = fill(&store).await;
    let dead = letter(9_999, 20_000, clock.now());
    let bury = Settlement::DeadLetter { letter: Arc::new(dead), held: None, replay: None };
    store.settle(None, vec![bury]).await.expect("there is room for a dead letter");
    // Held events use the reserve up, and more.
    let (mut ids, mut offset) = (Vec::new(), 10_000);
    let error = loop {
        match store.settle(None, vec![Settlement::Hold(vec![held(offset, 20_000)])]).await {
            Ok(_) => ids.push(offset),
            Err(error) => break error,
        }
        offset += 1;
    };
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(!ids.is_empty());

    // While somebody keeps trying to append, what makes room must go through.
    let (asking, writing) = (store.clone(), store.clone());
    let appends = tokio::spawn(async move {
        for _ in 0..200 {
            drop(append(&writing, event("again", 20_000)).await);
        }
    });
    let partition = Partition { topic: orders(), number: 0 };
    let due = asking.due(&billing(), &partition, clock.now(), None, 1000).await.expect("held events read");
    assert_eq!(due.len(), ids.len(), "nothing that was held is lost, nothing that failed is there");
    for event in due {
        let delivered = Settlement::Delivered { held: Some(event.id), replay: None };
        asking.settle(None, vec![delivered]).await.expect("removing needs no room");
    }
    let act = Act { actor: "ada".to_owned(), reason: "to make room".to_owned() };
    let discarded = asking.discard(&Selection::default(), &act).await.expect("discarding needs next to none");
    assert_eq!(discarded, 1);
    appends.await.expect("the writer goes on");

    let mut subscription = join(&store).await;
    for delivery in deliveries(&mut subscription, taken.len()).await {
        assert!(taken.contains(&delivery.event.id));
        delivery.complete();
    }
    clock.advance(31 * DAY);
    eventually("there is room again", async || store.refusal().is_none()).await;
    put(&store, "more").await;
    drop(subscription);
    store.close().await;
    let store = open_at(folder.path(), limited(LIMIT), &clock).await;
    assert_eq!(unfinished(&store).await.into_iter().collect::<Vec<_>>(), ["more"]);
    store.close().await;
}

#[tokio::test]
async fn many_small_events_leave_room_for_their_ids_so_that_the_log_can_be_dropped() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    // As in a release build: no run is written before the limit is met.
    let options =
        Options { recent_ids_max: 1 << 17, groups: Vec::new(), topics: vec![orders()], ..limited(16 << 20) };
    let store = open_at(folder.path(), options, &clock).await;
    let mut taken = 0;
    loop {
        let events = (0..1000).map(|n| event(&format!("e{}", taken + n), 40)).collect();
        let answers = store.append(&orders(), events).await;
        if answers.iter().any(|answer| matches!(answer, Err(PublishError::Unavailable(_)))) {
            break;
        }
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Published::New(_)))), "{:?}", answers[0]);
        taken += 1000;
    }
    assert!(taken > 10_000, "{taken} events fit");
    clock.advance(2 * DAY);
    eventually("there is room again", async || store.refusal().is_none()).await;
    put(&store, "more").await;
    assert_eq!(append(&store, event("e5", 40)).await, Ok(Published::Duplicate), "the ids were not lost");
    store.close().await;
    assert!(size(folder.path()) <= 16 << 20);
}
