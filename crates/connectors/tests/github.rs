//! The GitHub connector takes everything that GitHub's SDK publishes, and believes what its signature code believes.

mod common;
#[path = "../../../tests/oracles/oracle.rs"]
mod oracle;

use common::{request, webhook};
use crossdock_sdk::{Event, Inbox, Refusal};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const SECRET: &str = "It's a Secret to Everybody";

/// Every example of github.com with the name of its event, as compact JSON.
fn examples() -> Vec<(String, Value, String)> {
    let file = oracle::packages().join("@octokit/webhooks-examples/api.github.com/index.json");
    let text = std::fs::read_to_string(file).expect("the examples are there");
    let events: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let mut examples = Vec::new();
    for event in &events {
        let name = event["name"].as_str().expect("an event has a name");
        for example in event["examples"].as_array().expect("an event has examples") {
            examples.push((name.to_owned(), example.clone(), example.to_string()));
        }
    }
    examples
}

fn deliver(name: &str, id: &str, body: &str, signature: &str) -> Inbox {
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", name),
        ("x-github-delivery", id),
        ("x-hub-signature-256", signature),
    ];
    webhook("github", &[("secret", SECRET)], &[]).handle(&request(&headers, body), Timestamp::now())
}

/// What the issue says the key is, written down once more in another language than the manifest's.
fn key(payload: &Value) -> Option<String> {
    let places = ["/repository/full_name", "/organization/login", "/installation/id", "/sender/login"];
    let value = places.iter().find_map(|place| payload.pointer(place).filter(|value| !value.is_null()))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

#[test]
fn every_published_example_becomes_its_event() {
    let examples = examples();
    assert_eq!(examples.len(), 329, "the examples of version 7.6.1");
    let sign: Vec<_> =
        examples.iter().map(|(_, _, body)| json!({ "secret": SECRET, "body": body })).collect();
    let answer = oracle::ask("github.mjs", &json!({ "sign": sign, "verify": [] }));
    let signatures = answer["signatures"].as_array().expect("a signature for each");
    let mut actions = 0;
    for (n, (name, payload, body)) in examples.iter().enumerate() {
        let id = format!("delivery-{n}");
        let signature = signatures[n].as_str().expect("a text");
        let Inbox::Accept(events) = deliver(name, &id, body, signature) else {
            panic!("{name}, example {n}, is refused")
        };
        let [event]: &[Event; 1] = events.as_slice().try_into().expect("one event");
        let kind = match payload["action"].as_str() {
            Some(action) => format!("github.{name}.{action}"),
            None => format!("github.{name}"),
        };
        actions += usize::from(payload["action"].is_string());
        assert_eq!((event.kind.as_str(), event.id.as_str()), (kind.as_str(), id.as_str()));
        assert_eq!(event.key, key(payload), "{name}, example {n}");
        assert_eq!(event.data, body.as_bytes(), "the bytes are those that came");
    }
    assert!((1..329).contains(&actions), "there are events with and without an action");
}

#[test]
fn an_example_of_each_event_is_refused_when_one_byte_is_added() {
    let mut examples = examples();
    examples.dedup_by(|a, b| a.0 == b.0);
    let sign: Vec<_> =
        examples.iter().map(|(_, _, body)| json!({ "secret": SECRET, "body": body })).collect();
    let answer = oracle::ask("github.mjs", &json!({ "sign": sign, "verify": [] }));
    for (n, (name, _, body)) in examples.iter().enumerate() {
        let signature = answer["signatures"][n].as_str().expect("a text");
        let came = deliver(name, "1", &format!("{body} "), signature);
        assert!(matches!(came, Inbox::Refuse(Refusal::Unauthorized(_))), "{name}");
    }
}

/// A body, secrets, and a signature that is right, or wrong in one of many ways.
fn question() -> impl Strategy<Value = (String, Vec<String>, String)> {
    let body = prop_oneof![r#"\{"a":"[a-z0-9ü€😀 ]{0,40}"\}"#, Just("{}".to_owned())];
    let secrets = prop::collection::vec("[!-~]{1,40}", 1..3);
    (body, secrets, 0..12usize).prop_map(|(body, secrets, fault)| {
        let right = crossdock_sim::github_signature(&secrets[fault % secrets.len()], body.as_bytes());
        let signature = match fault {
            0..=3 => right,
            4 => right.to_uppercase(),
            5 => right.trim_start_matches("sha256=").to_owned(),
            6 => right[..right.len() - 1].to_owned(),
            7 => format!("{right}0"),
            8 => right.replace("sha256=", "sha1="),
            9 => crossdock_sim::github_signature("another", body.as_bytes()),
            10 => crossdock_sim::github_signature(&secrets[0], format!("{body}\n").as_bytes()),
            _ => right.replace("sha256=", "sha256=sha256="),
        };
        (body, secrets, signature)
    })
}

#[test]
fn we_believe_what_the_vendor_s_code_believes() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut questions = Vec::new();
    for _ in 0..400 {
        let tree = question().new_tree(&mut runner).expect("a question");
        questions.push(proptest::strategy::ValueTree::current(&tree));
    }
    let verify: Vec<_> = questions
        .iter()
        .map(|(body, secrets, signature)| json!({ "secrets": secrets, "body": body, "signature": signature }))
        .collect();
    let answer = oracle::ask("github.mjs", &json!({ "sign": [], "verify": verify }));
    let mut believed = 0;
    for (n, (body, secrets, signature)) in questions.iter().enumerate() {
        let names = ["secret", "previous_secret"];
        let secrets: Vec<_> =
            secrets.iter().zip(names).map(|(secret, name)| (name, secret.as_str())).collect();
        let headers =
            [("x-github-event", "push"), ("x-github-delivery", "1"), ("x-hub-signature-256", signature)];
        let came = webhook("github", &secrets, &[]).handle(&request(&headers, body), Timestamp::now());
        let ours = !matches!(came, Inbox::Refuse(Refusal::Unauthorized(_)));
        assert_eq!(Value::from(ours), answer["verdicts"][n], "{body} {secrets:?} {signature}");
        believed += usize::from(ours);
    }
    assert!((50..350).contains(&believed), "some are right and some are wrong: {believed}");
}
