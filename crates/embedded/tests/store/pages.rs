//! Pages of rows: bounded by bytes too, never empty while there is something.

use std::sync::Arc;

use crossdock_core::{
    Act, FlowName, HeldEvents, NewHeld, NewReplay, Partition, Position, Replays, Selection, Settlement,
    Settlements,
};
use crossdock_testkit::ManualClock;
use jiff::Timestamp;

use crate::common::{billing, held, letter, open, options, orders};

const LARGE: usize = 400_000;

fn partition() -> Partition {
    Partition { topic: orders(), number: 0 }
}

#[tokio::test]
async fn due_events_come_in_pages_of_a_mebibyte() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    let rows = (0..7).map(|offset| held(offset, LARGE)).chain([held(7, 3 << 20), held(8, 10)]).collect();
    store.settle(None, vec![Settlement::Hold(rows)]).await.expect("they are held");
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = store.due(&billing(), &partition(), Timestamp::MAX, after, 100).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some((last.held.due.expect("it is due"), last.id));
        pages.push(page.len());
    }
    assert_eq!(pages, [3, 3, 2, 1]);
    let page = store.due(&billing(), &partition(), Timestamp::MAX, None, 2).await.expect("a page");
    assert_eq!(page.len(), 2, "rows are bounded as before");
    store.close().await;
}

#[tokio::test]
async fn the_events_of_a_key_come_in_pages_of_a_mebibyte() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    let rows = (0..5).map(|offset| NewHeld { key_hash: 7, due: None, ..held(offset, LARGE) }).collect();
    store.settle(None, vec![Settlement::Hold(rows)]).await.expect("they are held");
    let (mut pages, mut after) = (Vec::new(), 0);
    loop {
        let page = store.behind(&billing(), &partition(), 7, after, 100).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = last.id;
        pages.push(page.len());
    }
    assert_eq!(pages, [3, 2]);
    store.close().await;
}

#[tokio::test]
async fn every_held_delivery_of_an_event_is_there_however_large() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    let flow = |n: usize| FlowName::new(&format!("flow-{n}")).expect("a name");
    let rows = (0..6).map(|n| NewHeld { flow: flow(n), ..held(3, LARGE) }).collect();
    store.settle(None, vec![Settlement::Hold(rows)]).await.expect("they are held");
    let position = Position { topic: orders(), partition: 0, offset: 3 };
    assert_eq!(store.of_event(&position).await.expect("they are read").len(), 6);
    store.close().await;
}

#[tokio::test]
async fn items_of_a_replay_come_in_pages_of_a_mebibyte() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = ManualClock::new();
    let store = open(folder.path(), options()).await;
    for offset in 0..5 {
        let letter = Arc::new(letter(offset, LARGE, crossdock_core::Clock::now(&clock)));
        let dead = Settlement::DeadLetter { letter, held: None, replay: None };
        store.settle(None, vec![dead]).await.expect("it is kept");
    }
    let act = Act { actor: "ada".to_owned(), reason: "again".to_owned() };
    let replay = NewReplay { selection: Selection::default(), rate: None, test: false, act };
    let replay = store.create(replay).await.expect("a replay");
    let (flow, partition) = store.places(&replay.id).await.expect("a place").remove(0);
    let (mut pages, mut from) = (Vec::new(), 0);
    loop {
        let page = store.items(&replay.id, &flow, &partition, from, 100).await.expect("a page");
        let Some(last) = page.last() else { break };
        from = last.ticket.item + 1;
        pages.push(page.len());
    }
    assert_eq!(pages, [3, 2]);
    store.close().await;
}
