//! Promises of a broker to any one group.

use std::{collections::BTreeSet, future::ready, task::Poll, time::Duration};

use bytes::Bytes;
use crossdock_core::{Batch, BrokerError, PublishError, Published, Signal};
use futures::future::join_all;
use tokio::time::{Instant, timeout};

use crate::{
    HasBroker,
    reader::{Reader, assert_same, by_key, complete, ids, ids_of, publish},
    sample::{billing, event, events, orders, setup, topic, whole_event},
};

/// How long calls that are under way together may take, under load.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Five keys, published in calls of mixed sizes: each comes in its order.
pub async fn events_of_a_key_keep_their_order<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let keys = ["a", "b", "c", "d", "e"];
    let mut sent = 0;
    for call in [1, 7, 40, 2, 150] {
        let batch = (sent..sent + call).flat_map(|n| keys.map(|key| event(&format!("{key}-{n}"), key)));
        publish(subject.broker().as_ref(), &orders(), batch.collect()).await;
        sent += call;
    }
    let came = by_key(&reader.take(sent * keys.len()).await);
    for key in keys {
        assert_eq!(came[key], ids_of(&events(key, 0..sent)), "the order of {key}");
    }
}

/// Many publishers at once, each with a key: each key comes in its order, nothing is missing, nothing comes twice.
pub async fn publishers_at_once_keep_their_own_order<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let keys: Vec<_> = (0..8).map(|n| format!("k{n}")).collect();
    let publishers = keys.iter().map(|key| {
        let (broker, key) = (subject.broker(), key.clone());
        tokio::spawn(async move {
            for call in 0..20 {
                publish(broker.as_ref(), &orders(), events(&key, call * 5..call * 5 + 5)).await;
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let came = by_key(&reader.take(keys.len() * 100).await);
    for publisher in publishers {
        publisher.await.expect("the publisher ends well");
    }
    for key in keys {
        assert_eq!(came[&key], ids_of(&events(&key, 0..100)), "the order of {key}");
    }
}

/// Calls publish in the order in which their futures were polled for the first time, while all of them are under way.
pub async fn calls_under_way_keep_the_order_of_their_first_polls<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let (broker, topic) = (subject.broker(), orders());
    let mut calls = Vec::new();
    for call in 0..20 {
        let mut publishing = broker.publish(&topic, events("k", call * 20..call * 20 + 20));
        if let Poll::Ready(answers) = futures::poll!(&mut publishing) {
            publishing = Box::pin(ready(answers));
        }
        calls.push(publishing);
    }
    // Waited for in another order than they began in.
    calls.reverse();
    let answers = timeout(PUBLISHED_WITHIN, join_all(calls)).await.expect("publish answers");
    assert!(answers.iter().flatten().all(Result::is_ok), "{answers:?}");
    assert_eq!(ids(&reader.take(400).await), ids_of(&events("k", 0..400)));
}

/// A key stays in its partition, over a restart too.
pub async fn a_key_has_one_partition<S: HasBroker>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let mut partitions = BTreeSet::new();
    for round in 0..3 {
        let mut reader = Reader::join(&subject, &setup, &billing()).await;
        publish(subject.broker().as_ref(), &orders(), events("k", round * 10..round * 10 + 10)).await;
        let came = reader.take(10).await;
        partitions.extend(came.iter().map(|delivery| delivery.position.partition));
        complete(came);
        drop(reader);
        subject = subject.reopen(&setup).await;
    }
    assert_eq!(partitions.len(), 1, "one key in {partitions:?}");
}

/// Attributes, extensions in their order, bytes that are no text: all come as they were sent.
pub async fn an_event_comes_as_it_was_published<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let empty = crossdock_core::Event { data: Bytes::new(), content_type: None, ..event("empty", "k") };
    let large = crossdock_core::Event { data: Bytes::from(vec![7; 128 << 10]), ..event("large", "k") };
    for sent in [whole_event("whole"), empty, large] {
        publish(subject.broker().as_ref(), &orders(), vec![sent.clone()]).await;
        assert_same(&reader.take(1).await[0].event, &sent);
    }
}

/// Events without a key have no order; they come all the same.
pub async fn events_without_a_key_come_too<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let mut sent = events("none", 0..20);
    sent.iter_mut().for_each(|event| event.key = None);
    publish(subject.broker().as_ref(), &orders(), sent.clone()).await;
    let came = reader.take(20).await;
    assert!(came.iter().all(|delivery| delivery.event.key.is_none()));
    assert_eq!(ids(&came).into_iter().collect::<BTreeSet<_>>(), ids_of(&sent).into_iter().collect());
}

/// A backlog comes in batches that a consumer has room for; the reader checks every one of them.
pub async fn a_backlog_comes_in_bounded_batches<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    reader.until_assigned(2).await;
    for call in 0..8 {
        let mut batch = events("k", call * 100..call * 100 + 100);
        batch.iter_mut().for_each(|event| event.data = Bytes::from(vec![b'x'; 6 << 10]));
        publish(subject.broker().as_ref(), &orders(), batch).await;
    }
    assert_eq!(ids(&reader.take(800).await), ids_of(&events("k", 0..800)));
}

/// An event that is larger than a batch comes alone.
pub async fn an_event_larger_than_a_batch_comes_alone<S: HasBroker>() {
    let setup = crate::Setup { event_bytes_max: 4 << 20, ..setup() };
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let mut sent = events("k", 0..3);
    sent[1].data = Bytes::from(vec![9; Batch::BYTES_MAX + 1]);
    publish(subject.broker().as_ref(), &orders(), sent.clone()).await;
    let came = reader.take(3).await;
    came.iter().zip(&sent).for_each(|(came, sent)| assert_same(&came.event, sent));
}

/// Where `publish` tells a position, the event stands there, and positions of a partition ascend.
pub async fn positions_that_are_told_are_true<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let answers = publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let came = reader.take(10).await;
    let mut last = None;
    for (answer, came) in answers.iter().zip(&came) {
        match answer {
            Published::New(Some(position)) => assert_eq!(position, &came.position),
            Published::New(None) => assert!(!S::TELLS_POSITIONS, "this broker tells positions"),
            Published::Duplicate => panic!("{} is new", came.event.id),
        }
        assert!(last < Some(came.position.offset));
        last = Some(came.position.offset);
    }
}

/// Nothing published is answered by nothing.
pub async fn an_empty_batch_is_answered_by_an_empty_list<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    assert_eq!(subject.broker().publish(&orders(), Vec::new()).await, Vec::new());
}

/// A topic that is not there is named in the answer for each event, and in the refusal of a subscription.
pub async fn an_unknown_topic_is_refused<S: HasBroker>() {
    if !S::KNOWS_TOPICS {
        return;
    }
    let setup = setup();
    let subject = S::create(&setup).await;
    let unknown = topic("nobody-made-this");
    let answers = subject.broker().publish(&unknown, events("k", 0..2)).await;
    assert_eq!(answers, vec![Err(PublishError::UnknownTopic(unknown.clone())); 2]);
    match subject.broker().subscribe(&billing(), std::slice::from_ref(&unknown)).await {
        Err(BrokerError::UnknownTopic(named)) => assert_eq!(named, unknown),
        Err(other) => panic!("the refusal does not name the topic: {other}"),
        Ok(_) => panic!("a topic that is not there cannot be subscribed to"),
    }
}

/// One event is too large: it is refused with both sizes, the others of the call are taken.
pub async fn a_too_large_event_is_refused_alone<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let mut sent = events("k", 0..3);
    sent[1].data = Bytes::from(vec![0; setup.event_bytes_max * 2]);
    let answers = subject.broker().publish(&orders(), sent).await;
    match answers.as_slice() {
        [Ok(_), Err(PublishError::TooLarge { bytes, bytes_max }), Ok(_)] => assert!(bytes > bytes_max),
        other => panic!("only the second is too large: {other:?}"),
    }
    assert_eq!(ids(&reader.take(2).await), ["k-0", "k-2"]);
}

/// A paused partition says nothing while another one goes on; resumed, it goes on where it stood.
pub async fn a_paused_partition_is_silent_and_loses_nothing<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let (paused, other) = two_keys(&subject, &mut reader).await;
    let partition = paused.1;
    reader.subscription.pause(&partition);
    publish(subject.broker().as_ref(), &orders(), events(&paused.0, 100..120)).await;
    let came = reader.rest(subject.broker().as_ref(), &orders(), &[&other.0]).await;
    assert!(came.is_empty(), "a paused partition gave {came:?}");
    reader.subscription.resume(&partition);
    assert_eq!(ids(&reader.take(20).await), ids_of(&events(&paused.0, 100..120)));
}

type KeyIn = (String, crossdock_core::Partition);

/// Two keys in different partitions.
async fn two_keys<S: HasBroker>(subject: &S, reader: &mut Reader) -> (KeyIn, KeyIn) {
    let mut found: Vec<KeyIn> = Vec::new();
    for n in 0..64 {
        let key = format!("key{n}");
        publish(subject.broker().as_ref(), &orders(), events(&key, 0..1)).await;
        let batch = reader.batch().await;
        complete(batch.deliveries);
        if found.iter().all(|(_, partition)| *partition != batch.partition) {
            found.push((key, batch.partition));
        }
        if let [one, other] = found.as_slice() {
            return (one.clone(), other.clone());
        }
    }
    panic!("64 keys share one of two partitions");
}

/// Waits that are dropped at any moment lose nothing and repeat nothing.
pub async fn a_dropped_wait_loses_nothing<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    let broker = subject.broker();
    let publisher = tokio::spawn(async move {
        for call in 0..50 {
            publish(broker.as_ref(), &orders(), events("k", call * 4..call * 4 + 4)).await;
        }
    });
    let (mut came, mut waits, until) = (Vec::new(), 0u64, Instant::now() + Duration::from_secs(15));
    while came.len() < 200 {
        assert!(Instant::now() < until, "after {waits} waits only {} of 200 came", came.len());
        waits += 1;
        match polled(reader.subscription.next(), waits % 5).await {
            Some(Ok(Signal::Batch(batch))) => came.extend(batch.deliveries),
            Some(Ok(Signal::Assigned(_))) | None => {}
            Some(Ok(Signal::Revoked(revocation))) => panic!("{:?} is revoked", revocation.partitions),
            Some(Err(error)) => panic!("the subscription broke: {error}"),
        }
    }
    publisher.await.expect("the publisher ends well");
    assert_eq!(ids(&came), ids_of(&events("k", 0..200)));
}

/// Polls a future so many times and once more, with room for others in between, then drops it: whatever it waits for
/// inside, it is dropped there once.
async fn polled<T>(mut future: impl Future<Output = T> + Unpin, times: u64) -> Option<T> {
    for _ in 0..times {
        if let Poll::Ready(output) = futures::poll!(&mut future) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    futures::FutureExt::now_or_never(future)
}

/// A member that waits hears of an event soon: half of the tries are faster than what the subject promises.
pub async fn a_waiting_member_is_woken_soon<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    reader.until_assigned(2).await;
    let mut waits = Vec::new();
    for n in 0..15 {
        let broker = subject.broker();
        let publisher = tokio::spawn(async move {
            // Long enough for the reader to have begun to wait, however the broker waits.
            tokio::time::sleep(Duration::from_millis(20)).await;
            publish(broker.as_ref(), &orders(), events("k", n..n + 1)).await;
            Instant::now()
        });
        complete(reader.take(1).await);
        let heard = Instant::now();
        let published = publisher.await.expect("the publisher ends well");
        waits.push(heard.saturating_duration_since(published));
    }
    waits.sort_unstable();
    assert!(waits[7] <= S::WAKE_MAX, "half of the waits took more than {:?}: {waits:?}", S::WAKE_MAX);
}

/// Whoever waits when the broker is closed is told.
pub async fn a_closed_broker_ends_its_subscriptions<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    reader.until_assigned(2).await;
    let waiting = tokio::spawn(async move { reader.subscription.next().await.err() });
    let subject = subject.reopen(&setup).await;
    let error =
        timeout(Duration::from_secs(20), waiting).await.expect("the wait ends").expect("it ends well");
    assert!(matches!(error, Some(BrokerError::Closed)), "the wait ended with {error:?}");
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..1)).await;
    assert_eq!(ids(&reader.take(1).await), ["k-0"]);
}
