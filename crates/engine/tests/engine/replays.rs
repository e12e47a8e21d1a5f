//! Replays: every letter is sent once, whatever happens in between.

use std::time::Duration;

use crossdock_core::{Class, ConnectionState, LetterState, NewReplay, Outcome, ReplayState, Selection};
use crossdock_engine::ReplayChange;
use tokio::time::{Instant, timeout};

use crate::rig::{Options, Rig, act, fault, ok};

const SECOND: Duration = Duration::from_secs(1);
/// More than a dispatcher has room for.
const MANY: usize = 2600;

fn to(state: ReplayState) -> ReplayChange {
    ReplayChange::State(state)
}

async fn change(rig: &Rig, id: &str, state: ReplayState) {
    rig.hub.change_replay(id, to(state), &act()).await.expect("the store takes it");
}

async fn is_over(rig: &Rig, id: &str) -> bool {
    rig.replay(id).await.state.is_final()
}

/// How many events came so often.
fn came(rig: &Rig, times: u32) -> usize {
    rig.remote.counts().values().filter(|count| **count == times).count()
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_cancelled_in_the_lanes_sends_none_of_them_and_gives_all_back() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(MANY).await;
    rig.set_connection(ConnectionState::Paused).await;
    let replay = rig.replay_all(None).await;
    rig.wait(60 * SECOND).await;
    change(&rig, &replay.id, ReplayState::Cancelled).await;
    let skipped = rig.replay(&replay.id).await.skipped;
    assert_eq!((skipped, rig.letters(LetterState::Open).await), (MANY as u64, MANY as u64));
    rig.set_connection(ConnectionState::Ok).await;
    rig.wait(600 * SECOND).await;
    assert_eq!((came(&rig, 1), rig.letters(LetterState::Open).await), (MANY, MANY as u64), "none is sent");
    let again = rig.replay_all(None).await;
    rig.until("all arrived", async || is_over(&rig, &again.id).await).await;
    assert_eq!(came(&rig, 2), MANY, "nothing came twice by replays");
    let sent = rig.remote.calls().into_iter().skip(MANY).map(|call| call.event);
    assert_eq!(sent.collect::<Vec<_>>(), (0..MANY).map(|n| format!("e{n}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_out_when_its_replay_is_cancelled_counts_and_is_not_made_again() {
    for class in [None, Some(Class::Transient), Some(Class::Throttled)] {
        let rig = Rig::new(Options { partitions: 4, ..Options::default() }).await;
        rig.dead_of(50, &["a", "b", "c", "d", "e", "f", "g", "h", "i"]).await;
        rig.remote.answers(move |_| (5 * SECOND, class.map_or(Ok(()), |class| fault(class).1)));
        let replay = rig.replay_all(None).await;
        rig.until_called(58).await;
        change(&rig, &replay.id, ReplayState::Cancelled).await;
        assert_eq!(rig.replay(&replay.id).await.skipped, 50, "also those of which it is not known yet");
        rig.remote.answers(|_| ok());
        rig.wait(3600 * SECOND).await;
        assert_eq!(rig.remote.calls().len(), 58, "{class:?}: nothing is sent any more");
        let delivered = if class.is_none() { 8 } else { 0 };
        let over = rig.replay(&replay.id).await;
        assert_eq!(
            (over.state, over.delivered, over.skipped),
            (ReplayState::Cancelled, delivered, 50 - delivered)
        );
        assert_eq!(rig.letters(LetterState::Replayed).await, delivered, "{class:?}");
        assert_eq!(rig.letters(LetterState::Open).await, 50 - delivered);
        let tried = rig.open_letters().await.iter().filter(|letter| letter.attempts == 2).count();
        assert_eq!(tried, if class.is_none() { 0 } else { 8 }, "{class:?}: the tries are remembered");
    }
}

#[tokio::test(start_paused = true)]
async fn pausing_answers_at_once_while_the_lanes_are_full() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(MANY).await;
    rig.set_connection(ConnectionState::Paused).await;
    let replay = rig.replay_all(None).await;
    rig.wait(60 * SECOND).await;
    timeout(SECOND, change(&rig, &replay.id, ReplayState::Paused)).await.expect("an answer at once");
    rig.set_connection(ConnectionState::Ok).await;
    rig.wait(60 * SECOND).await;
    let delivered = rig.replay(&replay.id).await.delivered;
    assert!(
        delivered > 0 && delivered < MANY as u64,
        "what was in the lanes arrives, the rest waits: {delivered}"
    );
    change(&rig, &replay.id, ReplayState::Running).await;
    rig.until("the rest arrived", async || is_over(&rig, &replay.id).await).await;
    assert_eq!(came(&rig, 2), MANY);
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_after_a_restart_and_sends_nothing_twice() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(100).await;
    let replay = rig.replay_all(Some(10.0)).await;
    rig.until("some arrived", async || rig.replay(&replay.id).await.delivered >= 30).await;
    let rig = rig.restart(Options::default()).await;
    assert!(rig.replay(&replay.id).await.delivered < 50, "the middle");
    let went_on = Instant::now();
    rig.until("all arrived", async || is_over(&rig, &replay.id).await).await;
    assert!(went_on.elapsed() > 4 * SECOND, "at its rate");
    let replay = rig.replay(&replay.id).await;
    assert_eq!((replay.state, replay.delivered), (ReplayState::Succeeded, 100));
    assert_eq!(came(&rig, 2), 100);
}

#[tokio::test(start_paused = true)]
async fn a_paused_replay_stays_paused_over_a_restart() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(100).await;
    let replay = rig.replay_all(Some(10.0)).await;
    change(&rig, &replay.id, ReplayState::Paused).await;
    let rig = rig.restart(Options::default()).await;
    let before = rig.remote.calls().len();
    rig.wait(600 * SECOND).await;
    assert_eq!(rig.remote.calls().len(), before);
    change(&rig, &replay.id, ReplayState::Running).await;
    rig.until("all arrived", async || is_over(&rig, &replay.id).await).await;
    assert_eq!(came(&rig, 2), 100);
}

#[tokio::test(start_paused = true)]
async fn what_a_dispatcher_had_in_memory_is_handed_to_the_next_one() {
    let rig = Rig::new(Options { partitions: 3, ..Options::default() }).await;
    rig.dead(50).await;
    rig.set_connection(ConnectionState::Paused).await;
    let replay = rig.replay_all(None).await;
    rig.wait(60 * SECOND).await;
    rig.broker.break_now();
    rig.wait(60 * SECOND).await;
    rig.set_connection(ConnectionState::Ok).await;
    rig.until("all arrived", async || is_over(&rig, &replay.id).await).await;
    assert_eq!((rig.replay(&replay.id).await.delivered, came(&rig, 2)), (50, 50));
    let order: Vec<_> = rig.remote.calls().into_iter().skip(50).map(|call| call.event).collect();
    assert_eq!(order, (0..50).map(|n| format!("e{n}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn subscriptions_that_break_all_the_time_lose_nothing_of_a_replay() {
    let rig = Rig::new(Options { partitions: 3, ..Options::default() }).await;
    rig.dead(100).await;
    let replay = rig.replay_all(Some(20.0)).await;
    for _ in 0..4 {
        rig.wait(SECOND).await;
        rig.broker.break_now();
    }
    rig.until("all arrived", async || is_over(&rig, &replay.id).await).await;
    assert_eq!((rig.replay(&replay.id).await.delivered, came(&rig, 2)), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_replay_that_loses_its_dispatcher_hands_nothing_over_again() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(50).await;
    rig.set_connection(ConnectionState::Paused).await;
    let replay = rig.replay_all(None).await;
    rig.wait(60 * SECOND).await;
    change(&rig, &replay.id, ReplayState::Cancelled).await;
    rig.broker.break_now();
    rig.set_connection(ConnectionState::Ok).await;
    rig.wait(600 * SECOND).await;
    assert_eq!((came(&rig, 1), rig.letters(LetterState::Open).await), (50, 50));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_leaves_no_replay_that_nobody_sends() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(5).await;
    let new = NewReplay { selection: Selection::default(), rate: None, test: false, act: act() };
    timeout(Duration::from_millis(30), rig.hub.replay(new)).await.expect_err("the store takes longer");
    rig.until("all arrived", async || rig.letters(LetterState::Replayed).await == 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_store_refuses_leaves_the_replay_as_it_was() {
    for state in [ReplayState::Paused, ReplayState::Cancelled] {
        let rig = Rig::new(Options::default()).await;
        rig.dead(50).await;
        let replay = rig.replay_all(Some(10.0)).await;
        rig.acts.refuse(true);
        rig.hub.change_replay(&replay.id, to(state), &act()).await.expect_err("it is refused");
        rig.until("all arrived", async || is_over(&rig, &replay.id).await).await;
        assert_eq!((rig.replay(&replay.id).await.delivered, came(&rig, 2)), (50, 50));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_over_cannot_be_changed() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(5).await;
    let replay = rig.replay_all(None).await;
    rig.until("all arrived", async || is_over(&rig, &replay.id).await).await;
    for wait in [Duration::ZERO, 60 * SECOND] {
        rig.wait(wait).await;
        for state in [ReplayState::Paused, ReplayState::Cancelled] {
            rig.hub.change_replay(&replay.id, to(state), &act()).await.expect_err("it is over");
        }
    }
    assert_eq!(rig.letters(LetterState::Replayed).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_test_tells_how_it_ended_and_passes_a_closed_gate() {
    for (class, outcome, state) in [
        (None, Outcome::Delivered, LetterState::Replayed),
        (Some(Class::AlreadyDone), Outcome::Delivered, LetterState::Replayed),
        (Some(Class::Transient), Outcome::Failed, LetterState::Open),
    ] {
        let rig = Rig::new(Options::default()).await;
        rig.dead(1).await;
        rig.set_connection(ConnectionState::Paused).await;
        rig.remote.answers(move |_| class.map_or_else(ok, fault));
        let letter = rig.open_letters().await.remove(0);
        let named = if class.is_some() { &letter.id } else { &letter.event };
        let result = rig.hub.test_replay(named, &act()).await.expect("a result");
        assert_eq!((result.outcome, result.attempt.class), (outcome, class));
        assert_eq!(result.dead_letter, letter.id);
        assert_eq!(rig.letters(state).await, 1, "it is written when the result is told");
        assert_eq!(rig.remote.calls().len(), 2, "one try");
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_that_no_dispatcher_takes_gives_its_letter_back() {
    let rig = Rig::new(Options::default()).await;
    rig.dead(1).await;
    rig.broker.refuse(true);
    rig.broker.break_now();
    rig.wait(SECOND).await;
    let letter = rig.open_letters().await.remove(0);
    let refused = rig.hub.test_replay(&letter.id, &act()).await.expect_err("nobody takes it");
    assert!(refused.to_string().contains("open again"), "{refused}");
    assert_eq!(rig.letters(LetterState::Open).await, 1);
    rig.broker.refuse(false);
    rig.wait(600 * SECOND).await;
    assert_eq!(rig.remote.calls().len(), 1, "the test was not made after all");
}

#[tokio::test(start_paused = true)]
async fn a_test_of_an_event_that_the_filter_leaves_out_by_now_says_so() {
    let filter = |filter| Options { filter: Some(filter), ..Options::default() };
    let rig = Rig::new(filter(".total > 5")).await;
    rig.publish([("e0".to_owned(), "k")]).await;
    rig.until("it is dead", async || rig.letters(LetterState::Open).await == 1).await;
    let rig = rig.restart(filter("$event.id != \"e0\"")).await;
    let letter = rig.open_letters().await.remove(0);
    let result = rig.hub.test_replay(&letter.id, &act()).await.expect("a result");
    assert!(result.attempt.message.contains("filter"), "{:?}", result.attempt);
    rig.until("it is written", async || rig.letters(LetterState::Open).await == 0).await;
    assert_eq!(rig.remote.calls().len(), 0, "nothing was sent");
}
