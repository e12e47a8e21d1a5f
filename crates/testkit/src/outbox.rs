//! Promises of an outbox: what it answered for is there, once, in order.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use crossdock_core::{Event, Outbox, PublishError, Published, Topic};
use tokio::time::timeout;

use crate::{
    HasOutbox, Setup,
    sample::{event, events, orders, setup, setup_of, topic, whole_event},
};

type Answers = Vec<Result<Published, PublishError>>;

/// How long a commit may take, under load.
const COMMIT_MAX: Duration = Duration::from_secs(30);

async fn append(outbox: &dyn Outbox, topic: &Topic, events: Vec<Event>) -> Answers {
    let count = events.len();
    let answers = timeout(COMMIT_MAX, outbox.append(topic, events)).await.expect("append answers");
    assert_eq!(answers.len(), count, "one answer for each event");
    answers
}

/// `new` or `duplicate` for each event; panics on a refusal.
fn words(answers: &Answers) -> Vec<&'static str> {
    let word = |answer: &Result<Published, PublishError>| match answer {
        Ok(Published::New(_)) => "new",
        Ok(Published::Duplicate) => "duplicate",
        Err(error) => panic!("refused: {error}"),
    };
    answers.iter().map(word).collect()
}

async fn ids<S: HasOutbox>(subject: &S, topic: &Topic, key: &str) -> Vec<String> {
    let taken = subject.taken(topic).await;
    taken.into_iter().filter(|event| event.key.as_deref() == Some(key)).map(|event| event.id).collect()
}

fn names(key: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{key}-{number}")).collect()
}

/// Events are answered one by one and stand in the order in which they were given, as they were given.
pub async fn events_are_taken_in_order_and_whole<S: HasOutbox>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let outbox = subject.outbox();
    let whole = whole_event("whole");
    assert_eq!(words(&append(outbox.as_ref(), &orders(), vec![whole.clone()]).await), ["new"]);
    for call in 0..5 {
        let answers = append(outbox.as_ref(), &orders(), events("k", call * 20..call * 20 + 20)).await;
        assert_eq!(words(&answers), vec!["new"; 20]);
    }
    assert_eq!(ids(&subject, &orders(), "k").await, names("k", 0..100));
    assert!(subject.taken(&orders()).await.contains(&whole), "bytes and attributes are kept");
    assert_eq!(append(outbox.as_ref(), &orders(), Vec::new()).await, Vec::new());
}

/// A second event with topic, source and id of a first one is dropped: in one call, in a later one, after a restart and
/// after a crash. The first one stays as it was.
pub async fn a_duplicate_is_dropped_and_named<S: HasOutbox>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let again = |n: usize| Event { data: Bytes::from_static(b"other"), ..event(&format!("k-{n}"), "k") };
    let first = event("k-0", "k");
    let answers =
        append(subject.outbox().as_ref(), &orders(), vec![first.clone(), again(0), again(1), again(1)]).await;
    assert_eq!(words(&answers), ["new", "duplicate", "new", "duplicate"]);
    for round in 0..4 {
        let n = round + 2;
        let call = vec![again(n), again(0), again(1), again(n)];
        let answers = append(subject.outbox().as_ref(), &orders(), call).await;
        assert_eq!(words(&answers), ["new", "duplicate", "duplicate", "duplicate"], "round {round}");
        subject = match round {
            0 => subject,
            1 => subject.reopen(&setup).await,
            _ => subject.crash(&setup).await,
        };
    }
    let taken = subject.taken(&orders()).await;
    assert_eq!(
        taken.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(),
        ["k-0", "k-1", "k-2", "k-3", "k-4", "k-5"]
    );
    assert_eq!(taken[0], first, "the first one stays");
}

/// The same id from another source or on another topic is another event.
pub async fn another_source_or_topic_is_no_duplicate<S: HasOutbox>() {
    let setup = setup_of(&[("billing", &["orders", "returns"])], &[]);
    let subject = S::create(&setup).await;
    let one = event("e", "k");
    let other_source = Event { source: "/other".to_owned(), ..one.clone() };
    // Not the same pair, though the texts run together to the same one.
    let run_together =
        [("a", "bc"), ("ab", "c")].map(|(source, id)| Event { source: source.to_owned(), ..event(id, "k") });
    let call = [vec![one.clone(), other_source], run_together.to_vec()].concat();
    assert_eq!(words(&append(subject.outbox().as_ref(), &orders(), call).await), ["new"; 4]);
    assert_eq!(words(&append(subject.outbox().as_ref(), &topic("returns"), vec![one]).await), ["new"]);
}

/// A duplicate is known to the end of the window, whatever was taken in between, over restarts too.
pub async fn a_duplicate_is_known_to_the_end_of_the_window<S: HasOutbox>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    append(subject.outbox().as_ref(), &orders(), events("old", 0..300)).await;
    let step = setup.dedupe_window / 5;
    for round in 0..4 {
        setup.clock.advance(step);
        append(subject.outbox().as_ref(), &orders(), events("new", round * 300..round * 300 + 300)).await;
        subject = subject.reopen(&setup).await;
    }
    setup.clock.advance(step - Duration::from_secs(60));
    let answers = append(subject.outbox().as_ref(), &orders(), events("old", 0..300)).await;
    assert_eq!(words(&answers), vec!["duplicate"; 300]);
    let answers = append(subject.outbox().as_ref(), &orders(), events("new", 0..1200)).await;
    assert_eq!(words(&answers), vec!["duplicate"; 1200]);
    let answers = append(subject.outbox().as_ref(), &orders(), events("newest", 0..300)).await;
    assert_eq!(words(&answers), vec!["new"; 300]);
}

/// One id from many sides at once is taken once.
pub async fn one_id_from_many_sides_is_taken_once<S: HasOutbox>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    for round in 0..10 {
        let rivals = (0..8).map(|_| {
            let outbox = subject.outbox();
            let call = events("k", round * 3..round * 3 + 3);
            tokio::spawn(async move { append(outbox.as_ref(), &orders(), call).await })
        });
        let mut taken = [0; 3];
        for rival in rivals.collect::<Vec<_>>() {
            let answers = rival.await.expect("the rival ends well");
            for (taken, word) in taken.iter_mut().zip(words(&answers)) {
                *taken += usize::from(word == "new");
            }
        }
        assert_eq!(taken, [1; 3], "round {round}");
    }
    assert_eq!(ids(&subject, &orders(), "k").await.len(), 30);
}

/// Whatever was answered for is there after a crash, in the order of its key.
pub async fn what_was_answered_for_survives_a_crash<S: HasOutbox>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    for life in 0..3 {
        let writers = (0..6).map(|writer| {
            let outbox = subject.outbox();
            tokio::spawn(async move {
                for call in life * 10..life * 10 + 10 {
                    let call = events(&format!("w{writer}"), call * 3..call * 3 + 3);
                    words(&append(outbox.as_ref(), &orders(), call).await);
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("the writer ends well");
        }
        subject = subject.crash(&setup).await;
        for writer in 0..6 {
            let key = format!("w{writer}");
            assert_eq!(ids(&subject, &orders(), &key).await, names(&key, 0..(life + 1) * 30), "life {life}");
        }
    }
}

/// A large call is taken whole, in order.
pub async fn a_large_call_is_taken_whole<S: HasOutbox>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let answers = append(subject.outbox().as_ref(), &orders(), events("k", 0..5000)).await;
    assert_eq!(words(&answers), vec!["new"; 5000]);
    assert_eq!(ids(&subject, &orders(), "k").await, names("k", 0..5000));
}

/// One event is too large: it is refused with both sizes and leaves nothing behind; the others are taken.
pub async fn a_too_large_event_leaves_nothing_behind<S: HasOutbox>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut call = events("k", 0..3);
    call[1].data = Bytes::from(vec![0; setup.event_bytes_max * 2]);
    let answers = append(subject.outbox().as_ref(), &orders(), call).await;
    match answers.as_slice() {
        [Ok(_), Err(PublishError::TooLarge { bytes, bytes_max }), Ok(_)] => assert!(bytes > bytes_max),
        other => panic!("only the second is too large: {other:?}"),
    }
    assert_eq!(ids(&subject, &orders(), "k").await, ["k-0", "k-2"]);
    assert_eq!(words(&append(subject.outbox().as_ref(), &orders(), events("k", 1..2)).await), ["new"]);
}

/// An event inside the limit is taken.
pub async fn an_event_within_the_limit_is_taken<S: HasOutbox>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let large =
        Event { data: Bytes::from(vec![b'x'; setup.event_bytes_max * 9 / 10]), ..event("large", "k") };
    assert_eq!(words(&append(subject.outbox().as_ref(), &orders(), vec![large.clone()]).await), ["new"]);
    assert_eq!(subject.taken(&orders()).await, [large]);
}

/// A topic that is not there is named for each event.
pub async fn an_unknown_topic_takes_nothing<S: HasOutbox>() {
    if !<S as HasOutbox>::KNOWS_TOPICS {
        return;
    }
    let setup = setup();
    let subject = S::create(&setup).await;
    let unknown = topic("nobody-made-this");
    let answers = append(subject.outbox().as_ref(), &unknown, events("k", 0..2)).await;
    assert_eq!(answers, vec![Err(PublishError::UnknownTopic(unknown)); 2]);
}

/// With more waiting than the queue takes, some calls are refused: a refused event is not there, no later event of its key
/// in its call is, and it is new when it is sent again.
pub async fn a_busy_outbox_leaves_nothing_behind<S: HasOutbox>() {
    let setup = Setup { queue_events_max: 40, ..setup() };
    let subject = S::create(&setup).await;
    let mut refusals = 0;
    for round in 0..20 {
        refusals += press(&subject, round).await;
        if refusals > 0 {
            break;
        }
    }
    assert!(refusals > 0 || !S::REFUSES_WHEN_BUSY, "600 events at once fit a queue of 40");
}

/// Sends sixty calls of ten at once, then again what was refused. Answers with how many calls were.
async fn press<S: HasOutbox>(subject: &S, round: usize) -> usize {
    let writers = (0..60).map(|writer| {
        let outbox = subject.outbox();
        let key = format!("r{round}w{writer}");
        let call = events(&key, 0..10);
        tokio::spawn(async move { (key, append(outbox.as_ref(), &orders(), call).await) })
    });
    let mut refused = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        let (key, answers) = writer.await.expect("the writer ends well");
        let count = answers.iter().take_while(|answer| answer.is_ok()).count();
        for answer in &answers[count..] {
            assert_eq!(answer, &Err(PublishError::Busy), "{key} was taken out of order: {answers:?}");
        }
        assert_eq!(ids(subject, &orders(), &key).await, names(&key, 0..count));
        if count < 10 {
            refused.push((key, count));
        }
    }
    for (key, count) in &refused {
        let answers = append(subject.outbox().as_ref(), &orders(), events(key, *count..10)).await;
        assert_eq!(words(&answers), vec!["new"; 10 - count], "{key} had left something behind");
        assert_eq!(ids(subject, &orders(), key).await, names(key, 0..10));
    }
    refused.len()
}

/// A call that nobody waits for any more is taken whole, in part from the front of each key, or not at all; sent again,
/// everything is there once.
pub async fn a_dropped_call_can_be_sent_again<S: HasOutbox>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    for round in 0..20u64 {
        let outbox = subject.outbox();
        let key = format!("r{round}");
        let call = events(&key, 0..50);
        let wait = Duration::from_micros(round * 150);
        // A call that was quicker than the wait is answered; the second one must find it.
        let answered = timeout(wait, outbox.append(&orders(), call.clone())).await.is_ok();
        let answers = append(outbox.as_ref(), &orders(), call).await;
        let again = words(&answers);
        assert!(!answered || again == ["duplicate"; 50], "what was answered for is known");
        assert_eq!(ids(&subject, &orders(), &key).await, names(&key, 0..50));
    }
    let taken = subject.taken(&orders()).await;
    let different: BTreeSet<_> = taken.iter().map(|event| &event.id).collect();
    assert_eq!((taken.len(), different.len()), (1000, 1000));
}
