//! Promises about the items of a replay: frozen, in order, settled once.

use std::{collections::BTreeSet, sync::Arc};

use crossdock_core::{
    DeadLetter, FlowName, LetterState, NewHeld, Partition, Replay, ReplayItem, ReplayState, ReplayTicket,
    Selection, Settlement, StoreError,
};

use crate::{
    HasStore,
    held::{hold, settle},
    letters::{bury, count, get, group, in_state},
    sample::{
        SECOND, act, billing, died_again, held, letter, letter_of, now, of_group,
        partition as partition_of_suite, position, replay_of, setup, topic,
    },
};

pub(crate) async fn create<S: HasStore>(subject: &S, selection: Selection) -> Replay {
    subject.replays().create(replay_of(selection)).await.expect("the replay is made")
}

/// The places at which a replay has something to be sent.
pub(crate) async fn places<S: HasStore>(subject: &S, replay: &str) -> Vec<(FlowName, Partition)> {
    let mut places = subject.replays().places(replay).await.expect("the store reads");
    places.sort();
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "each place once: {places:?}");
    places
}

/// The items of every place, by their numbers.
pub(crate) async fn items_of<S: HasStore>(subject: &S, replay: &str) -> Vec<ReplayItem> {
    let mut all = Vec::new();
    for (flow, partition) in places(subject, replay).await {
        let items = subject.replays().items(replay, &flow, &partition, 0, 10_000).await;
        let items = items.expect("the store reads");
        assert!(!items.is_empty(), "a place is named because something waits there");
        assert!(items.windows(2).all(|pair| pair[0].ticket.item < pair[1].ticket.item), "in order");
        all.extend(items);
    }
    all.sort_by_key(|item| item.ticket.item);
    all
}

pub(crate) async fn items<S: HasStore>(subject: &S, replay: &Replay) -> Vec<ReplayItem> {
    items_of(subject, &replay.id).await
}

pub(crate) async fn show<S: HasStore>(subject: &S, replay: &Replay) -> Replay {
    let found = subject.replays().get(&replay.id).await.expect("the store reads");
    found.expect("the replay is there")
}

pub(crate) fn delivered(ticket: &ReplayTicket) -> Settlement {
    Settlement::Delivered { held: None, replay: Some(ticket.clone()) }
}

pub(crate) fn failed<S: HasStore>(_: &S, item: &ReplayItem, status: u16, at: jiff::Timestamp) -> Settlement {
    let letter = Arc::new(died_again(&item.letter, status, at, &item.ticket));
    Settlement::DeadLetter { letter, held: None, replay: Some(item.ticket.clone()) }
}

fn numbers(items: &[ReplayItem]) -> Vec<u64> {
    items.iter().map(|item| item.ticket.item).collect()
}

pub(crate) fn numbers_of(replay: &Replay) -> (ReplayState, u64, u64, u64, u64) {
    (replay.state, replay.total, replay.delivered, replay.failed, replay.skipped)
}

/// A replay freezes the open letters of its selection: later ones, other ones and settled ones are not in it.
pub async fn a_replay_freezes_its_set<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let at = now(&setup);
    let letters: Vec<_> = (0..6).map(|n| letter(n, 422, at)).collect();
    bury(&subject, letters.clone()).await;
    bury(&subject, [letter(50, 500, at)]).await;
    let one = Selection { ids: vec![letters[5].id.clone()], ..Selection::default() };
    subject.dead_letters().discard(&one, &act()).await.expect("it is discarded");
    let replay = create(&subject, of_group(&letters[0])).await;
    bury(&subject, [letter(60, 422, at)]).await;
    let frozen = items(&subject, &replay).await;
    assert_eq!(numbers(&frozen), [0, 1, 2, 3, 4], "numbered without gaps");
    for (item, sent) in frozen.iter().zip(&letters) {
        let ticket =
            ReplayTicket { replay: replay.id.clone(), item: item.ticket.item, letter: sent.id.clone() };
        assert_eq!(item.ticket, ticket);
        assert_eq!(
            item.letter,
            DeadLetter { state: LetterState::Replaying, ..sent.clone() },
            "a letter is given whole"
        );
    }
    assert_eq!(count(&subject, in_state(LetterState::Replaying)).await, 5);
    let group = group(&subject, of_group(&letters[0])).await;
    assert_eq!((group.count, group.state), (1, LetterState::Open), "the later one is open");
}

/// What a replay says about itself right after it was made, and after a restart.
pub async fn a_replay_says_what_was_asked_for<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    bury(&subject, (0..3).map(|n| letter(n, 422, now(&setup))).collect::<Vec<_>>()).await;
    let selection =
        Selection { class: Some(crossdock_core::Class::Rejected), ..of_group(&letter(0, 422, now(&setup))) };
    let mut wish = replay_of(selection.clone());
    wish.rate = Some(0.1);
    let made = subject.replays().create(wish).await.expect("the replay is made");
    let expected = Replay {
        id: made.id.clone(),
        state: ReplayState::Running,
        selection,
        rate: Some(0.1),
        actor: act().actor,
        reason: act().reason,
        total: 3,
        delivered: 0,
        failed: 0,
        skipped: 0,
        created_at: now(&setup),
        finished_at: None,
        test: false,
        tried: None,
    };
    assert_eq!(made, expected);
    assert!(made.id.len() == 27 && made.id.starts_with('r'), "{}", made.id);
    for _ in 0..2 {
        subject = subject.crash(&setup).await;
        assert_eq!(show(&subject, &made).await, expected);
    }
}

/// The order of items is that of the events in each partition, whatever the order in which they died; pages begin where
/// they are asked to.
pub async fn items_come_in_the_order_of_their_events<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut letters: Vec<_> = [7, 1, 9, 300, 3, 256, 2, 255].map(|n| letter(n, 422, now(&setup))).to_vec();
    for (n, letter) in letters.iter_mut().enumerate() {
        letter.position.partition = n as u32 % 2;
    }
    bury(&subject, letters).await;
    let replay = create(&subject, Selection::default()).await;
    let all = items(&subject, &replay).await;
    assert_eq!(numbers(&all), (0..8).collect::<Vec<_>>());
    for partition in 0..2 {
        let offsets: Vec<_> = all
            .iter()
            .map(|item| &item.letter.position)
            .filter(|position| position.partition == partition)
            .map(|position| position.offset)
            .collect();
        assert!(offsets.len() == 4 && offsets.is_sorted(), "partition {partition}: {offsets:?}");
    }
    for partition in 0..2 {
        let here = all.iter().filter(|item| item.letter.position.partition == partition);
        let here: Vec<_> = here.map(|item| item.ticket.item).collect();
        let from = |from, limit| page(&subject, &replay.id, partition, from, limit);
        assert_eq!(from(0, 10).await, here);
        assert_eq!(from(here[1], 2).await, here[1..3]);
        assert_eq!(from(here[1] + 1, 1).await, here[2..3]);
        assert_eq!(from(here[3], 10).await, here[3..]);
        assert_eq!(from(here[3] + 1, 10).await, [0; 0]);
    }
    assert_eq!(page(&subject, "r404", 0, 0, 10).await, [0; 0]);
}

/// The numbers of items of `billing` in a partition of `orders`.
async fn page<S: HasStore>(subject: &S, id: &str, partition: u32, from: u64, limit: usize) -> Vec<u64> {
    let partition = Partition { number: partition, ..partition_of_suite() };
    let items = subject.replays().items(id, &billing(), &partition, from, limit).await;
    numbers(&items.expect("the store reads"))
}

/// Items are those of the flow and the partition that are asked for, and the places are those where any are left.
pub async fn items_belong_to_their_place<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut letters = Vec::new();
    for name in ["billing", "audit"] {
        for (partition, offset) in [(0, 5), (0, 6), (1, 5)] {
            let mut letter = letter_of(name, offset, 422, now(&setup));
            letter.position.partition = partition;
            letters.push(letter);
        }
    }
    letters.push({
        let mut letter = letter(5, 422, now(&setup));
        letter.position.topic = topic("returns");
        letter
    });
    bury(&subject, letters).await;
    let replay = create(&subject, Selection::default()).await;
    assert_eq!(places(&subject, &replay.id).await.len(), 5);
    let port = subject.replays();
    for (flow, partition) in places(&subject, &replay.id).await {
        let items = port.items(&replay.id, &flow, &partition, 0, 10).await.expect("the store reads");
        assert!(items.iter().all(|item| item.letter.flow == flow
            && item.letter.position.topic == partition.topic
            && item.letter.position.partition == partition.number));
        let first = &items[0];
        let last = &items[items.len() - 1];
        let row = NewHeld {
            position: first.letter.position.clone(),
            flow: flow.clone(),
            replay: Some(first.ticket.clone()),
            due: Some(now(&setup)),
            ..held(0, "k")
        };
        hold(&subject, vec![row]).await;
        let left = places(&subject, &replay.id).await;
        assert_eq!(left.contains(&(flow.clone(), partition.clone())), items.len() > 1, "one is held");
        settle(&subject, vec![delivered(&last.ticket)]).await;
        let left = places(&subject, &replay.id).await;
        assert!(!left.contains(&(flow, partition)), "the others are settled");
    }
    assert_eq!(places(&subject, &replay.id).await, []);
    assert_eq!(places(&subject, "r404").await, []);
}

/// Nothing open, nothing to replay.
pub async fn an_empty_set_is_a_conflict<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let sent = letter(1, 422, now(&setup));
    bury(&subject, [sent.clone()]).await;
    let nothing = [
        Selection { ids: vec!["d404".to_owned()], ..Selection::default() },
        in_state(LetterState::Discarded),
        Selection { flow: Some(crate::sample::flow("nobody")), ..Selection::default() },
    ];
    for selection in nothing {
        let refused = subject.replays().create(replay_of(selection)).await.err();
        assert!(matches!(refused, Some(StoreError::Conflict(_))), "{refused:?}");
    }
    create(&subject, Selection::default()).await;
    let refused = subject.replays().create(replay_of(Selection::default())).await.err();
    assert!(matches!(refused, Some(StoreError::Conflict(_))), "it belongs to a replay already: {refused:?}");
    assert_eq!(subject.dead_letters().discard(&Selection::default(), &act()).await.expect("none is open"), 0);
    let page = subject.replays().list(crossdock_core::PageRequest::first(10)).await.expect("the store reads");
    assert_eq!(page.items.len(), 1, "a refused replay is not there");
}

/// Replays made at once share no letter.
pub async fn replays_made_at_once_share_no_letter<S: HasStore>() {
    let setup = setup();
    let subject = Arc::new(S::create(&setup).await);
    bury(subject.as_ref(), (0..40).map(|n| letter(n, 422, now(&setup))).collect::<Vec<_>>()).await;
    let rivals = (0..6u64).map(|rival| {
        let subject = subject.clone();
        let events = (rival * 5..rival * 5 + 15).map(|n| format!("e{n}")).collect();
        tokio::spawn(async move {
            let made =
                subject.replays().create(replay_of(Selection { events, ..Selection::default() })).await;
            match made {
                Ok(replay) => items(subject.as_ref(), &replay).await,
                Err(StoreError::Conflict(_)) => Vec::new(),
                Err(error) => panic!("the store fails: {error}"),
            }
        })
    });
    let (mut letters, mut total) = (BTreeSet::new(), 0);
    for rival in rivals.collect::<Vec<_>>() {
        let items = rival.await.expect("the rival ends well");
        total += items.len();
        letters.extend(items.into_iter().map(|item| item.letter.id));
    }
    assert_eq!((letters.len(), total), (40, 40), "each letter is in one replay");
}

/// A delivered item leaves the list, marks its letter as replayed, and counts once, however often it is settled.
pub async fn a_delivered_item_counts_once<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    bury(&subject, (0..4).map(|n| letter(n, 422, now(&setup))).collect::<Vec<_>>()).await;
    let replay = create(&subject, Selection::default()).await;
    let all = items(&subject, &replay).await;
    for _ in 0..3 {
        settle(
            &subject,
            vec![delivered(&all[1].ticket), delivered(&all[3].ticket), delivered(&all[1].ticket)],
        )
        .await;
        assert_eq!(numbers(&items(&subject, &replay).await), [0, 2]);
        assert_eq!(numbers_of(&show(&subject, &replay).await), (ReplayState::Running, 4, 2, 0, 0));
        let letter = get(&subject, &all[1].letter.id).await;
        assert_eq!((letter.state, letter.replays), (LetterState::Replayed, 1));
        let group = group(&subject, in_state(LetterState::Replayed)).await;
        assert_eq!((group.count, group.state), (2, LetterState::Replaying));
        subject = subject.crash(&setup).await;
    }
}

/// An item that fails opens its letter anew, with what it died of now, its attempts added, in its new group; once.
pub async fn a_failed_item_opens_its_letter_anew<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let at = now(&setup);
    let sent = letter(1, 422, at);
    bury(&subject, [sent.clone(), letter(2, 422, at)]).await;
    let replay = create(&subject, Selection::default()).await;
    let all = items(&subject, &replay).await;
    let again = died_again(&all[0].letter, 409, at + 60 * SECOND, &all[0].ticket);
    for _ in 0..3 {
        settle(&subject, vec![failed(&subject, &all[0], 409, at + 60 * SECOND)]).await;
        let expected = DeadLetter { state: LetterState::Open, replays: 1, ..again.clone() };
        assert_eq!(get(&subject, &sent.id).await, expected);
        assert_eq!(expected.attempts.len(), 2);
        assert_eq!(numbers_of(&show(&subject, &replay).await), (ReplayState::Running, 2, 0, 1, 0));
        let now_in = group(&subject, Selection::default()).await;
        assert_eq!((now_in.id, now_in.count, now_in.last_at), (again.group.clone(), 1, at + 60 * SECOND));
        let was_in = group(&subject, in_state(LetterState::Replaying)).await;
        assert_eq!((was_in.id, was_in.count), (sent.group.clone(), 1));
        subject = subject.crash(&setup).await;
    }
}

/// An item whose retry is held is not given a second time; it is settled with its held row.
pub async fn a_held_item_is_not_given_again<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let at = now(&setup);
    bury(&subject, (0..3).map(|n| letter(n, 422, at)).collect::<Vec<_>>()).await;
    let replay = create(&subject, Selection::default()).await;
    let all = items(&subject, &replay).await;
    let row =
        |n: usize| NewHeld { replay: Some(all[n].ticket.clone()), due: Some(at), ..held(n as u64, "k") };
    let rows = hold(&subject, vec![row(0), row(1)]).await;
    let rows: Vec<_> = rows.into_iter().map(|placed| placed.id).collect();
    subject = subject.crash(&setup).await;
    assert_eq!(numbers(&items(&subject, &replay).await), [2]);
    let found = subject.held().of_event(&position(0)).await.expect("the store reads");
    assert_eq!(found[0].held.replay.as_ref(), Some(&all[0].ticket));
    let done = Settlement::Delivered { held: Some(rows[0]), replay: Some(all[0].ticket.clone()) };
    let letter = Arc::new(died_again(&all[1].letter, 422, at + SECOND, &all[1].ticket));
    let dead = Settlement::DeadLetter { letter, held: Some(rows[1]), replay: Some(all[1].ticket.clone()) };
    for _ in 0..2 {
        settle(&subject, vec![done.clone(), dead.clone()]).await;
        assert_eq!(numbers_of(&show(&subject, &replay).await), (ReplayState::Running, 3, 1, 1, 0));
        assert_eq!(numbers(&items(&subject, &replay).await), [2]);
    }
    assert_eq!(subject.held().count(&billing()).await.expect("the store counts"), (0, None));
    assert_eq!(get(&subject, &all[0].letter.id).await.state, LetterState::Replayed);
    assert_eq!(get(&subject, &all[1].letter.id).await.state, LetterState::Open);
}

/// A replayed item that dies in the very settlement that had it held before: the next replay takes it again.
pub async fn a_letter_can_be_replayed_many_times<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let at = now(&setup);
    bury(&subject, [letter(1, 422, at)]).await;
    for round in 1..4u32 {
        let replay = create(&subject, Selection::default()).await;
        let item = items(&subject, &replay).await.remove(0);
        assert_eq!(item.letter.replays, round - 1);
        settle(&subject, vec![failed(&subject, &item, 422, at + round * SECOND)]).await;
        let letter = get(&subject, &item.letter.id).await;
        assert_eq!((letter.replays, letter.attempts.len()), (round, 1 + round as usize));
        assert_eq!(show(&subject, &replay).await.state, ReplayState::Failed);
        // Late word of a replay that is over changes nothing.
        settle(&subject, vec![delivered(&item.ticket)]).await;
        assert_eq!(get(&subject, &item.letter.id).await.state, LetterState::Open);
    }
    assert_eq!(group(&subject, Selection::default()).await.count, 1);
}

/// Only the flow that failed is replayed; the letter of another flow for the same event stays where it is.
pub async fn only_the_flow_that_failed_is_replayed<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let (mine, other) = (letter(1, 422, now(&setup)), letter_of("audit", 1, 422, now(&setup)));
    bury(&subject, [mine.clone(), other.clone()]).await;
    let replay = create(&subject, Selection { flow: Some(mine.flow.clone()), ..Selection::default() }).await;
    let all = items(&subject, &replay).await;
    assert_eq!(all.iter().map(|item| &item.letter.id).collect::<Vec<_>>(), [&mine.id]);
    settle(&subject, vec![delivered(&all[0].ticket)]).await;
    assert_eq!(get(&subject, &other.id).await, other);
    assert_eq!(show(&subject, &replay).await.state, ReplayState::Succeeded);
}
