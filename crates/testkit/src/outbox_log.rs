//! Promises of an outbox to the relay that reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use crossdock_core::{Event, OutboxEvent, OutboxPage, OutboxReader, PageMark, RefusedEvent, StoreError};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    HasOutboxLog,
    eventually::eventually,
    sample::{event, events, now, orders, setup, topic, whole_event},
};

/// How long it may take until a lost reader is followed, and what is read there: the contract's half a minute, and time to
/// notice.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(45);
/// How long one call may take, under load.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

async fn try_claim<S: HasOutboxLog>(subject: &S) -> Option<Box<dyn OutboxReader>> {
    let claimed = timeout(ANSWERED_WITHIN, subject.outbox_log().claim()).await;
    claimed.expect("claim answers").expect("the outbox is there")
}

/// Becomes the reader, as soon as the one before is out of office.
async fn claim<S: HasOutboxLog>(subject: &S) -> Box<dyn OutboxReader> {
    let until = Instant::now() + FOLLOWED_WITHIN;
    loop {
        if let Some(reader) = try_claim(subject).await {
            return reader;
        }
        assert!(Instant::now() < until, "a reader that is gone is followed");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn read(reader: &dyn OutboxReader) -> OutboxPage {
    let page = timeout(ANSWERED_WITHIN, reader.read()).await.expect("read answers").expect("it may read");
    assert_eq!(page.malformed, [], "these rows are events");
    assert!(page.events.len() <= OutboxPage::EVENTS_MAX, "{} events in a page", page.events.len());
    let bytes: usize = page.events.iter().map(|read| read.event.data.len()).sum();
    assert!(bytes <= OutboxPage::BYTES_MAX || page.events.len() == 1, "{bytes} bytes in a page");
    assert!(!page.more || !page.events.is_empty(), "an empty page says that there is more");
    page
}

/// Reads until there are `count` events; panics if more come. Gives the mark of the last page with them.
async fn take(reader: &dyn OutboxReader, count: usize) -> (Vec<OutboxEvent>, PageMark) {
    let until = Instant::now() + ANSWERED_WITHIN;
    let mut all: Vec<OutboxEvent> = Vec::new();
    loop {
        let page = read(reader).await;
        all.extend(page.events);
        assert!(all.len() <= count, "{} events where {count} were written", all.len());
        if all.len() == count {
            return (all, page.mark);
        }
        assert!(Instant::now() < until, "{} of {count} events came", all.len());
        if !page.more {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn advance(reader: &dyn OutboxReader, mark: PageMark) {
    let advanced = timeout(ANSWERED_WITHIN, reader.advance(mark, Vec::new())).await;
    advanced.expect("advance answers").expect("it may advance");
}

async fn release(reader: Box<dyn OutboxReader>) {
    let released = timeout(ANSWERED_WITHIN, reader.release()).await;
    released.expect("release answers").expect("it lets go");
}

fn ids(events: &[OutboxEvent]) -> Vec<&str> {
    events.iter().map(|read| read.event.id.as_str()).collect()
}

fn by_key(events: &[OutboxEvent]) -> BTreeMap<&str, Vec<&str>> {
    let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for read in events {
        let key = read.event.key.as_deref().expect("the suites' events have keys");
        keys.entry(key).or_default().push(&read.event.id);
    }
    keys
}

/// Events of several topics and keys come once, whole, those of a key in the order in which they were committed.
pub async fn events_come_once_in_the_order_of_their_key<S: HasOutboxLog>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    for n in 0..20 {
        for (topic, key) in [(orders(), "a"), (topic("returns"), "b"), (orders(), "c")] {
            subject.write(&topic, events(key, n * 3..n * 3 + 3)).await;
        }
    }
    let reader = claim(&subject).await;
    let (came, _) = take(&*reader, 180).await;
    for (key, ids) in by_key(&came) {
        let expected: Vec<_> = (0..60).map(|n| format!("{key}-{n}")).collect();
        assert_eq!(ids, expected, "the order of {key}");
    }
    for read in &came {
        let expected = if read.event.key.as_deref() == Some("b") { topic("returns") } else { orders() };
        assert_eq!(read.topic, expected);
    }
    let rows: BTreeSet<_> = came.iter().map(|read| read.seq).collect();
    assert_eq!(rows.len(), 180, "rows have numbers of their own");
    assert_eq!(ids(&read(&*reader).await.events), [""; 0], "once for each reader");
}

/// What is written is what is read.
pub async fn an_event_is_read_as_it_was_written<S: HasOutboxLog>() {
    let subject = S::create(&setup()).await;
    let id = "018f3f1e-8f6a-7c3a-9a51-3d1f0f5b2c11";
    let bare = Event {
        subject: None,
        time: None,
        schema: None,
        extensions: Vec::new(),
        data: Bytes::new(),
        ..event("018f3f1e-8f6a-7c3a-9a51-3d1f0f5b2c12", "k")
    };
    let sent = vec![whole_event(id), bare];
    subject.write(&orders(), sent.clone()).await;
    let reader = claim(&subject).await;
    let (came, _) = take(&*reader, 2).await;
    assert_eq!(came.into_iter().map(|read| read.event).collect::<Vec<_>>(), sent);
}

/// A backlog comes in pages that have a bound, and each but the last says that there is more.
pub async fn a_backlog_comes_in_bounded_pages<S: HasOutboxLog>() {
    let subject = S::create(&setup()).await;
    for n in 0..12 {
        subject.write(&orders(), events(&format!("k{n}"), 0..1000)).await;
    }
    let large = |n| Event { data: Bytes::from(vec![b'x'; 1 << 20]), ..event(&format!("large{n}"), "large") };
    subject.write(&orders(), (0..9).map(large).collect()).await;
    let reader = claim(&subject).await;
    let (mut count, mut pages) = (0, 0);
    loop {
        let page = read(&*reader).await;
        (count, pages) = (count + page.events.len(), pages + 1);
        advance(&*reader, page.mark).await;
        if !page.more {
            break;
        }
    }
    assert_eq!(count, 12_009);
    assert!(pages >= 4, "{pages} pages");
}

/// An empty outbox answers at once, as often as it is asked; what is written later comes then.
pub async fn what_is_written_later_comes_too<S: HasOutboxLog>() {
    let subject = S::create(&setup()).await;
    let reader = claim(&subject).await;
    for n in 0..10 {
        let page = read(&*reader).await;
        assert!(page.events.is_empty() && !page.more);
        subject.write(&orders(), events("k", n * 5..n * 5 + 5)).await;
        let (came, mark) = take(&*reader, 5).await;
        assert_eq!(ids(&came)[0], format!("k-{}", n * 5));
        advance(&*reader, mark).await;
    }
}

/// Writers and a reader that advances at the same time: everything comes once, in order.
pub async fn writing_reading_and_advancing_go_on_side_by_side<S: HasOutboxLog>() {
    let subject = S::create(&setup()).await;
    let reader = claim(&subject).await;
    let (write, read_all) = (
        async {
            for n in 0..60 {
                subject.write(&orders(), events("a", n * 4..n * 4 + 4)).await;
                subject.write(&orders(), events("b", n * 4..n * 4 + 4)).await;
            }
        },
        async {
            let until = Instant::now() + 3 * ANSWERED_WITHIN;
            let mut all = Vec::new();
            while all.len() < 480 {
                assert!(Instant::now() < until, "{} of 480 events came", all.len());
                let page = read(&*reader).await;
                let (next, ()) = tokio::join!(read(&*reader), advance(&*reader, page.mark));
                all.extend(page.events);
                all.extend(next.events);
                sleep(Duration::from_millis(1)).await;
            }
            all
        },
    );
    let ((), all) = tokio::join!(write, read_all);
    for (key, ids) in by_key(&all) {
        assert_eq!(ids, (0..240).map(|n| format!("{key}-{n}")).collect::<Vec<_>>(), "the order of {key}");
    }
}

/// What was advanced before a reader let go does not come again; what was not comes again to the next one, in order.
pub async fn what_was_not_advanced_comes_again<S: HasOutboxLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    for life in 0..3 {
        let first = life * 10;
        subject.write(&orders(), events("k", first..first + 5)).await;
        let reader = claim(&subject).await;
        let (_, mark) = take(&*reader, 5).await;
        subject.write(&orders(), events("k", first + 5..first + 10)).await;
        let (came, _) = take(&*reader, 5).await;
        let left: Vec<_> = ids(&came).into_iter().map(str::to_owned).collect();
        advance(&*reader, mark).await;
        release(reader).await;
        if life == 1 {
            subject = subject.reopen(&setup).await;
        }
        let next = claim(&subject).await;
        let (again, mark) = take(&*next, 5).await;
        assert_eq!(ids(&again), left, "life {life}");
        advance(&*next, mark).await;
        release(next).await;
    }
    let reader = claim(&subject).await;
    assert_eq!(ids(&read(&*reader).await.events), [""; 0], "all is advanced");
}

/// Pages may be passed over: the last mark counts for all before it, and for none behind it.
pub async fn a_mark_counts_for_all_before_it<S: HasOutboxLog>() {
    let subject = S::create(&setup()).await;
    let reader = claim(&subject).await;
    let mut marks = Vec::new();
    for n in 0..3 {
        subject.write(&orders(), events("k", n..n + 1)).await;
        marks.push(take(&*reader, 1).await.1);
    }
    assert!(marks.is_sorted(), "marks ascend: {marks:?}");
    advance(&*reader, marks[1]).await;
    release(reader).await;
    let next = claim(&subject).await;
    assert_eq!(ids(&take(&*next, 1).await.0), ["k-2"]);
}

/// A crash at any moment loses nothing that was not advanced, and keeps the order.
pub async fn a_crash_of_the_relay_loses_nothing<S: HasOutboxLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    subject.write(&orders(), events("k", 0..10)).await;
    let mut advanced = 0;
    for life in 0..2 {
        let reader = claim(&subject).await;
        let until = Instant::now() + ANSWERED_WITHIN;
        let mut came = Vec::new();
        while came.last().is_none_or(|last: &String| *last != format!("k-{}", 9 + life * 10)) {
            assert!(Instant::now() < until, "life {life}: {came:?}");
            came.extend(read(&*reader).await.events.into_iter().map(|read| read.event.id));
        }
        // What was advanced shortly before the crash may come again.
        let first: usize = came[0][2..].parse().expect("key-number");
        assert!(first <= advanced, "life {life} begins with {first}, and {advanced} were advanced");
        let expected: Vec<_> = (first..10 + life * 10).map(|n| format!("k-{n}")).collect();
        assert_eq!(came, expected, "life {life}");
        subject.write(&orders(), events("k", 10 + life * 10..20 + life * 10)).await;
        let (_, mark) = take(&*reader, 10).await;
        if life == 0 {
            advance(&*reader, mark - 1).await;
            advanced = 10;
        }
        subject = subject.crash(&setup).await;
        drop(reader);
    }
}

/// There is one reader at a time; the next one comes as soon as it lets go.
pub async fn there_is_one_reader_at_a_time<S: HasOutboxLog>() {
    let subject = S::create(&setup()).await;
    let reader = claim(&subject).await;
    for _ in 0..20 {
        assert!(try_claim(&subject).await.is_none(), "there is a reader");
        reader.renew().await.expect("it stays in office");
        sleep(Duration::from_millis(20)).await;
    }
    release(reader).await;
    assert!(try_claim(&subject).await.is_some(), "it has let go");
}

/// A reader that is lost without a word is followed within half a minute; the next one gets what it had not advanced, and it
/// can do nothing any more.
pub async fn a_lost_reader_is_followed_and_fenced<S: HasOutboxLog>() {
    let subject = S::create(&setup()).await;
    subject.write(&orders(), events("k", 0..5)).await;
    let lost = claim(&subject).await;
    let (_, mark) = take(&*lost, 5).await;
    let next = claim(&subject).await;
    let (came, next_mark) = take(&*next, 5).await;
    assert_eq!(ids(&came), ["k-0", "k-1", "k-2", "k-3", "k-4"]);
    let refused = vec![RefusedEvent { seq: came[0].seq, reason: "late".to_owned() }];
    for answer in [lost.advance(mark, refused).await, lost.renew().await, lost.read().await.map(drop)] {
        assert!(matches!(answer, Err(StoreError::Fenced(_))), "{answer:?}");
    }
    // Whether it lets go in silence or is told, the other one stays.
    drop(lost.release().await);
    next.renew().await.expect("it is in office");
    assert_eq!(subject.outbox_log().status().await.expect("a status").refused, 0);
    release(next).await;
    let third = claim(&subject).await;
    let (again, mark) = take(&*third, 5).await;
    assert_eq!(again.len(), 5, "what the lost one advanced did not count, and the mark was {next_mark}");
    advance(&*third, mark).await;
}

/// What was refused for good is counted until somebody deals with it, and does not come again.
pub async fn what_is_refused_is_counted<S: HasOutboxLog>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    subject.write(&orders(), events("k", 0..4)).await;
    let reader = claim(&subject).await;
    let (came, mark) = take(&*reader, 4).await;
    let refused = [1, 3].map(|n| RefusedEvent { seq: came[n].seq, reason: "too large \u{1f980}".to_owned() });
    reader.advance(mark, refused.to_vec()).await.expect("it may advance");
    release(reader).await;
    for _ in 0..2 {
        let status = subject.outbox_log().status().await.expect("a status");
        assert_eq!((status.refused, status.waiting), (2, 0));
        subject = subject.reopen(&setup).await;
    }
    let reader = claim(&subject).await;
    assert_eq!(ids(&read(&*reader).await.events), [""; 0]);
}

/// The status tells who reads, how much waits and since when.
pub async fn the_status_tells_how_far_the_relay_is<S: HasOutboxLog>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let status = async || subject.outbox_log().status().await.map_err(|error| error.to_string());
    let empty = status().await.expect("a status");
    assert_eq!((empty.reader, empty.waiting, empty.oldest_at, empty.refused), (None, 0, None, 0));
    let began = now(&setup).min(jiff::Timestamp::now()) - Duration::from_secs(60);
    subject.write(&orders(), events("k", 0..7)).await;
    let reader = claim(&subject).await;
    let (_, mark) = take(&*reader, 7).await;
    let waits = status().await.expect("a status");
    assert!(waits.reader.is_some() && waits.waiting == 7, "read is not advanced: {waits:?}");
    assert!(waits.oldest_at.is_some_and(|at| at >= began), "{waits:?}");
    advance(&*reader, mark).await;
    eventually("nothing waits any more", async || {
        let seen = status().await?;
        if seen.waiting == 0 && seen.oldest_at.is_none() { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    release(reader).await;
    assert_eq!(status().await.expect("a status").reader, None);
}
