//! Promises about groups: what they see and where they begin.

use crate::{
    HasBroker,
    reader::{Reader, complete, ids, ids_of, publish},
    sample::{billing, events, flow, orders, setup, setup_of, topic},
};

/// A group that reads one topic hears nothing of another; one that reads two hears of both.
pub async fn a_group_sees_only_its_topics<S: HasBroker>() {
    let setup = setup_of(&[("billing", &["orders"]), ("audit", &["orders", "returns"])], &["other"]);
    let subject = S::create(&setup).await;
    let mut one = Reader::join(&subject, &setup, &billing()).await;
    let mut two = Reader::join(&subject, &setup, &flow("audit")).await;
    let broker = subject.broker();
    publish(broker.as_ref(), &topic("returns"), events("r", 0..5)).await;
    publish(broker.as_ref(), &topic("other"), events("x", 0..5)).await;
    let seen = one.rest(broker.as_ref(), &orders(), &["k"]).await;
    assert!(seen.is_empty(), "billing reads orders alone and got {seen:?}");
    let seen = two.take(6).await;
    let returns: Vec<_> = seen
        .iter()
        .filter(|delivery| delivery.position.topic == topic("returns"))
        .map(|d| &d.event.id)
        .collect();
    assert_eq!(returns, ["r-0", "r-1", "r-2", "r-3", "r-4"]);
    assert_eq!(seen.iter().filter(|delivery| delivery.position.topic == orders()).count(), 1);
}

/// What one group finishes is not finished for another.
pub async fn groups_do_not_finish_for_each_other<S: HasBroker>() {
    let setup = setup_of(&[("billing", &["orders"]), ("audit", &["orders"])], &[]);
    let subject = S::create(&setup).await;
    let mut one = Reader::join(&subject, &setup, &billing()).await;
    let mut two = Reader::join(&subject, &setup, &flow("audit")).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    complete(one.take(10).await);
    drop(two.take(10).await);
    drop((one, two));
    let subject = subject.reopen(&setup).await;
    let mut one = Reader::join(&subject, &setup, &billing()).await;
    let mut two = Reader::join(&subject, &setup, &flow("audit")).await;
    assert_eq!(ids(&two.take(10).await), ids_of(&events("k", 0..10)));
    assert_eq!(ids(&one.rest(subject.broker().as_ref(), &orders(), &["k"]).await), [""; 0]);
}

/// A group that holds everything up keeps no other group waiting.
pub async fn a_group_waits_for_no_other<S: HasBroker>() {
    let setup = setup_of(&[("billing", &["orders"]), ("audit", &["orders"])], &[]);
    let subject = S::create(&setup).await;
    let _holds_all = Reader::join(&subject, &setup, &flow("audit")).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    for call in 0..10 {
        publish(subject.broker().as_ref(), &orders(), events("k", call * 100..call * 100 + 100)).await;
        complete(reader.take(100).await);
    }
}

/// A group that is new gets what comes after it and nothing from before.
pub async fn a_new_group_begins_with_what_comes_after_it<S: HasBroker>() {
    let before = setup();
    let subject = S::create(&before).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let mut after = setup_of(&[("billing", &["orders"]), ("late", &["orders"])], &[]);
    after.clock = before.clock.clone();
    let subject = subject.reopen(&after).await;
    let mut late = Reader::join(&subject, &after, &flow("late")).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 10..20)).await;
    assert_eq!(ids(&late.take(10).await), ids_of(&events("k", 10..20)));
}

/// A group that was let begin misses nothing of what is published before its first member comes, over a restart too.
pub async fn a_group_begins_before_it_has_members<S: HasBroker>() {
    let before = setup();
    let subject = S::create(&before).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let late = flow("late");
    subject.broker().begin(&late, &[orders()]).await.expect("it begins");
    publish(subject.broker().as_ref(), &orders(), events("k", 10..20)).await;
    let mut after = setup_of(&[("billing", &["orders"]), ("late", &["orders"])], &[]);
    after.clock = before.clock.clone();
    let subject = subject.reopen(&after).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 20..30)).await;
    let mut reader = Reader::join(&subject, &after, &late).await;
    assert_eq!(ids(&reader.take(20).await), ids_of(&events("k", 10..30)));
}

/// Letting a group begin that has begun takes nothing from it and gives it nothing again, with members and without.
pub async fn beginning_again_changes_nothing<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let mut came = reader.take(10).await;
    let open = came.split_off(4);
    complete(came);
    subject.broker().begin(&billing(), &[orders()]).await.expect("it has begun");
    drop((reader, open));
    let subject = subject.reopen(&setup).await;
    subject.broker().begin(&billing(), &[orders()]).await.expect("it has begun");
    publish(subject.broker().as_ref(), &orders(), events("k", 10..12)).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    assert_eq!(ids(&reader.take(8).await), ids_of(&events("k", 4..12)));
}

/// A group that has finished nothing begins again where it began, after a crash too.
pub async fn a_group_that_finished_nothing_begins_again<S: HasBroker>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    for round in 0..4 {
        assert_eq!(ids(&reader.take(10).await), ids_of(&events("k", 0..10)), "life {round}");
        drop(reader);
        subject = if round % 2 == 0 { subject.crash(&setup).await } else { subject.reopen(&setup).await };
        reader = Reader::join(&subject, &setup, &billing()).await;
    }
}

/// What is published while a known group has no member waits for it, over a restart too.
pub async fn events_wait_for_a_group_without_members<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    drop(Reader::join(&subject, &setup, &billing()).await);
    publish(subject.broker().as_ref(), &orders(), events("k", 0..5)).await;
    let subject = subject.reopen(&setup).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 5..10)).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    assert_eq!(ids(&reader.take(10).await), ids_of(&events("k", 0..10)));
}

/// The only member is given every partition of every topic, those without events too: replays need them.
pub async fn the_only_member_is_given_every_partition<S: HasBroker>() {
    let setup = setup_of(&[("billing", &["orders", "returns"])], &[]);
    let subject = S::create(&setup).await;
    for _ in 0..2 {
        let mut reader = Reader::join(&subject, &setup, &billing()).await;
        reader.until_assigned(4).await;
        let numbers = |name: &str| {
            let of_topic = reader.assigned.iter().filter(|partition| partition.topic == topic(name));
            of_topic.map(|partition| partition.number).collect::<Vec<_>>()
        };
        assert_eq!((numbers("orders"), numbers("returns")), (vec![0, 1], vec![0, 1]));
    }
}
