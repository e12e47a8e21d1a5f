//! Promises about a replay as a job: how it ends, how it is changed, what a restart does to it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crossdock_core::{
    LetterState, NewHeld, NewReplay, Outcome, PageRequest, Replay, ReplayItem, ReplayState, Selection,
    Settlement, StoreError, Tried,
};

use tokio::time::Instant;

use crate::{
    HasStore, Setup,
    held::{hold, settle},
    letters::{bury, count, get, in_state},
    replays::{create, delivered, failed, items, numbers_of, show},
    sample::{SECOND, act, attempt, held, letter, now, replay_of, setup},
};

/// A replay of so many letters, with its items.
async fn replay_of_letters<S: HasStore>(subject: &S, setup: &Setup, count: u64) -> (Replay, Vec<ReplayItem>) {
    bury(subject, (0..count).map(|n| letter(n, 422, now(setup))).collect::<Vec<_>>()).await;
    let replay = create(subject, Selection::default()).await;
    let items = items(subject, &replay).await;
    assert_eq!(items.len() as u64, count);
    (replay, items)
}

async fn change<S: HasStore>(subject: &S, replay: &Replay, state: ReplayState) -> Result<Replay, StoreError> {
    subject.replays().change(&replay.id, state, &act()).await
}

async fn unfinished<S: HasStore>(subject: &S) -> Vec<String> {
    let unfinished = subject.replays().unfinished().await.expect("the store reads");
    unfinished.into_iter().map(|replay| replay.id).collect()
}

/// The last item ends the replay: succeeded when all were delivered, failed when any was not; paused or running.
pub async fn the_last_item_ends_a_replay<S: HasStore>() {
    for (fails, paused) in [(false, false), (true, false), (false, true), (true, true)] {
        let setup = setup();
        let subject = S::create(&setup).await;
        let (replay, items) = replay_of_letters(&subject, &setup, 3).await;
        let first =
            if fails { failed(&subject, &items[0], 422, now(&setup)) } else { delivered(&items[0].ticket) };
        settle(&subject, vec![first, delivered(&items[2].ticket)]).await;
        if paused {
            change(&subject, &replay, ReplayState::Paused).await.expect("it is paused");
        }
        assert!(!show(&subject, &replay).await.state.is_final());
        assert_eq!(show(&subject, &replay).await.finished_at, None);
        assert_eq!(unfinished(&subject).await, [replay.id.as_str()]);
        setup.clock.advance(SECOND);
        settle(&subject, vec![delivered(&items[1].ticket)]).await;
        let ended = show(&subject, &replay).await;
        let expected =
            if fails { (ReplayState::Failed, 3, 2, 1, 0) } else { (ReplayState::Succeeded, 3, 3, 0, 0) };
        assert_eq!((numbers_of(&ended), ended.finished_at), (expected, Some(now(&setup))));
        assert_eq!(unfinished(&subject).await, [""; 0]);
        let again = change(&subject, &replay, ReplayState::Cancelled).await.err();
        assert!(matches!(again, Some(StoreError::Conflict(_))), "a final state stays: {again:?}");
    }
}

/// Running and paused change into each other as often as a person likes; the frozen set stays.
pub async fn a_replay_is_paused_and_resumed<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let (replay, _) = replay_of_letters(&subject, &setup, 2).await;
    for state in [
        ReplayState::Paused,
        ReplayState::Paused,
        ReplayState::Running,
        ReplayState::Running,
        ReplayState::Paused,
    ] {
        let changed = change(&subject, &replay, state).await.expect("it changes");
        assert_eq!(numbers_of(&changed), (state, 2, 0, 0, 0));
        subject = subject.crash(&setup).await;
        assert_eq!(show(&subject, &replay).await, changed);
        assert_eq!(unfinished(&subject).await, [replay.id.as_str()]);
        assert_eq!(items(&subject, &replay).await.len(), 2, "items do not depend on the state");
    }
}

/// Only the three wishes are heard, and only for a replay that is there and not over.
pub async fn a_wish_that_makes_no_sense_is_refused<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let (replay, items) = replay_of_letters(&subject, &setup, 1).await;
    for state in [ReplayState::Succeeded, ReplayState::Failed] {
        let refused = change(&subject, &replay, state).await.err();
        assert!(matches!(refused, Some(StoreError::Conflict(_))), "{state:?}: {refused:?}");
    }
    let nobody = Replay { id: "r404".to_owned(), ..replay.clone() };
    let refused = change(&subject, &nobody, ReplayState::Paused).await.err();
    assert!(matches!(refused, Some(StoreError::NotFound { .. })), "{refused:?}");
    let refused = subject.replays().set_rate("r404", None, &act()).await.err();
    assert!(matches!(refused, Some(StoreError::NotFound { .. })), "{refused:?}");
    assert_eq!(subject.replays().get("r404").await.expect("the store reads"), None);
    settle(&subject, vec![delivered(&items[0].ticket)]).await;
    for state in [ReplayState::Running, ReplayState::Paused, ReplayState::Cancelled] {
        let refused = change(&subject, &replay, state).await.err();
        assert!(matches!(refused, Some(StoreError::Conflict(_))), "{state:?}: {refused:?}");
    }
    let refused = subject.replays().set_rate(&replay.id, Some(1.0), &act()).await.err();
    assert!(matches!(refused, Some(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(show(&subject, &replay).await.state, ReplayState::Succeeded);
}

/// The rate changes and stays changed.
pub async fn the_rate_can_be_changed<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let (replay, _) = replay_of_letters(&subject, &setup, 1).await;
    for rate in [Some(12.5), None, Some(0.001)] {
        let changed = subject.replays().set_rate(&replay.id, rate, &act()).await.expect("it changes");
        assert_eq!(changed, Replay { rate, ..replay.clone() });
        subject = subject.reopen(&setup).await;
        assert_eq!(show(&subject, &replay).await, changed);
    }
}

/// Cancelled: what is neither settled nor held is open again and counts as skipped, at once and for good; what is held is
/// settled later, and the numbers go on. Nothing of it is left to be sent.
pub async fn cancelling_gives_back_what_is_neither_settled_nor_held<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let (replay, all) = replay_of_letters(&subject, &setup, 8).await;
    settle(&subject, vec![delivered(&all[0].ticket), failed(&subject, &all[1], 422, now(&setup))]).await;
    let row = |n: usize| NewHeld {
        replay: Some(all[n].ticket.clone()),
        due: Some(now(&setup)),
        ..held(n as u64, &format!("k{n}"))
    };
    let rows = hold(&subject, vec![row(5), row(6)]).await;
    setup.clock.advance(SECOND);
    let cancelled = change(&subject, &replay, ReplayState::Cancelled).await.expect("it is cancelled");
    assert_eq!(numbers_of(&cancelled), (ReplayState::Cancelled, 8, 1, 1, 4));
    assert_eq!(cancelled.finished_at, Some(now(&setup)));
    use LetterState::{Open, Replayed, Replaying};
    for _ in 0..2 {
        for (item, state) in all.iter().zip([Replayed, Open, Open, Open, Open, Replaying, Replaying, Open]) {
            assert_eq!(get(&subject, &item.letter.id).await.state, state, "item {}", item.ticket.item);
        }
        assert_eq!(unfinished(&subject).await, [""; 0]);
        assert_eq!(items(&subject, &replay).await.len(), 0);
        assert_eq!(show(&subject, &replay).await, cancelled);
        subject = subject.crash(&setup).await;
    }
    assert_eq!(get(&subject, &all[3].letter.id).await.replays, 0, "a skipped item was not replayed");
    let letter = match failed(&subject, &all[6], 422, now(&setup)) {
        Settlement::DeadLetter { letter, replay, .. } => {
            Settlement::DeadLetter { letter, held: Some(rows[1].id), replay }
        }
        other => other,
    };
    let done = Settlement::Delivered { held: Some(rows[0].id), replay: Some(all[5].ticket.clone()) };
    settle(&subject, vec![done, letter]).await;
    let after = show(&subject, &replay).await;
    assert_eq!(numbers_of(&after), (ReplayState::Cancelled, 8, 2, 2, 4));
    assert_eq!(after.finished_at, cancelled.finished_at);
    assert_eq!(count(&subject, in_state(Replaying)).await, 0);
    let next = create(&subject, Selection::default()).await;
    assert_eq!(next.total, 6, "what was given back can be replayed");
}

/// An item that was given back while somebody was sending it counts as delivered when it is: once, and its letter too if
/// nothing has become of it since. Should it fail, nothing more is to be said.
pub async fn a_skipped_item_that_is_delivered_counts<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let (replay, all) = replay_of_letters(&subject, &setup, 5).await;
    change(&subject, &replay, ReplayState::Cancelled).await.expect("it is cancelled");
    let ids = |n: usize| Selection { ids: vec![all[n].letter.id.clone()], ..Selection::default() };
    subject.dead_letters().discard(&ids(1), &act()).await.expect("it is discarded");
    let next = create(&subject, ids(2)).await;
    for life in 0..3 {
        let late = vec![
            delivered(&all[0].ticket),
            delivered(&all[1].ticket),
            delivered(&all[2].ticket),
            failed(&subject, &all[3], 422, now(&setup)),
        ];
        settle(&subject, late).await;
        let after = numbers_of(&show(&subject, &replay).await);
        assert_eq!(after, (ReplayState::Cancelled, 5, 3, 0, 2), "life {life}");
        let mut states = Vec::new();
        for item in &all {
            let letter = get(&subject, &item.letter.id).await;
            states.push((letter.state, letter.replays));
        }
        use LetterState::{Discarded, Open, Replayed, Replaying};
        assert_eq!(states, [(Replayed, 1), (Discarded, 0), (Replaying, 0), (Open, 0), (Open, 0)]);
        assert_eq!(count(&subject, in_state(Replayed)).await, 1);
        assert_eq!(numbers_of(&show(&subject, &next).await), (ReplayState::Running, 1, 0, 0, 0));
        subject = subject.crash(&setup).await;
    }
}

/// A test is told from other replays, and what it came to is there for whoever asks, before and after its item is settled.
pub async fn what_a_test_came_to_is_kept<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    bury(&subject, [letter(0, 422, now(&setup)), letter(1, 422, now(&setup))]).await;
    let new = |n: u64, test| NewReplay {
        test,
        ..replay_of(Selection { events: vec![format!("e{n}")], ..Selection::default() })
    };
    let other = subject.replays().create(new(1, false)).await.expect("it is made");
    let test = subject.replays().create(new(0, true)).await.expect("it is made");
    assert_eq!((test.test, test.tried.clone(), other.test), (true, None, false));
    let unfinished = subject.replays().unfinished().await.expect("the store reads");
    assert_eq!(unfinished.iter().map(|replay| replay.test).collect::<Vec<_>>(), [false, true]);
    let first = &items(&subject, &test).await[0];
    let tried = |outcome, n| Tried { outcome, attempt: attempt(n, now(&setup)) };
    for said in [tried(Outcome::Failed, 1), tried(Outcome::Delivered, 2)] {
        subject.replays().tried(&test.id, &said).await.expect("it is kept");
        subject = subject.crash(&setup).await;
        assert_eq!(show(&subject, &test).await, Replay { tried: Some(said), ..test.clone() });
    }
    settle(&subject, vec![delivered(&first.ticket)]).await;
    let said = tried(Outcome::Delivered, 3);
    subject.replays().tried(&test.id, &said).await.expect("it is kept");
    let ended = show(&subject, &test).await;
    assert_eq!((numbers_of(&ended), ended.tried), ((ReplayState::Succeeded, 1, 1, 0, 0), Some(said.clone())));
    subject.replays().tried("r404", &said).await.expect("nothing is kept");
    assert_eq!(show(&subject, &other).await, other);
}

/// Two workers that ask for all that they may send keep the rate together; without one each is given what it wants.
pub async fn a_rate_is_shared_by_all_workers<S: HasStore>() {
    const RATE: f64 = 100.0;
    let setup = setup();
    let subject = S::create(&setup).await;
    let (replay, _) = replay_of_letters(&subject, &setup, 1).await;
    let (port, other) = (subject.replays(), subject.replays());
    port.set_rate(&replay.id, None, &act()).await.expect("it changes");
    assert_eq!(port.allow(&replay.id, 700).await.expect("the store answers"), 700);
    if !S::SHARES_RATES {
        return;
    }
    port.set_rate(&replay.id, Some(RATE), &act()).await.expect("it changes");
    // A store that has been idle has saved up no more than its burst.
    let (began, mut last, mut sent, mut most) = (Instant::now(), Instant::now(), 0, 0);
    let mut by = [0, 0];
    while began.elapsed() < SECOND {
        tokio::time::sleep(Duration::from_millis(3)).await;
        // The store's time is real or that of the setup, which goes on with it.
        setup.clock.advance(last.elapsed());
        last = Instant::now();
        for (by, port) in by.iter_mut().zip([&port, &other]) {
            let allowed = port.allow(&replay.id, 3).await.expect("the store answers");
            assert!(allowed <= 3, "more than was wanted");
            *by += allowed;
            sent += allowed;
            most = most.max(allowed);
        }
    }
    let due = began.elapsed().as_secs_f64() * RATE;
    let (least, burst) = (due * 0.6, RATE / 10.0 + 2.0);
    assert!((least..=due + burst).contains(&(sent as f64)), "{sent} of {due} were allowed: {by:?}");
    port.set_rate(&replay.id, Some(0.001), &act()).await.expect("it changes");
    let more = port.allow(&replay.id, 100).await.expect("the store answers");
    assert!(more <= 10, "{more} after the rate was lowered");
    assert_eq!(port.allow(&replay.id, 100).await.expect("the store answers"), 0, "not before a long time");
}

/// A crash in the middle: what is settled stays settled, what is not is given again, in order, until the end.
pub async fn a_replay_survives_a_crash_in_the_middle<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let (replay, _) = replay_of_letters(&subject, &setup, 20).await;
    let mut seen = BTreeSet::new();
    for life in 0..5 {
        assert_eq!(unfinished(&subject).await, [replay.id.as_str()], "life {life}");
        let left = items(&subject, &replay).await;
        assert!(left.windows(2).all(|pair| pair[0].ticket.item < pair[1].ticket.item));
        assert_eq!(left.len(), 20 - seen.len());
        let (skip, step) = if life < 4 { (life % 2, 2) } else { (0, 1) };
        let settled: Vec<_> = left.iter().skip(skip).step_by(step).take(4).collect();
        let settlements = settled.iter().map(|item| {
            assert!(seen.insert(item.ticket.item), "item {} is given twice", item.ticket.item);
            delivered(&item.ticket)
        });
        settle(&subject, settlements.collect()).await;
        subject = subject.crash(&setup).await;
    }
    assert_eq!(numbers_of(&show(&subject, &replay).await), (ReplayState::Succeeded, 20, 20, 0, 0));
    assert_eq!(count(&subject, in_state(LetterState::Replayed)).await, 20);
}

/// Many lanes settle items at once, each twice: the numbers are exact and the replay ends once.
pub async fn items_settled_at_once_count_once<S: HasStore>() {
    let setup = setup();
    let subject = Arc::new(S::create(&setup).await);
    let (replay, all) = replay_of_letters(subject.as_ref(), &setup, 120).await;
    let lanes = (0..8).map(|lane| {
        let (subject, at) = (subject.clone(), now(&setup));
        let mine: Vec<_> = all.iter().skip(lane).step_by(8).cloned().collect();
        tokio::spawn(async move {
            for item in mine {
                let one = || {
                    if item.ticket.item % 5 == 0 {
                        failed(subject.as_ref(), &item, 500, at)
                    } else {
                        delivered(&item.ticket)
                    }
                };
                settle(subject.as_ref(), vec![one()]).await;
                settle(subject.as_ref(), vec![one()]).await;
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.expect("the lane ends well");
    }
    assert_eq!(numbers_of(&show(subject.as_ref(), &replay).await), (ReplayState::Failed, 120, 96, 24, 0));
    assert_eq!(count(subject.as_ref(), Selection::default()).await, 24);
}

/// Replays are listed newest first, in pages, each once while others are made.
pub async fn replays_are_listed_newest_first<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    bury(&subject, (0..12).map(|n| letter(n, 422, now(&setup))).collect::<Vec<_>>()).await;
    let one = |n: u64| Selection { events: vec![format!("e{n}")], ..Selection::default() };
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(create(&subject, one(n)).await.id);
        setup.clock.advance(SECOND);
    }
    assert!(made.is_sorted(), "ids ascend in time");
    let (mut all, mut cursor) = (Vec::new(), None);
    for n in 7.. {
        let page = subject.replays().list(PageRequest { limit: 2, cursor }).await.expect("the store reads");
        assert!(page.items.len() <= 2);
        all.extend(page.items.into_iter().map(|replay| replay.id));
        let Some(next) = page.next else { break };
        cursor = Some(next);
        create(&subject, one(n)).await;
    }
    made.reverse();
    assert_eq!(all, made);
}
