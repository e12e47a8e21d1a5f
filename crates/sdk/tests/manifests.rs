//! What is wrong with a manifest is told with its place; what is right becomes events.

use std::{collections::BTreeMap, sync::Arc};

use crossdock_sdk::{
    ConnectionName, Connector, Declarative, Environment, Inbound, Inbox, Refusal, Setting, Settings, Webhook,
};
use jiff::Timestamp;

const OPEN: &str = "\
hub: connector/v1
name: acme
about: Acme.
config:
  open: { type: bool, required: true, about: Anyone may post. }
  prefix: { type: text, about: What types begin with. }
webhook:
  unsigned: open
";

fn load(webhook: &str) -> Result<Declarative, String> {
    Declarative::load("acme/connector.yaml", &format!("{OPEN}{webhook}")).map_err(|error| error.to_string())
}

fn connect(connector: &Declarative, settings: &[(&str, Setting)]) -> Result<Arc<dyn Webhook>, String> {
    let settings: BTreeMap<_, _> =
        settings.iter().map(|(name, setting)| ((*name).to_owned(), setting.clone())).collect();
    let name = ConnectionName::new("acme").expect("a name");
    let connection = connector.connect(&name, &Settings(settings), Environment { loopback: true });
    connection.map_err(|error| error.to_string())?.webhook().ok_or_else(|| "no webhook".to_owned())
}

fn post(connector: &Declarative, headers: &[(&str, &str)], body: &str) -> Inbox {
    let settings = [("open", Setting::Bool(true)), ("prefix", Setting::Text("acme".to_owned()))];
    let request = Inbound {
        method: "POST".to_owned(),
        uri: "/in/acme".to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: body.to_owned().into(),
    };
    connect(connector, &settings).expect("a connection").handle(&request, Timestamp::UNIX_EPOCH)
}

#[test]
fn every_error_names_its_place_and_what_is_allowed() {
    let emit = "  emit: { type: t, id: '${.id}' }\n";
    let cases = [
        ("  emmit: { type: t, id: x }\n".to_owned(), "acme/connector.yaml:9:3: ", "emmit"),
        (format!("{emit}  emit: {{ type: t, id: x }}\n"), "acme/connector.yaml:", "emit"),
        ("  emit:\n    type: t\n    id: ${$heders.x}\n".to_owned(), "acme/connector.yaml:11:", "$heders"),
        ("  emit:\n    type: t\n    id: x\n    key: .a |\n".to_owned(), "acme/connector.yaml:12:", ""),
        ("  emit:\n    type: t\n    id: [a, \"${.b\"]\n".to_owned(), "acme/connector.yaml:11:", "not closed"),
        (
            format!(
                "{emit}  verify: {{ algorithm: hmac-sha256, signature: {{ header: x, encoding: hex }} }}\n"
            ),
            "",
            "either",
        ),
        (format!("{emit}  match: [{{ header: x, setting: nothing }}]\n"), "", "`nothing`"),
    ];
    for (webhook, place, part) in cases {
        let Err(error) = load(&webhook) else { panic!("it was loaded: {webhook}") };
        assert!(error.starts_with(place) && error.contains(part), "{webhook}{error}");
    }
}

#[test]
fn a_webhook_that_anyone_may_post_to_must_be_wanted() {
    let connector = load("  emit: { type: t, id: x }\n").expect("a connector");
    for settings in [&[][..], &[("open", Setting::Bool(false))]] {
        let Err(error) = connect(&connector, settings) else { panic!("a connection was made") };
        assert!(error.contains("write `true`"), "{error}");
    }
}

#[test]
fn the_first_text_that_has_a_value_counts() {
    let emit = "  emit:\n    type: ['${$config.prefix}.${.kind?}', other]\n    id: ['${.id?}', '${$request.id}']\n    key: [.a?.b?, '.c?']\n";
    let connector = load(emit).expect("a connector");
    let event = |body| match post(&connector, &[], body) {
        Inbox::Accept(mut events) => events.remove(0),
        other => panic!("{other:?}"),
    };
    let whole = event(r#"{"kind":"made","id":7,"a":{"b":"k"},"c":"l"}"#);
    assert_eq!((whole.kind.as_str(), whole.id.as_str(), whole.key.as_deref()), ("acme.made", "7", Some("k")));
    assert_eq!(whole.source, "/connections/acme");
    for odd in [r#"{"a":3,"kind":{},"c":""}"#, "[]", "3", "null"] {
        let event = event(odd);
        assert_eq!((event.kind.as_str(), event.key), ("other", None), "{odd}");
        assert_eq!(event.id.len(), 36, "an id of our own: {}", event.id);
    }
}

#[test]
fn a_body_with_several_events_gives_each() {
    let connector =
        load("  emit: { items: '.events[]', type: '${.type}', id: '${.id}' }\n").expect("a connector");
    let body = r#"{"events":[{"id":"1","type":"a"},{"id":"2","type":"b"}]}"#;
    let Inbox::Accept(events) = post(&connector, &[], body) else { panic!("it is accepted") };
    let seen: Vec<_> =
        events.iter().map(|event| (event.id.as_str(), event.kind.as_str(), &event.data[..])).collect();
    assert_eq!(seen, [("1", "a", &br#"{"id":"1","type":"a"}"#[..]), ("2", "b", br#"{"id":"2","type":"b"}"#)]);
    let refused = post(&connector, &[], r#"{"events":[{"id":"1","type":"a"},{"type":"b"}]}"#);
    assert!(matches!(refused, Inbox::Refuse(Refusal::Malformed { .. })), "all or none");
}

#[test]
fn a_handshake_is_answered_and_is_no_event() {
    let handshake = "  handshake: { when: .type == \"url_verification\", reply: '${.challenge}' }\n  emit: { type: t, id: x }\n";
    let connector = load(handshake).expect("a connector");
    let reply = post(&connector, &[], r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#);
    assert!(matches!(reply, Inbox::Reply { status: 200, body, .. } if body == "3eZbrw1a"));
    assert!(matches!(post(&connector, &[], r#"{"type":"message"}"#), Inbox::Accept(_)));
}

#[test]
fn what_is_not_json_is_refused_with_its_place_and_never_shown_to_expressions_with_credentials() {
    let connector = load("  emit: { type: t, id: '${$headers | tojson}' }\n").expect("a connector");
    let refused = post(&connector, &[], "{\"a\":");
    assert!(
        matches!(refused, Inbox::Refuse(Refusal::Malformed { pointer: Some(pointer), .. }) if pointer.is_empty())
    );
    let headers = [("authorization", "Bearer canary"), ("cookie", "canary"), ("x-a", "1"), ("x-a", "2")];
    let Inbox::Accept(events) = post(&connector, &headers, "{}") else { panic!("it is accepted") };
    assert_eq!(events[0].id, r#"{"x-a":"1"}"#);
}
