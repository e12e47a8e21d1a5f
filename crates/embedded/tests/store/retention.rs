//! Retention: what nobody needs any more goes, and nothing else.

use std::sync::Arc;

use crossdock_core::{EventLog, PageRequest, Published, Topic};
use crossdock_embedded::{Embedded, Options};
use crossdock_testkit::ManualClock;

use crate::common::{
    DAY, append, billing, deliveries, event, eventually, join, number, open_at, options, orders, put,
    unfinished,
};

async fn kept(store: &Embedded) -> Vec<String> {
    let page = EventLog::list(store, None, PageRequest::first(1000)).await.expect("the log reads");
    page.items.into_iter().map(|event| event.id).rev().collect()
}

#[tokio::test]
async fn only_what_every_group_has_finished_goes() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    let slow = crossdock_core::FlowName::new("slow").expect("a name");
    let groups = vec![(billing(), vec![orders()]), (slow.clone(), vec![orders()])];
    let both = Options { groups, ..options() };
    let store = open_at(folder.path(), both.clone(), &clock).await;
    for id in ["a", "b", "c"] {
        put(&store, id).await;
    }
    let mut subscription = join(&store).await;
    deliveries(&mut subscription, 3).await.into_iter().for_each(crossdock_core::Delivery::complete);
    clock.advance(2 * DAY);
    put(&store, "d").await;
    // Some rounds of retention: the other group has finished nothing.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(kept(&store).await, ["a", "b", "c", "d"]);
    let mut lagging =
        crossdock_core::Broker::subscribe(&store, &slow, &[orders()]).await.expect("the group can be joined");
    for delivery in deliveries(&mut lagging, 4).await {
        if delivery.event.id == "a" || delivery.event.id == "b" {
            delivery.complete();
        }
    }
    eventually("what both have finished goes", async || kept(&store).await == ["c", "d"]).await;
    drop((subscription, lagging));
    store.close().await;

    let store = open_at(folder.path(), both, &clock).await;
    assert_eq!(kept(&store).await, ["c", "d"]);
    for id in ["a", "b", "c", "d"] {
        assert_eq!(append(&store, event(id, 10)).await, Ok(Published::Duplicate), "{id} is still known");
        let found = store.find(id).await.expect("the log reads").len();
        assert_eq!(found, usize::from(id > "b"), "{id} is found only if it is there");
    }
    assert_eq!(
        unfinished(&store).await.into_iter().collect::<Vec<_>>(),
        ["d"],
        "billing has finished the rest"
    );
    let Ok(Published::New(Some(position))) = append(&store, event("e", 10)).await else { panic!("e is new") };
    assert_eq!(position.offset, 4, "offsets go on where they were");
    store.close().await;
}

#[tokio::test]
async fn a_partition_that_was_emptied_goes_on_where_it_was() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    let store = open_at(folder.path(), options(), &clock).await;
    for id in ["a", "b", "c"] {
        put(&store, id).await;
    }
    let mut subscription = join(&store).await;
    deliveries(&mut subscription, 3).await.into_iter().for_each(crossdock_core::Delivery::complete);
    clock.advance(2 * DAY);
    eventually("everything goes", async || kept(&store).await.is_empty()).await;
    drop(subscription);
    store.close().await;
    let store = open_at(folder.path(), options(), &clock).await;
    let Ok(Published::New(Some(position))) = append(&store, event("d", 10)).await else { panic!("d is new") };
    assert_eq!(position.offset, 3);
    assert_eq!(unfinished(&store).await.into_iter().collect::<Vec<_>>(), ["d"]);
    store.close().await;
}

#[tokio::test]
async fn events_of_a_topic_that_left_the_configuration_go_too() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::new(ManualClock::new()));
    let store = open_at(folder.path(), options(), &clock).await;
    put(&store, "a").await;
    store.close().await;
    let other = Topic::new("other").expect("a name");
    let without = Options { topics: vec![other], groups: Vec::new(), ..options() };
    let store = open_at(folder.path(), without, &clock).await;
    assert_eq!(kept(&store).await, ["a"], "not before its time");
    clock.advance(2 * DAY);
    eventually("it goes", async || kept(&store).await.is_empty()).await;
    store.close().await;
    // The id is written once, and the topic may come back.
    assert_eq!(number(folder.path(), "SELECT count(*) FROM seen_runs").await, 1);
    let store = open_at(folder.path(), options(), &clock).await;
    assert_eq!(append(&store, event("a", 10)).await, Ok(Published::Duplicate));
    put(&store, "b").await;
    assert_eq!(unfinished(&store).await.into_iter().collect::<Vec<_>>(), ["b"]);
    store.close().await;
}
