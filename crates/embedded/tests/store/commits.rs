//! Commits: many share one, and one that fails loses nothing and makes nothing up.

use std::time::Duration;

use crossdock_core::{Broker, Outbox, PublishError, Published};
use crossdock_embedded::Options;
use futures::{FutureExt, future::join_all};

use crate::common::{
    append, deliveries, event, eventually, join, next, number, open, options, orders, put, sql, unfinished,
};

#[tokio::test]
async fn appends_that_come_at_once_share_commits() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    let appends = (0..400).map(|n| append(&store, event(&n.to_string(), 10)).boxed());
    let answers = join_all(appends).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Published::New(_)))));
    // With one partition and small events a commit writes one pack.
    let commits = number(folder.path(), "SELECT count(*) FROM log").await;
    assert!(commits <= 40, "400 appends took {commits} commits");
    store.close().await;
}

#[tokio::test]
async fn what_waits_to_be_written_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Options { queue_events_max: 10, ..options() };
    let store = open(folder.path(), small).await;
    let appends = (0..100).map(|n| append(&store, event(&n.to_string(), 10)).boxed());
    let answers = join_all(appends).await;
    let busy = answers.iter().filter(|answer| **answer == Err(PublishError::Busy)).count();
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((busy + taken, busy >= 50), (100, true), "{busy} were too many, {taken} were taken");
    assert_eq!(unfinished(&store).await.len(), taken);
    store.close().await;
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_but_one_large_request_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Options { queue_bytes_max: 10_000, ..options() };
    let store = open(folder.path(), small).await;
    let appends = (0..20).map(|n| append(&store, event(&n.to_string(), 4_000)).boxed());
    let answers = join_all(appends).await;
    assert!(answers.contains(&Err(PublishError::Busy)));
    let large = append(&store, event("large", 100_000)).await;
    assert!(matches!(large, Ok(Published::New(_))), "{large:?}");
    store.close().await;
}

#[tokio::test]
async fn an_append_that_nobody_waits_for_any_more_stays_and_gives_its_room_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Options { queue_events_max: 1, ..options() };
    let store = open(folder.path(), small).await;
    let mut abandoned = append(&store, event("a", 10)).boxed();
    assert!(abandoned.as_mut().now_or_never().is_none(), "it waits for the commit");
    drop(abandoned);
    eventually("there is room again", async || append(&store, event("b", 10)).await.is_ok()).await;
    assert_eq!(append(&store, event("a", 10)).await, Ok(Published::Duplicate));
    store.close().await;
}

#[tokio::test]
async fn an_event_that_was_not_committed_is_not_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    put(&store, "before").await;
    sql(folder.path(), "ALTER TABLE log RENAME TO gone").await;
    let refused = append(&store, event("a", 10)).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    assert!(store.refusal().is_some(), "it says so to those who ask");
    sql(folder.path(), "ALTER TABLE gone RENAME TO log").await;
    eventually("it finds out by itself", async || store.refusal().is_none()).await;
    put(&store, "a").await;
    assert_eq!(append(&store, event("before", 10)).await, Ok(Published::Duplicate));
    let mut subscription = join(&store).await;
    let ids: Vec<_> =
        deliveries(&mut subscription, 2).await.iter().map(|delivery| delivery.event.id.clone()).collect();
    assert_eq!(ids, ["before", "a"]);
    assert!(next(&mut subscription, Duration::from_millis(50)).await.is_none(), "nothing comes twice");
    store.close().await;
}

#[tokio::test]
async fn what_is_finished_while_commits_fail_is_written_afterwards() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    for id in ["a", "b", "c"] {
        put(&store, id).await;
    }
    let mut subscription = join(&store).await;
    let given = deliveries(&mut subscription, 3).await;
    sql(folder.path(), "ALTER TABLE positions RENAME TO gone").await;
    for delivery in given.into_iter().filter(|delivery| delivery.event.id != "b") {
        delivery.complete();
    }
    eventually("a commit fails", async || store.refusal().is_some()).await;
    sql(folder.path(), "ALTER TABLE gone RENAME TO positions").await;
    eventually("commits succeed again", async || store.refusal().is_none()).await;
    drop(subscription);
    store.close().await;
    let store = open(folder.path(), options()).await;
    assert_eq!(unfinished(&store).await.into_iter().collect::<Vec<_>>(), ["b"]);
    store.close().await;
}

#[tokio::test]
async fn a_group_that_could_not_be_remembered_is_not_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let store =
        open(folder.path(), Options { topics: vec![orders()], groups: Vec::new(), ..options() }).await;
    put(&store, "before").await;
    sql(folder.path(), "ALTER TABLE positions RENAME TO gone").await;
    let refused = store.subscribe(&crate::common::billing(), &[orders()]).await;
    assert!(refused.is_err());
    sql(folder.path(), "ALTER TABLE gone RENAME TO positions").await;
    let mut subscription = join(&store).await;
    put(&store, "after").await;
    assert_eq!(deliveries(&mut subscription, 1).await[0].event.id, "after");
    drop(subscription);
    store.close().await;
    // Its beginning was remembered: it does not begin at the end again.
    let store = open(folder.path(), options()).await;
    assert_eq!(unfinished(&store).await.into_iter().collect::<Vec<_>>(), ["after"]);
    store.close().await;
}
