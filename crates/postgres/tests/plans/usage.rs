//! Every port, with every kind of question that is asked while deliveries run or somebody looks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crossdock_core::{
    Act, Attempt, Checkpoints, Class, ConnectionName, ConnectionState, Connections, DeadLetter, DeadLetters,
    Event, EventLog, Fault, Fingerprint, FlowName, HeldEvents, Leases, LetterState, NewHeld, NewReplay,
    Outcome, PageRequest, Partition, Position, ReplayState, ReplayTicket, Replays, Selection, Settled,
    Settlement, Settlements, StoredConnection, Topic, Tried,
};
use crossdock_postgres::Postgres;
use jiff::Timestamp;

fn flow() -> FlowName {
    FlowName::new("flow-0").expect("a name")
}

fn orders() -> Partition {
    Partition { topic: Topic::new("orders").expect("a name"), number: 0 }
}

fn position(offset: u64) -> Position {
    Position { topic: orders().topic, partition: 0, offset }
}

fn event(id: u64) -> Event {
    Event {
        id: format!("e{id}"),
        source: "/s".to_owned(),
        kind: "t".to_owned(),
        subject: None,
        time: None,
        content_type: None,
        schema: None,
        key: None,
        extensions: Vec::new(),
        data: Bytes::from_static(b"{}"),
    }
}

fn held(offset: u64) -> NewHeld {
    NewHeld {
        flow: flow(),
        position: position(offset),
        key: None,
        key_hash: offset,
        event: Arc::new(event(offset)),
        attempts: Vec::new(),
        tried: 0,
        first_tried_at: None,
        due: Some(Timestamp::now()),
        replay: None,
    }
}

fn letter(offset: u64) -> DeadLetter {
    let fault = Fault::new(Class::Rejected, "no");
    let connection = ConnectionName::new("crm").expect("a name");
    DeadLetter {
        id: format!("dn{offset}"),
        state: LetterState::Open,
        group: Fingerprint::of(&flow(), "call", &connection, "post", &fault).group(),
        flow: flow(),
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position: position(offset),
        key: None,
        event: Arc::new(event(offset)),
        request: None,
        idempotency_key: String::new(),
        class: fault.class,
        status: None,
        code: None,
        message: fault.message,
        reason: String::new(),
        advice: None,
        attempts: Vec::new(),
        failed_at: Timestamp::now(),
        replays: 0,
    }
}

fn act() -> Act {
    Act { actor: "ada".to_owned(), reason: "a test".to_owned() }
}

fn bury(offset: u64) -> Settlement {
    Settlement::DeadLetter { letter: Arc::new(letter(offset)), held: None, replay: None }
}

/// The pages that deliveries and people read.
pub async fn read_pages(store: &Postgres) {
    let late = Timestamp::now() + Duration::from_secs(3600);
    for after in [None, Some((Timestamp::now(), 10))] {
        assert!(!store.due(&flow(), &orders(), late, after, 500).await.expect("due").is_empty());
    }
    store.behind(&flow(), &orders(), 17, 0, 64).await.expect("behind");
    let of_flow = Selection { flow: Some(flow()), ..Selection::default() };
    for selection in [Selection::default(), of_flow] {
        let page = DeadLetters::list(store, &selection, PageRequest::first(50)).await.expect("letters");
        assert_eq!(page.items.len(), 50);
    }
}

/// In each round with other values.
pub async fn use_everything(store: &Postgres, round: u64) {
    let base = 1_000_000 + round * 1000;
    use_held(store, base).await;
    use_letters(store, base).await;
    use_replays(store, base).await;
    use_log(store, base).await;
    use_shared(store, round).await;
    store.maintain().await.expect("it is maintained");
}

async fn use_held(store: &Postgres, base: u64) {
    let owner = store.adopt(&flow(), &orders()).await.expect("adopted").owner;
    let rows = (0..100).map(|n| held(base + n)).collect();
    let settled = store.settle(Some(&owner), vec![Settlement::Hold(rows)]).await.expect("settled");
    let Settled::Held(ids) = &settled[0] else { panic!("held") };
    let now = Timestamp::now();
    let again =
        |id| Settlement::Again { held: id, attempts: Vec::new(), tried: 1, first_tried_at: None, due: now };
    let mut batch: Vec<_> = ids[..50].iter().map(|placed| again(placed.id)).collect();
    batch
        .extend(ids[50..].iter().map(|placed| Settlement::Delivered { held: Some(placed.id), replay: None }));
    batch.push(Settlement::Hold(vec![held(base), held(base + 500)]));
    store.settle(Some(&owner), batch).await.expect("settled");
    let late = now + Duration::from_secs(3600);
    for after in [None, Some((now, ids[10].id))] {
        store.due(&flow(), &orders(), late, after, 500).await.expect("due");
    }
    store.behind(&flow(), &orders(), 17, 0, 64).await.expect("behind");
    HeldEvents::count(store, &flow()).await.expect("a count");
    store.held_by_flow().await.expect("counts");
    HeldEvents::of_event(store, &position(base)).await.expect("held");
}

async fn use_letters(store: &Postgres, base: u64) {
    let batch = || (0..20).map(|n| bury(base + n)).collect::<Vec<_>>();
    store.settle(None, batch()).await.expect("buried");
    store.settle(None, batch()).await.expect("buried again");
    let all = Selection::default();
    let since = Some(Timestamp::now() - Duration::from_secs(2));
    let group = letter(base).group;
    let narrow = [
        Selection { ids: vec![letter(base).id, "d1".to_owned()], ..all.clone() },
        Selection { events: vec![format!("e{base}")], ..all.clone() },
        Selection { groups: vec![group.clone()], ..all.clone() },
        Selection { flow: Some(flow()), class: Some(Class::Rejected), ..all.clone() },
        Selection { state: Some(LetterState::Discarded), ..all.clone() },
        Selection { since, ..all.clone() },
        Selection { since, groups: vec![group], ..all.clone() },
        all.clone(),
    ];
    for selection in &narrow {
        store.groups(selection, PageRequest::first(10)).await.expect("groups");
        let page = DeadLetters::list(store, selection, PageRequest::first(10)).await.expect("letters");
        if page.next.is_some() {
            let next = PageRequest { limit: 10, cursor: page.next };
            DeadLetters::list(store, selection, next).await.expect("letters");
        }
        DeadLetters::count(store, selection).await.expect("a count");
    }
    DeadLetters::get(store, "d1").await.expect("a letter");
    DeadLetters::get(store, "nothing").await.expect("no letter");
    DeadLetters::of_event(store, &position(base)).await.expect("letters");
    let one = Selection { ids: vec![letter(base).id], ..all };
    assert_eq!(store.discard(&one, &act()).await.expect("discarded"), 1);
}

async fn use_replays(store: &Postgres, base: u64) {
    let selection = Selection { ids: (1..9).map(|n| letter(base + n).id).collect(), ..Selection::default() };
    let replay = store
        .create(NewReplay { selection, rate: Some(100.0), test: false, act: act() })
        .await
        .expect("a replay");
    assert_eq!(store.places(&replay.id).await.expect("places"), [(flow(), orders())]);
    let items = store.items(&replay.id, &flow(), &orders(), 0, 100).await.expect("items");
    store.allow(&replay.id, 3).await.expect("an answer");
    let ticket = |n: usize| -> ReplayTicket { items[n].ticket.clone() };
    let waits = NewHeld { replay: Some(ticket(2)), ..held(base + 3) };
    let failed =
        Settlement::DeadLetter { letter: Arc::new(letter(base + 2)), held: None, replay: Some(ticket(1)) };
    let delivered = Settlement::Delivered { held: None, replay: Some(ticket(0)) };
    store.settle(None, vec![Settlement::Hold(vec![waits]), failed, delivered]).await.expect("settled");
    store.set_rate(&replay.id, Some(1.0), &act()).await.expect("a rate");
    Replays::change(store, &replay.id, ReplayState::Cancelled, &act()).await.expect("cancelled");
    let late = Settlement::Delivered { held: None, replay: Some(ticket(6)) };
    store.settle(None, vec![late]).await.expect("settled");
    store.unfinished().await.expect("replays");
    let fault = Fault::new(Class::Rejected, "no");
    let attempt = Attempt::failed(1, Timestamp::now(), 0, None, &fault);
    store.tried(&replay.id, &Tried { outcome: Outcome::Failed, attempt }).await.expect("kept");
    Replays::list(store, PageRequest::first(10)).await.expect("replays");
    Replays::get(store, &replay.id).await.expect("a replay");
}

async fn use_log(store: &Postgres, base: u64) {
    let topic = Topic::new("topic-3").expect("a name");
    for topic in [None, Some(&topic)] {
        let page = EventLog::list(store, topic, PageRequest::first(20)).await.expect("the log");
        let next = PageRequest { limit: 20, cursor: page.next };
        EventLog::list(store, topic, next).await.expect("the log");
        store.find(&page.items[0].id).await.expect("the log");
    }
    store.is_complete(&flow(), &position(base)).await.expect("the log");
}

async fn use_shared(store: &Postgres, round: u64) {
    let state = StoredConnection {
        name: ConnectionName::new("crm").expect("a name"),
        state: ConnectionState::Paused,
        detail: None,
        since: Timestamp::now(),
    };
    store.save(&state, Some(&act())).await.expect("saved");
    Connections::load(store).await.expect("loaded");
    let (worker, ttl) = (format!("w{round}"), Duration::from_secs(10));
    let names = ["a".to_owned(), "b".to_owned()];
    store.take("scope", &worker, &names, ttl).await.expect("taken");
    store.renew("scope", &worker, ttl).await.expect("renewed");
    Leases::release(store, "scope", &worker, &names[..1]).await.expect("released");
    store.leave("scope", &worker).await.expect("left");
    store.begin(&flow(), &[orders().topic]).await.expect("begun");
    store.begun(&flow()).await.expect("begun");
}
