//! Closing: whoever asks is answered, and what was answered is so.

use std::collections::BTreeSet;

use crossdock_core::{BrokerError, Connections, Outbox, PublishError, Published, StoreError};
use futures::{FutureExt, future::join_all};

use crate::common::{append, deliveries, event, join, open, options, put, unfinished};

#[tokio::test]
async fn appends_that_race_with_the_closing_are_taken_or_refused_and_never_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    let appends = join_all((0..200).map(|n| {
        let store = store.clone();
        async move {
            // So that they come before, with and after the closing.
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
            let id = n.to_string();
            (id.clone(), append(&store, event(&id, 10)).await)
        }
    }));
    let (answers, ()) = tokio::join!(appends, async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        store.close().await;
    });
    let mut taken = BTreeSet::new();
    for (id, answer) in answers {
        match answer {
            Ok(Published::New(_)) => drop(taken.insert(id)),
            Err(PublishError::Unavailable(why)) => assert!(why.contains("closed"), "{why}"),
            other => panic!("{id} was answered with {other:?}"),
        }
    }
    let store = open(folder.path(), options()).await;
    assert_eq!(unfinished(&store).await, taken);
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so_to_everyone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    let mut subscription = join(&store).await;
    store.close().await;
    store.close().await;
    let refused = append(&store, event("a", 10)).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    assert!(matches!(subscription.next().await, Err(BrokerError::Closed)));
    assert!(matches!(Connections::load(&store).await, Err(StoreError::Unavailable { .. })));
    assert!(store.append(&crate::common::orders(), Vec::new()).now_or_never().is_some());
}

#[tokio::test]
async fn what_was_finished_a_moment_before_the_closing_stays_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    put(&store, "a").await;
    put(&store, "b").await;
    let mut subscription = join(&store).await;
    for delivery in deliveries(&mut subscription, 2).await {
        if delivery.event.id == "a" {
            delivery.complete();
        }
    }
    store.close().await;
    let store = open(folder.path(), options()).await;
    assert_eq!(unfinished(&store).await.into_iter().collect::<Vec<_>>(), ["b"]);
    store.close().await;
}
