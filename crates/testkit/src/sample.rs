//! Things to put into a subject.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossdock_core::{
    Act, Attempt, Class, Clock, ConnectionName, DeadLetter, Event, Fault, Fingerprint, FlowName, Group,
    LetterState, MappedRequest, NewHeld, NewReplay, Partition, Position, ReplayTicket, Selection, Topic,
    hash_key,
};
use jiff::Timestamp;
use serde_json::json;

use crate::{ManualClock, Setup};

/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn topic(name: &str) -> Topic {
    Topic::new(name).expect("suites use names")
}

pub(crate) fn flow(name: &str) -> FlowName {
    FlowName::new(name).expect("suites use names")
}

pub(crate) fn connection(name: &str) -> ConnectionName {
    ConnectionName::new(name).expect("suites use names")
}

pub(crate) fn orders() -> Topic {
    topic("orders")
}

pub(crate) fn billing() -> Group {
    flow("billing")
}

/// One topic `orders` with two partitions and one group `billing`.
pub(crate) fn setup() -> Setup {
    setup_of(&[("billing", &["orders"])], &[])
}

/// Groups with their topics, and more topics.
pub(crate) fn setup_of(groups: &[(&str, &[&str])], topics: &[&str]) -> Setup {
    let names = |names: &[&str]| names.iter().map(|name| topic(name)).collect::<Vec<_>>();
    let groups: Vec<_> = groups.iter().map(|(group, topics)| (flow(group), names(topics))).collect();
    let mut all: Vec<_> =
        names(topics).into_iter().chain(groups.iter().flat_map(|(_, topics)| topics.clone())).collect();
    all.sort_unstable();
    all.dedup();
    Setup {
        partitions: 2,
        topics: all,
        groups,
        event_bytes_max: 256 << 10,
        queue_events_max: 20_000,
        dedupe_window: 7 * DAY,
        retention: DAY,
        clock: Arc::new(ManualClock::new()),
    }
}

/// An event with an id and a key.
pub(crate) fn event(id: &str, key: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/suite".to_owned(),
        kind: "order.placed".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some(key.to_owned()),
        extensions: Vec::new(),
        data: Bytes::from(format!("{{\"id\":\"{id}\"}}")),
    }
}

/// Events `<key>-0`, `<key>-1`… of one key.
pub(crate) fn events(key: &str, numbers: std::ops::Range<usize>) -> Vec<Event> {
    numbers.map(|number| event(&format!("{key}-{number}"), key)).collect()
}

/// An event that uses every attribute, with data that is no text.
pub(crate) fn whole_event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "https://shop.example/Ünïcode?q=1".to_owned(),
        kind: "shop.order.placed".to_owned(),
        subject: Some("orders/\"17\"".to_owned()),
        time: Some("2026-11-23T10:20:30.123456789Z".parse().expect("a time")),
        content_type: Some("application/octet-stream".to_owned()),
        schema: Some("https://shop.example/schema".to_owned()),
        key: Some("kunde 17 \u{1f980}".to_owned()),
        extensions: vec![
            ("traceparent".to_owned(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            ("zebra".to_owned(), String::new()),
            ("alpha".to_owned(), "'; DROP TABLE events; --".to_owned()),
        ],
        data: Bytes::from((0..=255).rev().chain([0, 0, 0xff]).collect::<Vec<u8>>()),
    }
}

/// The partition `orders/0`.
pub(crate) fn partition() -> Partition {
    Partition { topic: orders(), number: 0 }
}

/// A place in `orders/0`.
pub(crate) fn position(offset: u64) -> Position {
    Position { topic: orders(), partition: 0, offset }
}

/// A failed try.
pub(crate) fn attempt(n: u32, at: Timestamp) -> Attempt {
    let fault =
        Fault { status: Some(503), ..Fault::new(Class::Transient, "the other side is away").code("busy") };
    let mut attempt = Attempt::failed(n, at, 17, Some("POST http://127.0.0.1:9001/all".to_owned()), &fault);
    attempt.excerpt = Some("{\"error\":\"busy\"}".to_owned());
    attempt
}

/// A delivery of `billing` to be held: without a due time, nothing tried.
pub(crate) fn held(offset: u64, key: &str) -> NewHeld {
    NewHeld {
        flow: billing(),
        position: position(offset),
        key: Some(key.to_owned()),
        key_hash: hash_key(key),
        event: Arc::new(event(&format!("e{offset}"), key)),
        attempts: Vec::new(),
        tried: 0,
        first_tried_at: None,
        due: None,
        replay: None,
    }
}

/// A head to be held: tried once, due at a moment.
pub(crate) fn head(offset: u64, key: &str, due: Timestamp) -> NewHeld {
    let tried_at = due - Duration::from_secs(60);
    NewHeld {
        attempts: vec![attempt(1, tried_at)],
        tried: 1,
        first_tried_at: Some(tried_at),
        due: Some(due),
        ..held(offset, key)
    }
}

/// An id as the engine makes them: a letter and 26 characters, ascending.
fn id(kind: char) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{kind}{:026}", NEXT.fetch_add(1, Ordering::SeqCst))
}

/// What a dead letter died of, as far as groups go.
pub(crate) fn fault(status: u16) -> Fault {
    Fault {
        status: Some(status),
        excerpt: None,
        ..Fault::new(Class::Rejected, format!("refused with {status}"))
            .code(format!("E{status}"))
            .advice(format!("look at {status}"))
    }
}

/// An open dead letter of `billing` that failed at `at` with a fault of that status.
pub(crate) fn letter(offset: u64, status: u16, at: Timestamp) -> DeadLetter {
    letter_of("billing", offset, status, at)
}

/// The same in a flow.
pub(crate) fn letter_of(name: &str, offset: u64, status: u16, at: Timestamp) -> DeadLetter {
    let (flow, connection, fault) = (flow(name), connection("crm"), fault(status));
    let group = Fingerprint::of(&flow, "call", &connection, "post", &fault).group();
    DeadLetter {
        id: id('d'),
        state: LetterState::Open,
        group,
        step: "call".to_owned(),
        connection,
        action: "post".to_owned(),
        position: position(offset),
        key: Some(format!("k{}", offset % 3)),
        event: Arc::new(event(&format!("e{offset}"), &format!("k{}", offset % 3))),
        request: Some(request(b"{}")),
        idempotency_key: format!("{flow}-{offset}"),
        class: fault.class,
        status: fault.status,
        code: fault.code,
        message: fault.message,
        reason: "the other side will never take it".to_owned(),
        advice: fault.advice,
        attempts: vec![attempt(1, at)],
        failed_at: at,
        replays: 0,
        flow,
    }
}

/// A mapped request with a body.
pub(crate) fn request(body: &[u8]) -> MappedRequest {
    let fields = json!({ "path": "/orders", "query": { "z": 1, "a": [true, null] } });
    MappedRequest {
        action: "post".to_owned(),
        fields: fields.as_object().expect("an object").clone(),
        content_type: Some("application/json".to_owned()),
        body: Bytes::copy_from_slice(body),
    }
}

/// What the letter dies of when a replay of it fails: another cause, one more try.
pub(crate) fn died_again(
    letter: &DeadLetter,
    status: u16,
    at: Timestamp,
    ticket: &ReplayTicket,
) -> DeadLetter {
    let mut again = DeadLetter {
        id: letter.id.clone(),
        position: letter.position.clone(),
        event: letter.event.clone(),
        key: letter.key.clone(),
        attempts: letter.attempts.clone(),
        replays: letter.replays,
        idempotency_key: letter.idempotency_key.clone(),
        ..letter_of(letter.flow.as_str(), letter.position.offset, status, at)
    };
    let last = Attempt { replay: Some(ticket.replay.clone()), ..attempt(1, at) };
    again.attempts.push(last);
    again
}

pub(crate) fn act() -> Act {
    Act { actor: "ada".to_owned(), reason: "the token is mended".to_owned() }
}

/// A replay of what a selection has.
pub(crate) fn replay_of(selection: Selection) -> NewReplay {
    NewReplay { selection, rate: Some(2000.0), test: false, act: act() }
}

/// The letters of one group.
pub(crate) fn of_group(letter: &DeadLetter) -> Selection {
    Selection { groups: vec![letter.group.clone()], ..Selection::default() }
}

/// The time of a setup.
pub(crate) fn now(setup: &Setup) -> Timestamp {
    setup.clock.now()
}

/// A second.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
