//! Promises about looking at dead letters and deciding about them: lists, selections, discarding.

use std::collections::BTreeSet;

use crossdock_core::{
    Class, DeadLetter, Event, FailureGroup, LetterState, LetterSummary, PageRequest, Selection, StoreError,
};

use crate::{
    HasStore,
    letters::{bury, count, get, groups, in_state, summary},
    sample::{DAY, SECOND, act, connection, event, flow, letter, letter_of, now, of_group, setup},
};

async fn page<S: HasStore>(
    subject: &S,
    selection: &Selection,
    limit: usize,
    cursor: Option<String>,
) -> (Vec<LetterSummary>, Option<String>) {
    let page = subject.dead_letters().list(selection, PageRequest { limit, cursor }).await;
    let page = page.expect("the store reads");
    assert!(page.items.len() <= limit, "a page has at most {limit} items");
    (page.items, page.next)
}

async fn list<S: HasStore>(subject: &S, selection: &Selection) -> Vec<LetterSummary> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let (items, next) = page(subject, selection, 3, cursor).await;
        assert!(!items.is_empty() || next.is_none(), "an empty page is the last one");
        all.extend(items);
        match next {
            Some(next) => cursor = Some(next),
            None => return all,
        }
    }
}

fn ids(letters: &[LetterSummary]) -> Vec<&str> {
    letters.iter().map(|letter| letter.id.as_str()).collect()
}

/// Letters of three moments each, so that pages end between letters of one moment.
fn many(numbers: std::ops::Range<u64>, at: jiff::Timestamp) -> Vec<DeadLetter> {
    numbers.map(|n| letter(n, 422, at + (n as u32 / 3) * SECOND)).collect()
}

/// The newest first, in pages of any size, each letter on one page; the last page has no cursor.
pub async fn letters_are_listed_newest_first<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let letters = many(0..14, now(&setup));
    bury(&subject, letters.clone()).await;
    let reference: Vec<_> = page(&subject, &Selection::default(), 100, None).await.0;
    assert!(reference.windows(2).all(|pair| pair[0].failed_at >= pair[1].failed_at), "newest first");
    let expected: BTreeSet<_> = letters.iter().map(|letter| letter.id.clone()).collect();
    assert_eq!(reference.iter().map(|letter| letter.id.clone()).collect::<BTreeSet<_>>(), expected);
    for sent in &letters {
        assert!(reference.contains(&summary(sent)), "{} is listed as it is", sent.id);
    }
    for limit in [1, 2, 5, 7, 14, 15] {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (items, next) = page(&subject, &Selection::default(), limit, cursor).await;
            all.extend(items);
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(ids(&all), ids(&reference), "pages of {limit}");
    }
}

/// Pages stay whole while letters are written and discarded in between: what stays is listed once.
pub async fn pages_stay_whole_while_letters_come_and_go<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let at = now(&setup);
    let letters = many(0..30, at);
    bury(&subject, letters.clone()).await;
    let (mut all, mut cursor, mut gone) = (Vec::new(), None, BTreeSet::new());
    for round in 0u64.. {
        let (items, next) = page(&subject, &Selection::default(), 4, cursor).await;
        all.extend(items);
        let Some(next) = next else { break };
        cursor = Some(next);
        bury(&subject, [letter(100 + round, 422, at + DAY), letter(200 + round, 500, at + 9 * SECOND)]).await;
        let victim = &letters[29 - (round as usize * 3).min(29)];
        let selection = Selection { ids: vec![victim.id.clone()], ..Selection::default() };
        subject.dead_letters().discard(&selection, &act()).await.expect("it is discarded");
        gone.insert(victim.id.clone());
        if round == 3 {
            subject = subject.reopen(&setup).await;
        }
    }
    let listed = ids(&all);
    assert_eq!(
        listed.iter().collect::<BTreeSet<_>>().len(),
        listed.len(),
        "nothing is listed twice: {listed:?}"
    );
    for sent in letters.iter().filter(|letter| !gone.contains(&letter.id)) {
        assert!(listed.contains(&sent.id.as_str()), "{} was there all the while", sent.id);
    }
}

/// A cursor that nobody gave out is refused, in every list.
pub async fn a_foreign_cursor_is_refused<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    bury(&subject, many(0..3, now(&setup))).await;
    for text in ["", "zzz", "12", "\u{1f980}", "ffffffffffffffffffffffffffffffffffffffffffff", "-1", "%00"] {
        let request = PageRequest { limit: 2, cursor: Some(text.to_owned()) };
        let letters = subject.dead_letters().list(&Selection::default(), request.clone()).await.err();
        assert!(matches!(letters, Some(StoreError::BadCursor)), "letters, `{text}`: {letters:?}");
        let groups = subject.dead_letters().groups(&Selection::default(), request.clone()).await.err();
        assert!(matches!(groups, Some(StoreError::BadCursor)), "groups, `{text}`: {groups:?}");
        let replays = subject.replays().list(request).await.err();
        assert!(matches!(replays, Some(StoreError::BadCursor)), "replays, `{text}`: {replays:?}");
    }
}

/// Every condition selects, several select together, in lists, counts, groups and in what is discarded.
pub async fn every_condition_selects<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let at = now(&setup);
    let elsewhere = DeadLetter {
        connection: connection("erp"),
        class: Class::Bug,
        ..letter_of("audit", 9, 400, at + DAY)
    };
    let group = crossdock_core::GroupId::from("gelsewhere".to_owned());
    let elsewhere = DeadLetter { group, ..elsewhere };
    let letters = [
        letter(1, 422, at),
        letter(2, 422, at + SECOND),
        letter(3, 500, at + 2 * SECOND),
        letter_of("audit", 1, 422, at + 3 * SECOND),
        elsewhere,
    ];
    bury(&subject, letters.clone()).await;
    let all = Selection::default();
    let cases: Vec<(&str, Selection, &[usize])> = vec![
        ("nothing", all.clone(), &[4, 3, 2, 1, 0]),
        ("a group", of_group(&letters[0]), &[1, 0]),
        (
            "two groups",
            Selection { groups: vec![letters[0].group.clone(), letters[2].group.clone()], ..all.clone() },
            &[2, 1, 0],
        ),
        (
            "ids",
            Selection {
                ids: vec![letters[0].id.clone(), letters[4].id.clone(), "d0".to_owned()],
                ..all.clone()
            },
            &[4, 0],
        ),
        ("an event in two flows", Selection { events: vec!["e1".to_owned()], ..all.clone() }, &[3, 0]),
        ("a flow", Selection { flow: Some(flow("audit")), ..all.clone() }, &[4, 3]),
        ("a connection", Selection { connection: Some(connection("erp")), ..all.clone() }, &[4]),
        ("a class", Selection { class: Some(Class::Rejected), ..all.clone() }, &[3, 2, 1, 0]),
        ("a moment, itself included", Selection { since: Some(at + 2 * SECOND), ..all.clone() }, &[4, 3, 2]),
        ("a state", Selection { state: Some(LetterState::Open), ..all.clone() }, &[4, 3, 2, 1, 0]),
        ("another state", in_state(LetterState::Replaying), &[]),
        ("a flow that is not there", Selection { flow: Some(flow("nobody")), ..all.clone() }, &[]),
        (
            "flow and event",
            Selection { flow: Some(flow("audit")), events: vec!["e1".to_owned()], ..all.clone() },
            &[3],
        ),
        ("group and moment", Selection { since: Some(at + SECOND), ..of_group(&letters[0]) }, &[1]),
        (
            "class and flow",
            Selection { class: Some(Class::Bug), flow: Some(flow("billing")), ..all.clone() },
            &[],
        ),
        (
            "group and id of another",
            Selection { ids: vec![letters[3].id.clone()], ..of_group(&letters[0]) },
            &[],
        ),
    ];
    for (what, selection, expected) in &cases {
        let names: Vec<_> = expected.iter().map(|n| letters[*n].id.as_str()).collect();
        assert_eq!(ids(&list(&subject, selection).await), names, "{what}");
        assert_eq!(count(&subject, selection.clone()).await, names.len() as u64, "{what}, counted");
        let grouped: u64 = groups(&subject, selection.clone()).await.iter().map(|group| group.count).sum();
        assert_eq!(grouped, names.len() as u64, "{what}, in groups");
    }
    let (_, selection, _) = &cases[13];
    let discarded = subject.dead_letters().discard(selection, &act()).await.expect("they are discarded");
    assert_eq!(discarded, 1);
    assert_eq!(get(&subject, &letters[1].id).await.state, LetterState::Discarded);
    assert_eq!(count(&subject, all).await, 4);
}

/// Groups come with the largest first, in pages, each once.
pub async fn groups_are_listed_largest_first<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut offset = 0;
    for (status, count) in [(400, 2), (401, 5), (402, 1), (403, 5), (404, 9), (405, 2), (406, 2)] {
        let letters = (offset..offset + count).map(|n| letter(n, status, now(&setup)));
        bury(&subject, letters.collect::<Vec<_>>()).await;
        offset += count;
    }
    let reference = groups(&subject, Selection::default()).await;
    let counts: Vec<_> = reference.iter().map(|group| group.count).collect();
    assert_eq!(counts, [9, 5, 5, 2, 2, 2, 1]);
    assert!(
        reference.windows(2).all(|pair| pair[0].count > pair[1].count || pair[0].id < pair[1].id),
        "then by id"
    );
    let selected =
        Selection { class: Some(Class::Rejected), since: Some(now(&setup)), ..Selection::default() };
    for selection in [Selection::default(), selected] {
        for limit in [1, 2, 3, 7] {
            let (mut all, mut cursor): (Vec<FailureGroup>, _) = (Vec::new(), None);
            loop {
                let request = PageRequest { limit, cursor };
                let page = subject.dead_letters().groups(&selection, request).await.expect("the store reads");
                assert!(page.items.len() <= limit);
                all.extend(page.items);
                match page.next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
            assert_eq!(all, reference, "pages of {limit}");
        }
    }
}

/// A letter is found by its id, and by its event's where that is the only one.
pub async fn a_letter_is_found_by_its_event<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let at = now(&setup);
    let named_like_an_event = letter(7, 422, at);
    let tricky = DeadLetter {
        event: Event { id: named_like_an_event.id.clone(), ..event("x", "k") }.into(),
        ..letter(8, 422, at)
    };
    let (one, two) = (letter(1, 422, at), letter_of("audit", 1, 422, at));
    bury(&subject, [one.clone(), letter(2, 422, at), named_like_an_event.clone(), tricky]).await;
    assert_eq!(get(&subject, "e1").await, one);
    assert_eq!(get(&subject, &named_like_an_event.id).await, named_like_an_event, "its own id comes first");
    let port = subject.dead_letters();
    assert_eq!(port.get("e404").await.expect("the store reads"), None);
    bury(&subject, [two.clone()]).await;
    match port.get("e1").await {
        Err(StoreError::Conflict(text)) => {
            assert!(text.contains(&one.id) && text.contains(&two.id), "the answer names both: {text}");
        }
        other => panic!("two deliveries of e1 died: {other:?}"),
    }
    assert_eq!(get(&subject, &two.id).await, two);
}

/// Discarding takes open letters only, says how many, and is for good.
pub async fn discarding_takes_open_letters_once<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let letters = many(0..5, now(&setup));
    bury(&subject, letters.clone()).await;
    let three = Selection {
        ids: letters[..3].iter().map(|letter| letter.id.clone()).collect(),
        ..Selection::default()
    };
    let port = subject.dead_letters();
    let other_state = Selection { state: Some(LetterState::Replayed), ..three.clone() };
    assert_eq!(port.discard(&other_state, &act()).await.expect("nothing is discarded"), 0);
    assert_eq!(port.discard(&three, &act()).await.expect("they are discarded"), 3);
    assert_eq!(port.discard(&three, &act()).await.expect("nothing more"), 0);
    let gone = Selection { state: Some(LetterState::Discarded), ..three.clone() };
    assert_eq!(port.discard(&gone, &act()).await.expect("nothing more"), 0);
    drop(port);
    for _ in 0..2 {
        assert_eq!(count(&subject, in_state(LetterState::Discarded)).await, 3);
        assert_eq!(count(&subject, Selection::default()).await, 2);
        let kept = get(&subject, &letters[0].id).await;
        assert_eq!(
            kept,
            DeadLetter { state: LetterState::Discarded, ..letters[0].clone() },
            "nothing is taken from it"
        );
        subject = subject.crash(&setup).await;
    }
}
