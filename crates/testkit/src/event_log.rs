//! Promises of a log that can be looked into.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_core::{Delivery, Event, EventSummary, PageRequest, Published, StoreError, Topic};

use crate::{
    HasEventLog, Setup,
    eventually::eventually,
    reader::{Reader, publish},
    sample::{SECOND, billing, event, events, flow, now, orders, setup_of, topic, whole_event},
};

fn setup() -> Setup {
    setup_of(&[("billing", &["orders"]), ("audit", &["orders", "returns"])], &[])
}

async fn page<S: HasEventLog>(
    subject: &S,
    topic: Option<&Topic>,
    limit: usize,
    cursor: Option<String>,
) -> (Vec<EventSummary>, Option<String>) {
    let page = subject.event_log().list(topic, PageRequest { limit, cursor }).await.expect("the log reads");
    assert!(page.items.len() <= limit, "a page has at most {limit} items");
    assert!(!page.items.is_empty() || page.next.is_none(), "an empty page is the last one");
    (page.items, page.next)
}

fn assert_newest_first(events: &[EventSummary]) {
    assert!(events.windows(2).all(|pair| pair[0].accepted_at >= pair[1].accepted_at), "by moment");
    let mut partitions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events {
        let position = event.position.clone().expect("the log is the broker's, so the place is known");
        assert!(position.topic == event.topic && event.relayed);
        partitions.entry((position.topic, position.partition)).or_default().push(position.offset);
    }
    for (partition, offsets) in partitions {
        assert!(offsets.windows(2).all(|pair| pair[0] > pair[1]), "{partition:?}: {offsets:?}");
    }
}

fn ids(events: &[EventSummary]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

/// So many events of several keys, in calls at different moments.
async fn fill<S: HasEventLog>(subject: &S, setup: &Setup, topic: &Topic, name: &str, count: usize) {
    for call in 0..count.div_ceil(7) {
        let numbers = call * 7..(call * 7 + 7).min(count);
        let events = numbers.map(|n| event(&format!("{name}{n}"), &format!("k{}", n % 4))).collect();
        publish(subject.broker().as_ref(), topic, events).await;
        setup.clock.advance(SECOND);
    }
}

/// One topic or all, the newest first, in pages of any size, each event once.
pub async fn events_are_listed_newest_first<S: HasEventLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    fill(&subject, &setup, &orders(), "o", 40).await;
    fill(&subject, &setup, &topic("returns"), "r", 20).await;
    for (topic, count) in
        [(None, 60), (Some(orders()), 40), (Some(topic("returns")), 20), (Some(topic("none")), 0)]
    {
        for limit in [1, 7, 59, 100] {
            let (mut all, mut cursor) = (Vec::new(), None);
            loop {
                let (items, next) = page(&subject, topic.as_ref(), limit, cursor).await;
                all.extend(items);
                match next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
            assert_newest_first(&all);
            let different: BTreeSet<_> = ids(&all).into_iter().collect();
            assert_eq!((all.len(), different.len()), (count, count), "{topic:?} in pages of {limit}");
        }
        subject = subject.reopen(&setup).await;
    }
}

/// What a list tells of an event is what the event is.
pub async fn a_listed_event_is_told_in_short<S: HasEventLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let bare = Event { subject: None, key: None, data: Default::default(), ..whole_event("bare") };
    publish(subject.broker().as_ref(), &orders(), vec![whole_event("whole"), bare]).await;
    for _ in 0..2 {
        let (listed, _) = page(&subject, None, 10, None).await;
        assert_eq!(ids(&listed).into_iter().collect::<BTreeSet<_>>().len(), 2);
        for event in listed {
            let found = subject.event_log().find(&event.id).await.expect("the log reads");
            assert_eq!(found.iter().map(EventSummary::from).collect::<Vec<_>>(), [event]);
        }
        subject = subject.reopen(&setup).await;
    }
}

/// Events that come in between two pages disturb nothing.
pub async fn pages_stay_whole_while_events_come_in<S: HasEventLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    fill(&subject, &setup, &orders(), "o", 30).await;
    let (mut all, mut cursor) = (Vec::new(), None);
    for round in 0.. {
        let (items, next) = page(&subject, None, 4, cursor).await;
        all.extend(items);
        let Some(next) = next else { break };
        cursor = Some(next);
        fill(&subject, &setup, &orders(), &format!("new{round}-"), 10).await;
        if round == 2 {
            subject = subject.reopen(&setup).await;
        }
    }
    assert_newest_first(&all);
    let expected: BTreeSet<_> = (0..30).map(|n| format!("o{n}")).collect();
    assert_eq!((all.len(), ids(&all).into_iter().collect::<BTreeSet<_>>()), (30, expected));
}

/// A cursor that nobody gave out is refused.
pub async fn a_foreign_log_cursor_is_refused<S: HasEventLog>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    fill(&subject, &setup, &orders(), "o", 3).await;
    for text in ["", "zzz", "12", "\u{1f980}", "ffffffffffffffffffffffffffffffffffffffffffff", "-1"] {
        let request = PageRequest { limit: 2, cursor: Some(text.to_owned()) };
        let refused = subject.event_log().list(None, request).await.err();
        assert!(matches!(refused, Some(StoreError::BadCursor)), "`{text}`: {refused:?}");
    }
}

/// An event is found by its id, whole, with its place and the moment at which it was accepted; each source and topic that
/// used the id, the newest first.
pub async fn events_are_found_by_their_id<S: HasEventLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    fill(&subject, &setup, &orders(), "before", 20).await;
    let first = whole_event("e");
    let mut sent = vec![(orders(), first.clone(), now(&setup))];
    publish(subject.broker().as_ref(), &orders(), vec![first.clone(), first.clone()]).await;
    setup.clock.advance(SECOND);
    let other = Event { source: "/other".to_owned(), ..first.clone() };
    sent.push((orders(), other.clone(), now(&setup)));
    publish(subject.broker().as_ref(), &orders(), vec![other]).await;
    setup.clock.advance(SECOND);
    sent.push((topic("returns"), first.clone(), now(&setup)));
    publish(subject.broker().as_ref(), &topic("returns"), vec![first]).await;
    setup.clock.advance(SECOND);
    fill(&subject, &setup, &orders(), "after", 20).await;
    for life in 0..3 {
        let found = subject.event_log().find("e").await.expect("the log reads");
        let found: Vec<_> = found
            .into_iter()
            .map(|logged| (logged.topic.clone(), logged.event.as_ref().clone(), logged.accepted_at))
            .collect();
        assert_eq!(found, sent.iter().rev().cloned().collect::<Vec<_>>(), "life {life}");
        assert!(subject.event_log().find("nobody").await.expect("the log reads").is_empty());
        subject = if life == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
}

/// Where a delivery stands and where the log finds the event are one place, and it is complete for the group that finished
/// it, for no other.
pub async fn completion_is_the_flows_own<S: HasEventLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), (0..3).map(|n| event(&format!("e{n}"), "k")).collect())
        .await;
    let mut came = reader.take(3).await;
    let positions: Vec<_> = came.iter().map(|delivery| delivery.position.clone()).collect();
    came.remove(1).complete();
    drop((came, reader));
    for (n, position) in positions.iter().enumerate() {
        let found = subject.event_log().find(&format!("e{n}")).await.expect("the log reads");
        assert_eq!(found[0].position.as_ref(), Some(position));
    }
    for _ in 0..2 {
        eventually("the second is complete for billing alone", async || {
            let mut complete = Vec::new();
            for position in &positions {
                for group in [billing(), flow("audit")] {
                    let is = subject.event_log().is_complete(&group, position).await;
                    complete.push(is.map_err(|error| error.to_string())?);
                }
            }
            let expected = [false, false, S::KEEPS_GAPS, false, false, false];
            if complete == expected { Ok(()) } else { Err(format!("{complete:?}")) }
        })
        .await;
        subject = subject.reopen(&setup).await;
    }
}

/// What every group is finished with goes when it is old enough, and is a duplicate all the same to the end of the window;
/// what is unfinished stays, whoever has not finished it.
pub async fn finished_events_go_and_stay_known<S: HasEventLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let mut billing_reader = Reader::join(&subject, &setup, &billing()).await;
    let mut audit = Reader::join(&subject, &setup, &flow("audit")).await;
    let (done, open) = two_keys(&subject, &mut billing_reader, &mut audit).await;
    let call = [events(&done, 1..20), events(&open, 1..20)].concat();
    publish(subject.broker().as_ref(), &orders(), call.clone()).await;
    for delivery in billing_reader.take(38).await {
        delivery.complete();
    }
    let kept: Vec<_> =
        audit.take(38).await.into_iter().filter_map(|delivery| finish_unless(delivery, &open)).collect();
    assert_eq!(kept.len(), 19);
    drop((kept, billing_reader, audit));
    for _ in 0..2 {
        setup.clock.advance(2 * setup.retention);
        subject = subject.reopen(&setup).await;
        eventually("finished events go", async || {
            let left =
                subject.event_log().find(&format!("{done}-7")).await.map_err(|error| error.to_string())?;
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?} is there")) }
        })
        .await;
        for n in 1..20 {
            let found = subject.event_log().find(&format!("{open}-{n}")).await.expect("the log reads");
            assert_eq!(found.len(), 1, "{open}-{n} is not finished");
        }
        let again = subject.outbox().append(&orders(), call.clone()).await;
        assert!(again.iter().all(|answer| *answer == Ok(Published::Duplicate)), "{again:?}");
        subject = subject.crash(&setup).await;
    }
    let mut audit = Reader::join(&subject, &setup, &flow("audit")).await;
    let came = audit.take(19).await;
    let names: Vec<_> = (1..20).map(|n| format!("{open}-{n}")).collect();
    assert_eq!(came.iter().map(|delivery| delivery.event.id.clone()).collect::<Vec<_>>(), names);
}

/// Finishes a delivery, or gives it back if it has this key.
fn finish_unless(delivery: Delivery, key: &str) -> Option<Delivery> {
    if delivery.event.key.as_deref() == Some(key) {
        return Some(delivery);
    }
    delivery.complete();
    None
}

/// Two keys in different partitions; everything that it takes to find them is finished.
async fn two_keys<S: HasEventLog>(subject: &S, one: &mut Reader, other: &mut Reader) -> (String, String) {
    let mut found: Vec<(String, u32)> = Vec::new();
    for n in 0..64 {
        let key = format!("key{n}");
        publish(subject.broker().as_ref(), &orders(), events(&key, 0..1)).await;
        let partition = one.batch().await;
        let number = partition.partition.number;
        partition.deliveries.into_iter().chain(other.take(1).await).for_each(Delivery::complete);
        if found.iter().all(|(_, partition)| *partition != number) {
            found.push((key, number));
        }
        if let [(one, _), (other, _)] = found.as_slice() {
            return (one.clone(), other.clone());
        }
    }
    panic!("64 keys share one of two partitions");
}
