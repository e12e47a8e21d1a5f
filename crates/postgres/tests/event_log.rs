//! The outbox, read for people.

mod template;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crossdock_core::{
    Class, ConnectionName, DeadLetter, Event, EventLog, EventSummary, Fault, Fingerprint, FlowName,
    LetterState, NewHeld, Outbox, PageRequest, Position, Settlement, Settlements, StoreError, Topic,
};
use crossdock_postgres::{Postgres, Purpose};
use template::Database;

fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a name")
}

fn flow() -> FlowName {
    FlowName::new("billing").expect("a name")
}

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/suite".to_owned(),
        kind: "order.placed".to_owned(),
        subject: Some("17".to_owned()),
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some("k".to_owned()),
        extensions: vec![("tenant".to_owned(), "a".to_owned())],
        data: Bytes::from_static(b"{\"a\": 1}"),
    }
}

async fn open(database: &Database) -> Postgres {
    Postgres::open(database.options()).await.expect("the database opens")
}

async fn append(store: &Postgres, topic: &Topic, ids: impl IntoIterator<Item = String>) {
    let events = ids.into_iter().map(|id| event(&id)).collect();
    for answer in store.append(topic, events).await {
        answer.expect("the event is taken");
    }
}

async fn run(store: &Postgres, sql: &'static str) {
    let done = store.call(Purpose::Admin, "running SQL", move |connection| {
        Box::pin(async move { Ok(sqlx::raw_sql(sql).execute(connection).await?) })
    });
    done.await.expect("it can be done");
}

async fn all(store: &Postgres, topic: Option<&Topic>, limit: usize) -> Vec<EventSummary> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = EventLog::list(store, topic, PageRequest { limit, cursor }).await.expect("the log reads");
        assert!(page.items.len() <= limit && (!page.items.is_empty() || page.next.is_none()));
        all.extend(page.items);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return all,
        }
    }
}

fn ids(events: &[EventSummary]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

#[tokio::test]
async fn events_are_listed_newest_first_in_pages_of_any_size() {
    let database = Database::create().await;
    let store = open(&database).await;
    append(&store, &topic("orders"), (0..25).map(|n| format!("o{n}"))).await;
    append(&store, &topic("returns"), (0..10).map(|n| format!("r{n}"))).await;
    let expected: Vec<String> =
        (0..10).map(|n| format!("r{n}")).rev().chain((0..25).map(|n| format!("o{n}")).rev()).collect();
    for limit in [1, 7, 34, 35, 36] {
        assert_eq!(ids(&all(&store, None, limit).await), expected, "pages of {limit}");
        assert_eq!(
            ids(&all(&store, Some(&topic("orders")), limit).await),
            expected[10..],
            "pages of {limit}"
        );
    }
    assert_eq!(all(&store, Some(&topic("nothing")), 5).await, []);
    for text in ["", "zzz", "-1"] {
        let request = PageRequest { limit: 2, cursor: Some(text.to_owned()) };
        let refused = EventLog::list(&store, None, request).await.err();
        assert!(matches!(refused, Some(StoreError::BadCursor)), "`{text}`: {refused:?}");
    }
}

#[tokio::test]
async fn an_event_is_found_by_its_id_whoever_wrote_it() {
    let database = Database::create().await;
    let store = open(&database).await;
    const ROW: &str = "9f1bd0a6-3a35-4a8f-9d0a-6a36c8a3d0d1";
    append(&store, &topic("orders"), ["e \u{0}\u{1f980}".to_owned(), "e".to_owned()]).await;
    append(&store, &topic("returns"), ["e".to_owned()]).await;
    run(
        &store,
        "INSERT INTO crossdock.outbox (id, aggregatetype, aggregateid, type, payload)
         VALUES ('9f1bd0a6-3a35-4a8f-9d0a-6a36c8a3d0d1', 'orders', '17', 'order.paid', '{}');
         INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
         VALUES ('no topic', '17', 'order.paid', '{}')",
    )
    .await;
    let found = store.find("e").await.expect("the log reads");
    let topics: Vec<_> = found.iter().map(|logged| logged.topic.as_str()).collect();
    assert_eq!(topics, ["returns", "orders"], "the newest first");
    assert!(found.iter().all(|logged| *logged.event == event("e") && logged.position.is_none()));
    let odd = store.find("e \u{0}\u{1f980}").await.expect("the log reads");
    assert_eq!(odd.len(), 1);
    let row = store.find(ROW).await.expect("the log reads");
    assert_eq!((row[0].event.kind.as_str(), row[0].event.key.as_deref()), ("order.paid", Some("17")));
    assert_eq!(store.find("nobody").await.expect("the log reads").len(), 0);
    let listed = all(&store, None, 3).await;
    assert_eq!(ids(&listed), [ROW, "e", "e", "e \u{0}\u{1f980}"], "a row that is no event is passed over");
    assert_eq!((listed[1].data_bytes, listed[1].subject.as_deref()), (8, Some("17")));
}

#[tokio::test]
async fn an_event_waits_until_the_relay_is_past_it() {
    let database = Database::create().await;
    let store = open(&database).await;
    append(&store, &topic("orders"), (0..4).map(|n| format!("e{n}"))).await;
    let relayed = async |store: &Postgres| {
        let events = all(store, None, 10).await;
        events.iter().rev().map(|event| event.relayed).collect::<Vec<_>>()
    };
    assert_eq!(relayed(&store).await, [false; 4]);
    run(&store, "UPDATE crossdock.outbox_cursor SET position = 3, gaps = '{[2,3)}'").await;
    assert_eq!(relayed(&store).await, [true, false, true, false], "the second is a gap");
    assert!(store.find("e0").await.expect("the log reads")[0].relayed);
    assert!(!store.find("e1").await.expect("the log reads")[0].relayed);
}

#[tokio::test]
async fn a_place_is_known_from_what_is_held_or_dead() {
    let database = Database::create().await;
    let store = open(&database).await;
    let orders = topic("orders");
    append(&store, &orders, ["held", "dead", "through"].map(str::to_owned)).await;
    let position = |offset| Position { topic: orders.clone(), partition: 3, offset };
    let row = NewHeld {
        flow: flow(),
        position: position(7),
        key: None,
        key_hash: 1,
        event: Arc::new(event("held")),
        attempts: Vec::new(),
        tried: 0,
        first_tried_at: None,
        due: None,
        replay: None,
    };
    let dead = Settlement::DeadLetter { letter: Arc::new(letter(position(9))), held: None, replay: None };
    store.settle(None, vec![Settlement::Hold(vec![row]), dead]).await.expect("it settles");
    let expected = [("through", None), ("dead", Some(position(9))), ("held", Some(position(7)))];
    for (event, (id, position)) in all(&store, None, 10).await.iter().zip(&expected) {
        assert_eq!((event.id.as_str(), &event.position), (*id, position));
        assert_eq!(&store.find(id).await.expect("the log reads")[0].position, position);
    }
    let mut complete = Vec::new();
    for offset in [7, 8, 9] {
        complete.push(store.is_complete(&flow(), &position(offset)).await.expect("the store reads"));
    }
    assert_eq!(complete, [true, false, true], "what was moved to the store is");
    let other = FlowName::new("audit").expect("a name");
    assert!(!store.is_complete(&other, &position(7)).await.expect("the store reads"));
}

fn letter(position: Position) -> DeadLetter {
    let fault = Fault::new(Class::Rejected, "no");
    let connection = ConnectionName::new("crm").expect("a name");
    DeadLetter {
        id: "d1".to_owned(),
        state: LetterState::Open,
        group: Fingerprint::of(&flow(), "call", &connection, "post", &fault).group(),
        flow: flow(),
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position,
        key: None,
        event: Arc::new(event("dead")),
        request: None,
        idempotency_key: String::new(),
        class: fault.class,
        status: None,
        code: None,
        message: fault.message,
        reason: String::new(),
        advice: None,
        attempts: Vec::new(),
        failed_at: jiff::Timestamp::now() - Duration::from_secs(1),
        replays: 0,
    }
}
