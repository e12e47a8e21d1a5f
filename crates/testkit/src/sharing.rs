//! Promises of a broker that spreads a group over several members. The embedded broker has one process and one member.

use std::{collections::BTreeSet, time::Duration};

use crossdock_core::{Delivery, Signal};
use tokio::task::JoinHandle;

use crate::{
    HasBroker, Setup,
    reader::{Reader, by_key, complete, ids, publish},
    sample::{billing, event, events, orders, setup},
};

/// How long a member takes to let go.
const LETTING_GO: Duration = Duration::from_millis(200);

/// A second member gets some of the partitions, the first keeps the others, none is owned twice, and everything that is
/// published then comes once.
pub async fn a_second_member_takes_its_share<S: HasBroker>() {
    let setup = Setup { partitions: 4, ..setup() };
    let subject = S::create(&setup).await;
    let mut first = Reader::join(&subject, &setup, &billing()).await;
    first.until_assigned(4).await;
    let mut second = Reader::join(&subject, &setup, &billing()).await;
    hand_over(&mut first, &mut second).await;
    assert_eq!(first.assigned.len() + second.assigned.len(), 4);
    assert!(first.assigned.is_disjoint(&second.assigned));
    assert!(!first.assigned.is_empty() && !second.assigned.is_empty(), "both have something to do");
    let many: Vec<_> = (0..64).map(|n| event(&format!("e{n}"), &format!("k{n}"))).collect();
    publish(subject.broker().as_ref(), &orders(), many).await;
    let (mut came, mut total) = (BTreeSet::new(), 0);
    while total < 64 {
        let batch = tokio::select! { batch = first.batch() => batch, batch = second.batch() => batch };
        total += batch.deliveries.len();
        came.extend(ids(&batch.deliveries));
        complete(batch.deliveries);
    }
    assert_eq!((came.len(), total), (64, 64), "each event comes once");
}

/// Lets the first give up what is asked of it until the second has something.
async fn hand_over(first: &mut Reader, second: &mut Reader) {
    while second.assigned.is_empty() {
        tokio::select! {
            signal = first.signal() => match signal {
                Signal::Revoked(revocation) => revocation.done(),
                Signal::Assigned(_) | Signal::Batch(_) => {}
            },
            _ = second.signal() => {}
        }
    }
    // A broker may move partitions in several steps; all are placed when the numbers add up.
    while first.assigned.len() + second.assigned.len() < 4 {
        tokio::select! { _ = first.signal() => {}, _ = second.signal() => {} }
    }
}

/// A partition is not given away before its owner has let go: what the owner finishes until then is finished.
pub async fn a_partition_moves_only_when_it_is_let_go<S: HasBroker>() {
    let setup = Setup { partitions: 2, ..setup() };
    let subject = S::create(&setup).await;
    let mut first = Reader::join(&subject, &setup, &billing()).await;
    first.until_assigned(2).await;
    let many: Vec<_> = (0..16).map(|n| event(&format!("e{n}"), &format!("k{n}"))).collect();
    publish(subject.broker().as_ref(), &orders(), many).await;
    let out = first.take(16).await;
    let mut second = Reader::join(&subject, &setup, &billing()).await;
    let second: JoinHandle<Vec<String>> = tokio::spawn(async move {
        let mut seen = Vec::new();
        while !seen.iter().any(|id: &String| id.starts_with("mark-")) {
            if let Signal::Batch(batch) = second.signal().await {
                seen.extend(ids(&batch.deliveries));
            }
        }
        seen
    });
    let revocation = loop {
        if let Signal::Revoked(revocation) = first.signal().await {
            break revocation;
        }
    };
    // Long enough for a broker that does not wait to show it: the second member would read what is still out.
    tokio::time::sleep(LETTING_GO).await;
    complete(out);
    let moved = revocation.partitions.clone();
    revocation.done();
    let marks: Vec<_> = (0..16).map(|n| event(&format!("mark-k{n}"), &format!("k{n}"))).collect();
    publish(subject.broker().as_ref(), &orders(), marks).await;
    assert!(!moved.is_empty());
    let seen = second.await.expect("the second member is given its share");
    assert!(seen.iter().all(|id| id.starts_with("mark-")), "finished before it moved: {seen:?}");
}

/// A member that goes away without a word leaves everything unfinished to the other one, in order.
pub async fn a_lost_members_partitions_move_to_the_other<S: HasBroker>() {
    let setup = Setup { partitions: 4, ..setup() };
    let subject = S::create(&setup).await;
    let mut first = Reader::join(&subject, &setup, &billing()).await;
    first.until_assigned(4).await;
    let mut second = Reader::join(&subject, &setup, &billing()).await;
    hand_over(&mut first, &mut second).await;
    for key in ["a", "b", "c", "d", "e", "f"] {
        publish(subject.broker().as_ref(), &orders(), events(key, 0..10)).await;
    }
    let mut unfinished: Vec<Delivery> = Vec::new();
    let mut came = Vec::new();
    while came.len() + unfinished.len() < 60 {
        tokio::select! {
            batch = first.batch() => unfinished.extend(batch.deliveries),
            batch = second.batch() => came.extend(batch.deliveries),
        }
    }
    let lost: BTreeSet<_> = ids(&unfinished).into_iter().collect();
    drop((first, unfinished));
    let mut again = Vec::new();
    while again.len() < lost.len() {
        again.extend(second.batch().await.deliveries);
    }
    assert_eq!(ids(&again).into_iter().collect::<BTreeSet<_>>(), lost);
    for (key, ids) in by_key(&again) {
        let expected: Vec<_> = (0..10).map(|n| format!("{key}-{n}")).collect();
        assert_eq!(ids, expected, "the order of {key}");
    }
}
