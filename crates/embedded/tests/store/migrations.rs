//! What an earlier version left in the file.

use std::sync::Arc;

use crossdock_core::{
    Act, DeadLetters, LetterState, NewReplay, PageRequest, Replays, Selection, Settlement, Settlements,
};
use crossdock_testkit::ManualClock;

use crate::common::{letter, open, options, sql};

#[tokio::test]
async fn what_was_in_memory_of_a_cancelled_replay_is_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = ManualClock::new();
    let store = open(folder.path(), options()).await;
    for offset in 0..3 {
        let letter = Arc::new(letter(offset, 10, crossdock_core::Clock::now(&clock)));
        let dead = Settlement::DeadLetter { letter, held: None, replay: None };
        store.settle(None, vec![dead]).await.expect("it is kept");
    }
    let act = Act { actor: "ada".to_owned(), reason: "again".to_owned() };
    let new = NewReplay { selection: Selection::default(), rate: None, test: false, act };
    let cancelled = store.create(new.clone()).await.expect("a replay");
    store.close().await;
    // As the first version left it: cancelled with everything in lanes.
    for statement in [
        "UPDATE replays SET state = 'cancelled', finished_at = 1",
        "ALTER TABLE replays DROP COLUMN test",
        "ALTER TABLE replays DROP COLUMN tried",
        "PRAGMA user_version = 1",
    ] {
        sql(folder.path(), statement).await;
    }
    let store = open(folder.path(), options()).await;
    let groups = store.groups(&Selection::default(), PageRequest::first(10)).await.expect("a list").items;
    assert!(groups.iter().all(|group| group.state == LetterState::Open), "{groups:?}");
    assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 3);
    let kept = Replays::get(&store, &cancelled.id).await.expect("it is read").expect("it is there");
    assert_eq!((kept.skipped, kept.test, kept.tried), (3, false, None));
    assert_eq!(store.create(new).await.expect("a replay").total, 3);
    store.close().await;
}
