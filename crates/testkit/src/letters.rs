//! Promises about dead letters as they are written: whole, once, and in the numbers of their group.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_core::{
    Attempt, DeadLetter, Event, FailureGroup, LetterState, LetterSummary, PageRequest, Position, Selection,
    Settlement,
};

use crate::{
    HasStore,
    held::{hold, settle},
    sample::{
        DAY, SECOND, act, attempt, head, letter, letter_of, now, of_group, position, request, setup,
        whole_event,
    },
};

/// Writes letters that no held row and no replay stands behind.
pub(crate) async fn bury<S: HasStore>(subject: &S, letters: impl IntoIterator<Item = DeadLetter>) {
    let settlement = |letter| Settlement::DeadLetter { letter: Arc::new(letter), held: None, replay: None };
    settle(subject, letters.into_iter().map(settlement).collect()).await;
}

pub(crate) async fn get<S: HasStore>(subject: &S, id: &str) -> DeadLetter {
    let found = subject.dead_letters().get(id).await.expect("the store reads");
    found.unwrap_or_else(|| panic!("the dead letter {id} is there"))
}

pub(crate) async fn count<S: HasStore>(subject: &S, selection: Selection) -> u64 {
    subject.dead_letters().count(&selection).await.expect("the store counts")
}

pub(crate) async fn groups<S: HasStore>(subject: &S, selection: Selection) -> Vec<FailureGroup> {
    let page = subject.dead_letters().groups(&selection, PageRequest::first(1000)).await;
    page.expect("the store reads").items
}

/// The only group of a selection.
pub(crate) async fn group<S: HasStore>(subject: &S, selection: Selection) -> FailureGroup {
    let mut groups = groups(subject, selection).await;
    assert_eq!(groups.len(), 1, "{groups:?}");
    groups.remove(0)
}

pub(crate) fn in_state(state: LetterState) -> Selection {
    Selection { state: Some(state), ..Selection::default() }
}

/// What a list must say about a letter.
pub(crate) fn summary(letter: &DeadLetter) -> LetterSummary {
    LetterSummary {
        id: letter.id.clone(),
        state: letter.state,
        group: letter.group.clone(),
        event: letter.event.id.clone(),
        kind: letter.event.kind.clone(),
        key: letter.key.clone(),
        flow: letter.flow.clone(),
        connection: letter.connection.clone(),
        class: letter.class,
        status: letter.status,
        code: letter.code.clone(),
        message: letter.message.clone(),
        attempts: u32::try_from(letter.attempts.len()).expect("few"),
        replays: letter.replays,
        failed_at: letter.failed_at,
    }
}

/// Payload, attributes, mapped request, attempts and every text come back as they were, after a restart and a crash.
pub async fn a_letter_is_kept_whole<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let at = now(&setup);
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let full = DeadLetter {
        event: Arc::new(Event { data: Bytes::from(binary.clone()), ..whole_event("whole") }),
        request: Some(request(&binary)),
        attempts: vec![
            attempt(1, at - 9 * SECOND),
            Attempt { times: 12, ..attempt(2, at - 5 * SECOND) },
            Attempt { request: None, status: None, class: None, code: None, excerpt: None, ..attempt(2, at) },
        ],
        message: "NUL \u{0}, a line\nand \u{1f980} 'quotes\"".to_owned(),
        ..letter(1 << 40, 422, at)
    };
    let bare = DeadLetter {
        request: None,
        key: None,
        status: None,
        code: None,
        advice: None,
        attempts: Vec::new(),
        step: "map".to_owned(),
        ..letter(2, 500, at)
    };
    bury(&subject, [full.clone(), bare.clone()]).await;
    for life in 0..3 {
        for sent in [&full, &bare] {
            assert_eq!(&get(&subject, &sent.id).await, sent, "life {life}");
            let listed = subject.dead_letters().of_event(&sent.position).await.expect("the store reads");
            assert_eq!(listed, [summary(sent)]);
        }
        subject = if life == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
}

/// The same settlement again writes nothing more: one letter, one count, the same attempts.
pub async fn a_letter_is_written_once<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let sent = letter(1, 422, now(&setup));
    for _ in 0..3 {
        bury(&subject, [sent.clone(), sent.clone()]).await;
        assert_eq!(get(&subject, &sent.id).await, sent);
        assert_eq!(count(&subject, Selection::default()).await, 1);
        assert_eq!(group(&subject, Selection::default()).await.count, 1);
        subject = subject.crash(&setup).await;
    }
}

/// A delivery that dies again, since the broker gave it again, adds its attempts to the letter that is there; whatever
/// state that is in, it stays.
pub async fn a_delivery_that_dies_again_adds_its_attempts<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let at = now(&setup);
    let first = letter(1, 422, at);
    bury(&subject, [first.clone()]).await;
    let again = letter(1, 500, at + SECOND);
    bury(&subject, [again.clone()]).await;
    let both = [first.attempts.clone(), again.attempts.clone()].concat();
    let expected = DeadLetter { attempts: both, ..first.clone() };
    assert_eq!(get(&subject, &first.id).await, expected);
    assert_eq!(
        subject.dead_letters().get(&again.id).await.expect("the store reads"),
        None,
        "its id is not used"
    );
    assert_eq!(groups(&subject, Selection::default()).await.len(), 1);
    subject.dead_letters().discard(&Selection::default(), &act()).await.expect("it is discarded");
    bury(&subject, [letter(1, 422, at + 2 * SECOND)]).await;
    let after = get(&subject, &first.id).await;
    assert_eq!((after.state, after.attempts.len()), (LetterState::Discarded, 3));
    assert_eq!(count(&subject, Selection::default()).await, 0);
}

/// A topic that was made anew counts from 0 again: another event that dies at a position has a letter of its own, with its own
/// payload, whatever became of the one that is there.
pub async fn another_event_at_a_position_has_its_own_letter<S: HasStore>() {
    if !S::OUTLIVES_ITS_BROKER {
        return;
    }
    let setup = setup();
    let subject = S::create(&setup).await;
    let at = now(&setup);
    let first = letter(1, 422, at);
    bury(&subject, [first.clone()]).await;
    subject.dead_letters().discard(&Selection::default(), &act()).await.expect("it is discarded");
    let other = DeadLetter { event: Arc::new(whole_event("other")), ..letter(1, 422, at + SECOND) };
    for _ in 0..2 {
        bury(&subject, [other.clone(), first.clone()]).await;
        assert_eq!(get(&subject, &other.id).await, other);
        let kept = get(&subject, &first.id).await;
        assert_eq!((kept.state, kept.attempts), (LetterState::Discarded, first.attempts.clone()));
        assert_eq!(count(&subject, Selection::default()).await, 1, "one is open");
    }
}

/// The held row goes in the settlement that writes the letter; a letter of another flow for the same event is another one.
pub async fn a_letter_takes_the_place_of_its_held_row<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let at = now(&setup);
    let id = hold(&subject, vec![head(1, "k1", at)]).await[0].id;
    let (mine, other) = (letter(1, 422, at), letter_of("audit", 1, 422, at));
    let settlement = Settlement::DeadLetter { letter: Arc::new(mine.clone()), held: Some(id), replay: None };
    settle(&subject, vec![settlement]).await;
    bury(&subject, [other.clone()]).await;
    assert!(subject.held().of_event(&position(1)).await.expect("the store reads").is_empty());
    let mut listed = subject.dead_letters().of_event(&position(1)).await.expect("the store reads");
    listed.sort_by(|one, two| one.id.cmp(&two.id));
    assert_eq!(listed, [summary(&mine), summary(&other)]);
    let elsewhere = Position { partition: 1, ..position(1) };
    assert_eq!(subject.dead_letters().of_event(&elsewhere).await.expect("the store reads"), []);
}

/// A group counts its letters by state, knows when the first and the last failed, and says what the last one said.
pub async fn a_group_counts_its_letters<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let at = now(&setup);
    let letters: Vec<_> = (0..10)
        .map(|n| DeadLetter { message: format!("order {n}"), ..letter(n, 422, at + (n as u32) * SECOND) })
        .collect();
    bury(&subject, letters.clone()).await;
    let discarded =
        Selection { ids: vec![letters[0].id.clone(), letters[9].id.clone()], ..Selection::default() };
    assert_eq!(subject.dead_letters().discard(&discarded, &act()).await.expect("they are discarded"), 2);
    for _ in 0..2 {
        let first = &letters[0];
        let expected = FailureGroup {
            id: first.group.clone(),
            count: 8,
            state: LetterState::Open,
            flow: first.flow.clone(),
            connection: first.connection.clone(),
            step: first.step.clone(),
            action: first.action.clone(),
            class: first.class,
            status: first.status,
            code: first.code.clone(),
            message: "order 9".to_owned(),
            advice: first.advice.clone(),
            first_at: at,
            last_at: at + 9 * SECOND,
        };
        assert_eq!(group(&subject, Selection::default()).await, expected);
        let of_discarded = FailureGroup { count: 2, ..expected };
        assert_eq!(group(&subject, in_state(LetterState::Discarded)).await, of_discarded);
        assert_eq!(groups(&subject, in_state(LetterState::Replayed)).await, []);
        subject = subject.reopen(&setup).await;
    }
    subject.dead_letters().discard(&Selection::default(), &act()).await.expect("they are discarded");
    assert_eq!(groups(&subject, Selection::default()).await, []);
    let all = group(&subject, in_state(LetterState::Discarded)).await;
    assert_eq!((all.count, all.state), (10, LetterState::Discarded));
}

/// Many dispatchers bury at once, each letter twice: every group has its exact number.
pub async fn burying_at_once_counts_each_letter_once<S: HasStore>() {
    let setup = setup();
    let subject = Arc::new(S::create(&setup).await);
    let at = now(&setup);
    let workers = (0..8u64).map(|worker| {
        let subject = subject.clone();
        tokio::spawn(async move {
            for call in 0..10u64 {
                let base = (worker * 10 + call) * 5;
                let letters: Vec<_> = (base..base + 5).map(|n| letter(n, 420 + (n % 2) as u16, at)).collect();
                bury(subject.as_ref(), letters.clone()).await;
                bury(subject.as_ref(), letters).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("the worker ends well");
    }
    let counts: Vec<_> =
        groups(subject.as_ref(), Selection::default()).await.iter().map(|group| group.count).collect();
    assert_eq!(counts, [200, 200]);
    assert_eq!(count(subject.as_ref(), Selection::default()).await, 400);
    assert_eq!(count(subject.as_ref(), of_group(&letter(0, 420, at))).await, 200);
}

/// Open letters do not grow old.
pub async fn open_letters_outlive_every_retention<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let sent = letter(1, 422, now(&setup));
    bury(&subject, [sent.clone()]).await;
    for _ in 0..2 {
        setup.clock.advance(400 * DAY);
        subject = subject.reopen(&setup).await;
        bury(&subject, [letter(2, 422, now(&setup))]).await;
    }
    assert_eq!(get(&subject, &sent.id).await, sent);
}
