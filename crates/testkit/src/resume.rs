//! Promises about what is finished, what comes again, and what is never lost.

use std::collections::BTreeSet;

use crossdock_core::Delivery;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    HasBroker,
    reader::{Reader, by_key, complete, ids, ids_of, publish},
    sample::{DAY, billing, events, orders, setup},
};

/// What was finished in order does not come again after an orderly end.
pub async fn what_is_finished_does_not_come_again<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let mut came = reader.take(10).await;
    let open = came.split_off(6);
    complete(came);
    drop((open, reader));
    let subject = subject.reopen(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    assert_eq!(ids(&reader.take(4).await), ids_of(&events("k", 6..10)));
}

/// Finished in any order, some not at all: after an orderly end exactly the unfinished ones come again, in order; where
/// gaps are not kept, everything from the lowest unfinished one on.
pub async fn gaps_are_given_again<S: HasBroker>() {
    for seed in 0..4 {
        let (setup, mut random) = (setup(), StdRng::seed_from_u64(seed));
        let mut subject = S::create(&setup).await;
        let mut reader = Reader::join(&subject, &setup, &billing()).await;
        publish(subject.broker().as_ref(), &orders(), events("k", 0..60)).await;
        let mut open: Vec<_> = (0..60).collect();
        for life in 0..3 {
            let expected: Vec<_> = if S::KEEPS_GAPS { open.clone() } else { (open[0]..60).collect() };
            let came = reader.take(expected.len()).await;
            let names: Vec<_> = expected.iter().map(|n| format!("k-{n}")).collect();
            assert_eq!(ids(&came), names, "life {life} of seed {seed}");
            finish_some(came, &expected, &mut open, &mut random);
            drop(reader);
            subject = subject.reopen(&setup).await;
            reader = Reader::join(&subject, &setup, &billing()).await;
        }
    }
}

/// Finishes about half, the last ones first, and never the very first, which stays open.
fn finish_some(came: Vec<Delivery>, numbers: &[usize], open: &mut Vec<usize>, random: &mut StdRng) {
    for (delivery, number) in came.into_iter().zip(numbers).rev() {
        if *number != open[0] && random.random_bool(0.5) {
            open.retain(|other| other != number);
            delivery.complete();
        }
    }
}

/// A crash at any moment: what was not finished comes again, in the order of its key; only what was finished may be gone.
pub async fn a_crash_loses_nothing_unfinished<S: HasBroker>() {
    for seed in 0..4 {
        let (setup, mut random) = (setup(), StdRng::seed_from_u64(seed));
        let subject = S::create(&setup).await;
        let mut reader = Reader::join(&subject, &setup, &billing()).await;
        for key in ["a", "b", "c"] {
            publish(subject.broker().as_ref(), &orders(), events(key, 0..30)).await;
        }
        let (mut open, mut kept) = (BTreeSet::new(), Vec::new());
        for delivery in reader.take(90).await {
            if random.random_bool(0.6) {
                delivery.complete();
            } else {
                open.insert(delivery.event.id.clone());
                kept.push(delivery);
            }
        }
        let subject = subject.crash(&setup).await;
        drop((kept, reader));
        let mut reader = Reader::join(&subject, &setup, &billing()).await;
        let came = reader.rest(subject.broker().as_ref(), &orders(), &["a", "b", "c"]).await;
        let again: BTreeSet<_> = ids(&came).into_iter().collect();
        assert_eq!(came.len(), again.len(), "nothing comes twice in one life");
        assert!(open.is_subset(&again), "lost: {:?} (seed {seed})", open.difference(&again));
        assert_in_order(&came);
    }
}

fn assert_in_order(came: &[Delivery]) {
    for (key, ids) in by_key(came) {
        let numbers: Vec<usize> =
            ids.iter().map(|id| id[key.len() + 1..].parse().expect("key-number")).collect();
        assert!(numbers.is_sorted(), "the order of {key}: {ids:?}");
    }
}

/// A member that leaves without finishing gives back what it had; what it finished stays finished.
pub async fn a_member_that_leaves_gives_its_deliveries_back<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let mut came = reader.take(10).await;
    let open = came.split_off(3);
    complete(came);
    drop((open, reader));
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    assert_eq!(ids(&reader.take(7).await), ids_of(&events("k", 3..10)));
}

/// A delivery of a subscription that is gone may be finished late, once more by its successor, and does no harm.
pub async fn a_late_completion_is_harmless<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let late = reader.take(10).await;
    drop(reader);
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let again = reader.take(10).await;
    assert_eq!(ids(&again), ids_of(&events("k", 0..10)));
    complete(late);
    complete(again);
    assert_eq!(ids(&reader.rest(subject.broker().as_ref(), &orders(), &["k"]).await), [""; 0]);
    drop(reader);
    let subject = subject.reopen(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    assert_eq!(ids(&reader.rest(subject.broker().as_ref(), &orders(), &["k"]).await), [""; 0]);
}

/// Unfinished events do not grow old.
pub async fn unfinished_events_outlive_the_retention<S: HasBroker>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let mut came = reader.take(10).await;
    came.remove(4).complete();
    drop((came, reader));
    for _ in 0..2 {
        setup.clock.advance(10 * DAY);
        subject = subject.reopen(&setup).await;
        publish(subject.broker().as_ref(), &orders(), events("other", 0..1)).await;
    }
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let came = reader.rest(subject.broker().as_ref(), &orders(), &["k", "other"]).await;
    let again: BTreeSet<_> = ids(&came).into_iter().collect();
    for number in (0..10).filter(|number| *number != 4) {
        assert!(again.contains(&format!("k-{number}")), "k-{number} is gone");
    }
}
