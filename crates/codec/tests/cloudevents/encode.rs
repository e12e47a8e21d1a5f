//! The JSON form that people and programs read back.

use serde_json::json;

use crate::*;

fn encode(event: &Event) -> Value {
    CloudEvents.encode(event)
}

fn data(content_type: Option<&str>, data: &[u8]) -> Value {
    let content_type = content_type.map(str::to_owned);
    let event = Event { content_type, data: Bytes::copy_from_slice(data), ..least() };
    let mut shown = encode(&event);
    let shown = shown.as_object_mut().expect("an event is an object");
    shown.retain(|name, _| name.starts_with("data") && name != "datacontenttype");
    Value::Object(shown.clone())
}

#[test]
fn attributes_stand_under_their_names_and_in_order() {
    let event = Event {
        subject: Some("7".to_owned()),
        time: Some("2026-11-24T09:15:30.5+01:00".parse().unwrap()),
        content_type: Some("application/json".to_owned()),
        schema: Some("/schema".to_owned()),
        key: Some("k".to_owned()),
        extensions: vec![("tenant".to_owned(), "é".to_owned()), ("empty".to_owned(), String::new())],
        data: Bytes::from_static(b"{\"z\":1, \"a\":[true]}"),
        ..least()
    };
    let shown = concat!(
        r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.paid","subject":"7","#,
        r#""time":"2026-11-24T08:15:30.5Z","datacontenttype":"application/json","dataschema":"/schema","#,
        r#""partitionkey":"k","tenant":"é","empty":"","data":{"z":1,"a":[true]}}"#
    );
    assert_eq!(encode(&event).to_string(), shown);
}

#[test]
fn what_is_not_there_is_left_out() {
    let members = json!({ "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid" });
    assert_eq!(encode(&least()), members);
    let empty = Event { subject: Some(String::new()), content_type: Some(String::new()), ..least() };
    assert_eq!(encode(&empty), members);
}

#[test]
fn data_is_shown_as_what_it_is() {
    assert_eq!(data(Some("application/json"), b"[1]"), json!({ "data": [1] }));
    assert_eq!(data(None, b"{\"a\":null}"), json!({ "data": { "a": null } }));
    assert_eq!(data(Some("text/plain"), "é\n".as_bytes()), json!({ "data": "é\n" }));
    assert_eq!(data(Some("text/plain"), b"{}"), json!({ "data": "{}" }));
    for content_type in
        [Some("text/plain"), Some("text/plain; charset=latin1"), Some("application/json"), None]
    {
        assert_eq!(data(content_type, b"\xE9"), json!({ "data_base64": "6Q==" }));
    }
    assert_eq!(data(Some("text/plain; charset=latin1"), b"e"), json!({ "data_base64": "ZQ==" }));
}

#[test]
fn text_without_a_media_type_is_not_taken_for_json() {
    for content_type in [None, Some("")] {
        assert_eq!(data(content_type, b"hello"), json!({ "data_base64": "aGVsbG8=" }));
    }
}

#[test]
fn json_that_would_come_out_changed_stays_as_it_is() {
    for json in [
        r#"{"a":1,"a":1}"#,
        "[{\"a\":{\"b\":1,\"b\":2}}]",
        "18446744073709551616",
        "0.1234567890123456",
        "1e999",
        "1e-400",
        // Few digits, and yet a parser that divides reads -1.4786517051700001e-12.
        "-147865170517e-23",
        "1e23",
        r#""\ud800""#,
        "{",
    ] {
        let shown = data(Some("application/json"), json.as_bytes());
        assert!(shown.get("data_base64").is_some(), "{json}: {shown}");
    }
    for (json, shown) in
        [("1.50", "1.5"), ("1e3", "1000.0"), ("0.0", "0.0"), ("-1", "-1"), (r#""\u0041""#, "\"A\"")]
    {
        assert_eq!(data(None, json.as_bytes())["data"].to_string(), shown);
    }
}
