//! Promises about held events: what waits in the store, in which order, and what becomes of it.

use std::{sync::Arc, time::Duration};

use crossdock_core::{
    HeldEvent, HeldId, HeldKey, NewHeld, Partition, Placed, Position, Settled, Settlement, hash_key,
};
use jiff::Timestamp;

use crate::{
    HasStore,
    sample::{
        DAY, SECOND, attempt, billing, flow, head, held, letter, now, orders, partition, position, setup,
        whole_event,
    },
};

pub(crate) async fn settle<S: HasStore>(subject: &S, batch: Vec<Settlement>) -> Vec<Settled> {
    let count = batch.len();
    let settled = subject.settlements().settle(None, batch).await.expect("the store settles");
    assert_eq!(settled.len(), count, "one answer for each settlement");
    settled
}

/// Holds deliveries in one settlement; answers with their ids.
pub(crate) async fn hold<S: HasStore>(subject: &S, rows: Vec<NewHeld>) -> Vec<Placed> {
    match settle(subject, vec![Settlement::Hold(rows)]).await.remove(0) {
        Settled::Held(placed) => placed,
        Settled::Done => panic!("held deliveries are answered with their ids"),
    }
}

/// Holds deliveries that are new.
pub(crate) async fn hold_new<S: HasStore>(subject: &S, rows: Vec<NewHeld>) -> Vec<HeldId> {
    let placed = hold(subject, rows).await;
    assert!(placed.iter().all(|placed| placed.new), "they are new");
    placed.into_iter().map(|placed| placed.id).collect()
}

async fn due<S: HasStore>(subject: &S, until: Timestamp) -> Vec<HeldEvent> {
    subject.held().due(&billing(), &partition(), until, None, 1000).await.expect("the store reads")
}

pub(crate) async fn behind<S: HasStore>(subject: &S, key: &str, after: HeldId) -> Vec<HeldEvent> {
    let rows = subject.held().behind(&billing(), &partition(), hash_key(key), after, 1000).await;
    rows.expect("the store reads")
}

async fn adopt<S: HasStore>(subject: &S, partition: &Partition) -> Vec<(u64, u64)> {
    let adopted = subject.held().adopt(&billing(), partition).await.expect("the store adopts");
    assert_eq!((&adopted.owner.flow, &adopted.owner.partition), (&billing(), partition));
    let mut keys: Vec<_> = adopted.keys.into_iter().map(|HeldKey { hash, count }| (hash, count)).collect();
    keys.sort_unstable();
    keys
}

pub(crate) fn offsets(rows: &[HeldEvent]) -> Vec<u64> {
    rows.iter().map(|row| row.held.position.offset).collect()
}

fn ids(rows: &[HeldEvent]) -> Vec<HeldId> {
    rows.iter().map(|row| row.id).collect()
}

pub(crate) fn delivered(held: HeldId) -> Settlement {
    Settlement::Delivered { held: Some(held), replay: None }
}

/// Two held events with everything that they carry.
#[track_caller]
pub(crate) fn assert_same(came: &NewHeld, sent: &NewHeld) {
    assert_eq!(format!("{came:?}"), format!("{sent:?}"));
}

/// Due time, attempts, counts and the event itself come back as they were, after a restart and after a crash.
pub async fn a_held_event_survives_whole<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let due_at = now(&setup) + 90 * SECOND;
    let full = NewHeld {
        event: Arc::new(whole_event("whole")),
        key: Some("a \u{0}\u{1f980} key".to_owned()),
        key_hash: u64::MAX - 17,
        attempts: vec![
            attempt(1, due_at),
            crossdock_core::Attempt { times: 40, replay: Some("r1".to_owned()), ..attempt(2, due_at) },
        ],
        tried: 2,
        ..head(1 << 40, "k", due_at)
    };
    let bare = NewHeld { key: None, key_hash: 0, ..held(7, "k") };
    let ids = hold_new(&subject, vec![full.clone(), bare.clone()]).await;
    for life in 0..3 {
        for (id, sent) in ids.iter().zip([&full, &bare]) {
            let rows = subject.held().of_event(&sent.position).await.expect("the store reads");
            assert_eq!(rows.len(), 1, "life {life}");
            assert_eq!(rows[0].id, *id, "an id stays");
            assert_same(&rows[0].held, sent);
        }
        let rows = due(&subject, due_at).await;
        assert_eq!(rows.len(), 1);
        assert_same(&rows[0].held, &full);
        assert_eq!(subject.held().count(&billing()).await.expect("the store counts"), (2, Some(due_at)));
        subject = if life == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
}

/// Due events come by (due, id), until and including a moment, page by page; those behind a head never.
pub async fn due_events_come_earliest_first<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let start = now(&setup);
    let at = |seconds: u32| start + seconds * SECOND;
    let dues = [30, 10, 20, 10, 40, 10, 20];
    for (n, seconds) in dues.into_iter().enumerate() {
        let (n, key) = (n as u64, format!("k{n}"));
        hold_new(&subject, vec![head(n * 10, &key, at(seconds)), held(n * 10 + 1, &key)]).await;
    }
    assert_eq!(offsets(&due(&subject, at(5)).await), [0; 0]);
    assert_eq!(offsets(&due(&subject, at(10)).await), [10, 30, 50]);
    assert_eq!(offsets(&due(&subject, at(39)).await), [10, 30, 50, 20, 60, 0]);
    let (mut after, mut paged) = (None, Vec::new());
    loop {
        let port = subject.held();
        let rows = port.due(&billing(), &partition(), at(40), after, 2).await.expect("the store reads");
        assert!(rows.len() <= 2);
        let Some(last) = rows.last() else { break };
        after = Some((last.held.due.expect("a due event has a due time"), last.id));
        paged.extend(offsets(&rows));
    }
    assert_eq!(paged, [10, 30, 50, 20, 60, 0, 40]);
}

/// Events of one key come in the order in which they were held, from any id on, whether they have a due time or not.
pub async fn events_of_a_key_come_in_order<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut ids_of_a = hold_new(&subject, vec![head(1, "a", now(&setup)), held(2, "a"), held(3, "a")]).await;
    hold_new(&subject, vec![head(4, "b", now(&setup)), held(5, "b")]).await;
    ids_of_a.extend(hold_new(&subject, vec![held(6, "a")]).await);
    // Offsets do not decide: a replayed event joins the end of its key's queue.
    ids_of_a.extend(hold_new(&subject, vec![held(0, "a")]).await);
    assert!(ids_of_a.is_sorted(), "ids ascend");
    assert!(ids_of_a[0] > 0, "ids begin at 1, so that `after` 0 is the beginning");
    let rows = behind(&subject, "a", 0).await;
    assert_eq!((offsets(&rows), ids(&rows)), (vec![1, 2, 3, 6, 0], ids_of_a.clone()));
    assert_eq!(offsets(&behind(&subject, "a", ids_of_a[1]).await), [3, 6, 0]);
    assert_eq!(offsets(&behind(&subject, "a", ids_of_a[4]).await), [0; 0]);
    let page = subject.held().behind(&billing(), &partition(), hash_key("a"), ids_of_a[0], 2).await;
    assert_eq!(offsets(&page.expect("the store reads")), [2, 3]);
    assert_eq!(offsets(&behind(&subject, "nobody", 0).await), [0; 0]);
}

/// An id is never used again: an event that is held after others are gone stands above all that were ever read.
pub async fn an_id_is_never_used_again<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let mut highest = 0;
    for round in 0..6 {
        let rows = (0..3).map(|n| held(round * 10 + n, "k")).collect();
        let new = hold_new(&subject, rows).await;
        assert!(new[0] > highest, "round {round}: {new:?} after {highest}");
        highest = new[2];
        let gone: Vec<_> = new.iter().rev().map(|id| delivered(*id)).collect();
        settle(&subject, gone).await;
        subject = match round % 3 {
            0 => subject,
            1 => subject.reopen(&setup).await,
            _ => subject.crash(&setup).await,
        };
    }
}

/// A delivery that is held already is left as it is, also in one settlement with new ones; once it is gone, it may be held
/// again.
pub async fn a_delivery_is_held_once<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let first = head(1, "k", now(&setup));
    let ids = hold_new(&subject, vec![first.clone(), held(2, "k")]).await;
    for _ in 0..2 {
        let later = head(1, "k", now(&setup) + DAY);
        let again = hold(&subject, vec![later, held(3, "k"), held(2, "k")]).await;
        let known = |id| Placed { id, new: false };
        assert_eq!((again[0], again[2]), (known(ids[0]), known(ids[1])), "what is held already is named");
        let rows = behind(&subject, "k", 0).await;
        assert_eq!(offsets(&rows), [1, 2, 3]);
        assert_same(&rows[0].held, &first);
        subject = subject.reopen(&setup).await;
    }
    let twice = hold(&subject, vec![held(9, "k"), held(9, "k")]).await;
    assert_eq!(twice[1], Placed { id: twice[0].id, new: false }, "within one settlement");
    assert!(twice[0].new);
    let other_flow = NewHeld { flow: flow("audit"), ..held(1, "k") };
    let other_partition = NewHeld { position: Position { partition: 1, ..position(1) }, ..held(1, "k") };
    assert_eq!(hold_new(&subject, vec![other_flow, other_partition]).await.len(), 2);
    settle(&subject, vec![delivered(ids[0])]).await;
    assert!(hold(&subject, vec![first]).await[0].new, "it was gone");
}

/// A topic that was made anew counts from 0 again: another event at a position that is held is held too, behind what is there.
pub async fn another_event_at_a_position_is_another_delivery<S: HasStore>() {
    if !S::OUTLIVES_ITS_BROKER {
        return;
    }
    let setup = setup();
    let subject = S::create(&setup).await;
    let other =
        |offset| NewHeld { event: Arc::new(whole_event(&format!("other{offset}"))), ..held(offset, "k") };
    let ids = hold_new(&subject, vec![head(1, "k", now(&setup)), held(2, "k")]).await;
    let placed = hold(&subject, vec![other(1), held(2, "k"), other(2)]).await;
    assert_eq!(placed.iter().map(|placed| placed.new).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(hold(&subject, vec![other(1)]).await, [Placed { id: placed[0].id, new: false }], "once each");
    let rows = behind(&subject, "k", 0).await;
    let events: Vec<_> = rows.iter().map(|row| row.held.event.id.as_str()).collect();
    assert_eq!(events, ["e1", "e2", "other1", "other2"]);
    settle(&subject, vec![delivered(ids[0]), Settlement::Hold(vec![other(1), held(1, "k")])]).await;
    assert_eq!(offsets(&behind(&subject, "k", 0).await), [2, 1, 2, 1], "what went was the first one");
}

/// A head that fails again keeps its id and its place, with what was tried and when it is due.
pub async fn a_head_that_fails_again_waits_again<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let start = now(&setup);
    let ids = hold_new(&subject, vec![head(1, "k", start), held(2, "k")]).await;
    let (due_at, first_at) = (start + 60 * SECOND, start - 5 * SECOND);
    let attempts = vec![attempt(1, first_at), attempt(2, start)];
    let again = |held| Settlement::Again {
        held,
        attempts: attempts.clone(),
        tried: 2,
        first_tried_at: Some(first_at),
        due: due_at,
    };
    for life in 0..2 {
        assert_eq!(settle(&subject, vec![again(ids[0])]).await, [Settled::Done]);
        let rows = behind(&subject, "k", 0).await;
        assert_eq!(ids_and_dues(&rows), [(ids[0], Some(due_at)), (ids[1], None)], "life {life}");
        let sent = NewHeld {
            attempts: attempts.clone(),
            tried: 2,
            first_tried_at: Some(first_at),
            ..head(1, "k", due_at)
        };
        assert_same(&rows[0].held, &sent);
    }
    assert_eq!(offsets(&due(&subject, start).await), [0; 0]);
    settle(&subject, vec![delivered(ids[0])]).await;
    assert_eq!(settle(&subject, vec![again(ids[0])]).await, [Settled::Done], "what is gone is passed over");
    assert_eq!(offsets(&behind(&subject, "k", 0).await), [2]);
}

pub(crate) fn ids_and_dues(rows: &[HeldEvent]) -> Vec<(HeldId, Option<Timestamp>)> {
    rows.iter().map(|row| (row.id, row.held.due)).collect()
}

/// What is delivered or dead leaves the store; the next of its key is untouched. Twice changes nothing more.
pub async fn what_is_finished_leaves<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let start = now(&setup);
    let ids = hold_new(&subject, vec![head(1, "k", start), held(2, "k"), held(3, "k")]).await;
    for _ in 0..2 {
        assert_eq!(settle(&subject, vec![delivered(ids[0])]).await, [Settled::Done]);
        assert_eq!(offsets(&behind(&subject, "k", 0).await), [2, 3]);
    }
    let dead = Arc::new(letter(2, 422, start));
    for _ in 0..2 {
        let settlement = Settlement::DeadLetter { letter: dead.clone(), held: Some(ids[1]), replay: None };
        assert_eq!(settle(&subject, vec![settlement]).await, [Settled::Done]);
        assert_eq!(offsets(&behind(&subject, "k", 0).await), [3]);
    }
    assert_eq!(subject.held().count(&billing()).await.expect("the store counts"), (1, None));
    assert!(subject.held().of_event(&position(1)).await.expect("the store reads").is_empty());
    assert!(subject.dead_letters().get(&dead.id).await.expect("the store reads").is_some());
}

/// Settlements of one call take effect in order and are answered in order.
pub async fn settlements_of_a_call_follow_each_other<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let first = hold_new(&subject, vec![head(1, "k", now(&setup))]).await[0];
    let batch = vec![
        Settlement::Hold(vec![held(2, "k")]),
        delivered(first),
        Settlement::Hold(vec![held(1, "k"), held(2, "k"), held(3, "k")]),
        Settlement::Hold(Vec::new()),
    ];
    let settled = settle(&subject, batch).await;
    match settled.as_slice() {
        [Settled::Held(one), Settled::Done, Settled::Held(three), Settled::Held(none)] => {
            assert!(one[0].new && one.len() == 1);
            assert_eq!(three.iter().map(|placed| placed.new).collect::<Vec<_>>(), [true, false, true]);
            assert_eq!(three[1].id, one[0].id, "what is held already is named");
            assert!(none.is_empty());
        }
        other => panic!("answers in order: {other:?}"),
    }
    assert_eq!(offsets(&behind(&subject, "k", 0).await), [2, 1, 3]);
    assert_eq!(settle(&subject, Vec::new()).await, []);
}

/// Taking a partition over names its held keys with their counts, and no others.
pub async fn adopting_names_the_held_keys<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let due_at = now(&setup) + DAY;
    hold_new(&subject, vec![head(1, "a", due_at), held(2, "a"), held(3, "a")]).await;
    hold_new(&subject, vec![head(4, "b", due_at)]).await;
    let elsewhere = NewHeld { position: Position { partition: 1, ..position(5) }, ..head(5, "a", due_at) };
    let other_topic = NewHeld {
        position: Position { topic: crate::sample::topic("returns"), ..position(1) },
        ..held(1, "a")
    };
    hold_new(&subject, vec![elsewhere, other_topic]).await;
    hold_new(&subject, vec![NewHeld { flow: flow("audit"), ..head(1, "c", due_at) }]).await;
    let mut expected = vec![(hash_key("a"), 3), (hash_key("b"), 1)];
    expected.sort_unstable();
    for _ in 0..2 {
        assert_eq!(adopt(&subject, &partition()).await, expected);
        assert_eq!(adopt(&subject, &Partition { topic: orders(), number: 1 }).await, [(hash_key("a"), 1)]);
        assert_eq!(adopt(&subject, &Partition { topic: orders(), number: 9 }).await, []);
        subject = subject.reopen(&setup).await;
    }
    assert_eq!(due(&subject, due_at - SECOND).await.len(), 0, "heads keep their due times");
}

/// A key whose lowest event has no due time, since its head went and a worker died, becomes due when it is taken over.
pub async fn adopting_heals_a_key_without_a_head<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let start = now(&setup);
    let ids = hold_new(&subject, vec![head(1, "k", start), held(2, "k"), held(3, "k")]).await;
    hold_new(&subject, vec![head(4, "whole", start + DAY), held(5, "whole")]).await;
    settle(&subject, vec![delivered(ids[0])]).await;
    let subject = subject.crash(&setup).await;
    setup.clock.advance(Duration::from_secs(30));
    assert_eq!(offsets(&due(&subject, now(&setup)).await), [0; 0], "nothing is due before");
    adopt(&subject, &partition()).await;
    let rows = due(&subject, now(&setup)).await;
    assert_eq!((offsets(&rows), rows[0].held.due), (vec![2], Some(now(&setup))));
    assert_eq!(ids_and_dues(&behind(&subject, "k", 0).await), [(ids[1], Some(now(&setup))), (ids[2], None)]);
}

/// The count of a flow with its earliest due time, over all partitions; none of other flows.
pub async fn counts_are_the_flows_own<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let start = now(&setup);
    assert_eq!(subject.held().count(&billing()).await.expect("the store counts"), (0, None));
    let elsewhere =
        NewHeld { position: Position { partition: 1, ..position(1) }, ..head(1, "b", start + 5 * SECOND) };
    hold_new(&subject, vec![head(1, "a", start + 9 * SECOND), held(2, "a"), elsewhere]).await;
    hold_new(&subject, vec![NewHeld { flow: flow("audit"), ..head(1, "a", start) }]).await;
    let count = subject.held().count(&billing()).await.expect("the store counts");
    assert_eq!(count, (3, Some(start + 5 * SECOND)));
    let rows = subject.held().of_event(&position(1)).await.expect("the store reads");
    let mut flows: Vec<_> = rows.iter().map(|row| row.held.flow.as_str()).collect();
    flows.sort_unstable();
    assert_eq!(flows, ["audit", "billing"]);
}

/// Many dispatchers settle at once: each gets its own answers, no id is given twice, each key keeps its order.
pub async fn settling_at_once_mixes_nothing_up<S: HasStore>() {
    let setup = setup();
    let subject = Arc::new(S::create(&setup).await);
    let workers = (0..8u64).map(|worker| {
        let subject = subject.clone();
        let start = now(&setup);
        tokio::spawn(async move {
            let (key, mut all) = (format!("k{worker}"), Vec::new());
            for call in 0..15u64 {
                let base = worker * 1000 + call * 10;
                let rows = vec![head(base, &key, start), held(base + 1, &key), held(base + 2, &key)];
                let mut ids = hold_new(subject.as_ref(), rows).await;
                settle(subject.as_ref(), vec![delivered(ids.remove(1))]).await;
                all.extend(ids);
            }
            (key, all)
        })
    });
    let mut seen = std::collections::BTreeSet::new();
    for worker in workers.collect::<Vec<_>>() {
        let (key, expected) = worker.await.expect("the worker ends well");
        assert_eq!(ids(&behind(subject.as_ref(), &key, 0).await), expected, "{key}");
        seen.extend(expected);
    }
    assert_eq!(seen.len(), 240, "ids are given once");
    assert_eq!(subject.held().count(&billing()).await.expect("the store counts").0, 240);
}

/// A spill of a long queue goes in one settlement and comes back in pages, in order.
pub async fn a_long_queue_comes_back_in_pages<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let rows: Vec<_> =
        std::iter::once(head(0, "k", now(&setup))).chain((1..2000).map(|offset| held(offset, "k"))).collect();
    hold_new(&subject, rows).await;
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let page = subject.held().behind(&billing(), &partition(), hash_key("k"), after, 64).await;
        let page = page.expect("the store reads");
        let Some(last) = page.last() else { break };
        after = last.id;
        all.extend(offsets(&page));
    }
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
}
