//! Panics inside the writer.

use std::sync::Arc;

use crate::{Embedded, Options, task::Failure};
use crossdock_core::{Event, FlowName, Outbox, PublishError, Published, StoreError, SystemClock, Topic};

fn orders() -> Topic {
    Topic::new("orders").expect("a name")
}

async fn open(folder: &std::path::Path) -> Embedded {
    let options = Options { partitions: 1, topics: vec![orders()], ..Options::default() };
    Embedded::open(folder, options, Arc::new(SystemClock)).await.expect("it opens")
}

fn event(id: &str) -> Event {
    serde_json::from_str(&format!(r#"{{"id":"{id}","source":"s","type":"t"}}"#)).expect("an event")
}

async fn append(store: &Embedded, id: &str) -> Result<Published, PublishError> {
    store.append(&orders(), vec![event(id)]).await.remove(0)
}

#[tokio::test]
async fn a_change_that_panics_is_undone_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    let name = FlowName::new("billing").expect("a name");
    let catalog = store.inner.catalog.clone();
    let panics = store.inner.write("breaking something", move |connection| {
        Box::pin(async move {
            catalog.flow_or_new(connection, &name).await?;
            if connection_is_there() {
                panic!("it broke");
            }
            Ok(())
        })
    });
    let (broken, taken) = tokio::join!(panics, append(&store, "a"));
    let Err(StoreError::Unavailable { doing, source }) = broken else { panic!("{broken:?}") };
    assert_eq!((doing, source.to_string().as_str()), ("breaking something", "the change panicked: it broke"));
    assert!(matches!(taken, Ok(Published::New(_))), "{taken:?}");
    let name = FlowName::new("billing").expect("a name");
    assert_eq!(store.inner.catalog.flow(&name), None, "the name that it had made is gone with it");
    let flows = store.inner.write("counting", |connection| {
        Box::pin(async move {
            let count =
                sqlx::query_scalar::<_, i64>("SELECT count(*) FROM flows").fetch_one(connection).await;
            count.map_err(Failure::from)
        })
    });
    assert_eq!(flows.await.expect("the writer goes on"), 0);
    store.close().await;
}

#[tokio::test]
async fn what_waits_behind_a_commit_that_fails_is_not_taken_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    append(&store, "before").await.expect("taken");
    let fails = store.inner.write("failing once", |_| {
        Box::pin(async { Err::<(), _>(Failure::Sql(sqlx::Error::Io(std::io::Error::other("once")))) })
    });
    // Large enough to be alone in a commit, so that the next one waits behind it.
    let large = |id: &str| Event { data: vec![0; 1 << 19].into(), ..event(id) };
    let topic = orders();
    let first = store.append(&topic, (0..10).map(|n| large(&format!("first{n}"))).collect());
    let (failed, first, second) = tokio::join!(fails, first, append(&store, "second"));
    assert!(failed.is_err());
    let refused = |answer: &_| matches!(answer, Err(PublishError::Unavailable(_)));
    assert!(first.iter().all(refused), "{first:?}");
    let Err(PublishError::Unavailable(why)) = second else { panic!("it overtook the first: {second:?}") };
    assert!(why.contains("once"), "{why}");
    for id in ["first0", "second"] {
        assert!(matches!(append(&store, id).await, Ok(Published::New(_))), "{id} was not taken before");
    }
    store.close().await;
}

/// Always; the compiler need not know.
fn connection_is_there() -> bool {
    std::hint::black_box(true)
}

#[tokio::test]
async fn a_writer_that_panics_answers_everybody_and_the_store_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).await;
    append(&store, "a").await.expect("taken");
    // What no code does: it makes the writer panic at whatever it does next.
    let recent = store.inner.recent.clone();
    let poisoned = std::thread::spawn(move || {
        let _held = recent.lock();
        panic!("with the lock in hand");
    });
    assert!(poisoned.join().is_err());
    for id in ["b", "c"] {
        assert_eq!(append(&store, id).await, Err(PublishError::Unknown));
        assert!(store.refusal().is_some_and(|why| why.contains("panicked")), "{:?}", store.refusal());
    }
    let changed = store.inner.write("changing nothing", |_| Box::pin(async { Ok(()) })).await;
    assert!(matches!(changed, Err(StoreError::Unavailable { .. })), "{changed:?}");
    store.close().await;
    let store = open(folder.path()).await;
    assert_eq!(append(&store, "a").await, Ok(Published::Duplicate));
    assert!(matches!(append(&store, "b").await, Ok(Published::New(_))));
    store.close().await;
}
