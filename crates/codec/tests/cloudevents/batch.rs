//! Lists of events in the JSON batch format.

use serde_json::json;

use crate::*;

fn batch(body: impl AsRef<[u8]>) -> Decoded {
    decode(&[("content-type", "application/cloudevents-batch+json; charset=UTF-8")], body)
}

#[test]
fn a_list_has_its_events_in_order() {
    let body = r#" [
        {
            "specversion" : "1.0",
            "type" : "com.example.someevent",
            "source" : "/mycontext/4",
            "id" : "B234-1234-1234",
            "datacontenttype" : "application/vnd.apache.thrift.binary",
            "data_base64" : "AP8="
        },
        {
            "specversion" : "1.0",
            "type" : "com.example.someotherevent",
            "source" : "/mycontext/9",
            "id" : "C234-1234-1234",
            "datacontenttype" : "application/json",
            "data" : { "appinfoB" : 123 }
        }
    ] "#;
    let events: Vec<_> = batch(body).unwrap().into_iter().map(Result::unwrap).collect();
    let seen: Vec<_> = events.iter().map(|event| (event.id.as_str(), event.data.as_ref())).collect();
    let sent = [("B234-1234-1234", &b"\x00\xFF"[..]), ("C234-1234-1234", br#"{ "appinfoB" : 123 }"#)];
    assert_eq!(seen, sent);
}

#[test]
fn an_empty_list_is_a_list() {
    assert_eq!(batch("[]"), Ok(Vec::new()));
}

#[test]
fn each_item_is_taken_or_refused_by_itself() {
    let good = with(&json!({}));
    let bad = with(&json!({ "type": null }));
    let twice = r#"{"id":"1","id":"1"}"#;
    let many = with(&(0..100).map(|n| (format!("e{n}"), json!(n))).collect());
    let body = format!("[{good},{bad},7,[],{twice},{many},{good}]");
    let events = batch(body).unwrap();
    let refusals: Vec<_> =
        events.iter().map(|event| event.as_ref().err().map(|refusal| refusal.pointer.as_str())).collect();
    assert_eq!(refusals, [None, Some("/1/type"), Some("/2"), Some("/3"), Some("/4/id"), Some("/5"), None]);
    assert_refused(events[3].clone(), "/3", "must hold each event as a JSON object");
    assert_eq!(events[6], Ok(least()));
}

#[test]
fn a_list_that_is_broken_is_refused_as_a_whole() {
    let good = with(&json!({}));
    for (body, what) in [
        (good.clone(), "must be a JSON list of events"),
        (format!("[{good}"), "is not JSON"),
        (format!("[{good},]"), "is not JSON"),
        (format!("[{good}] {good}"), "is not JSON"),
        (format!("[{good},{{id:1}}]"), "is not JSON"),
        (String::new(), "is empty"),
    ] {
        assert_refused(batch(body), "", what);
    }
    assert_refused(batch(b"[\"\xFF\"]"), "", "is not JSON");
    assert_refused(
        decode(&[("content-type", "application/cloudevents-batch+json; charset=latin1")], "[]"),
        "",
        "UTF-8",
    );
}

#[test]
fn a_list_has_10_000_events_and_not_one_more() {
    let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
    assert_eq!(batch(list(10_000)).unwrap().len(), 10_000);
    assert_refused(batch(list(10_001)), "", "the body holds more than 10,000 events");
}

#[test]
fn nesting_is_counted_from_the_data() {
    let nested = |levels: usize| {
        let data = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        format!(r#"[{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}]"#)
    };
    assert!(batch(nested(128)).unwrap()[0].is_ok());
    assert_refused(batch(nested(129)).unwrap().remove(0), "/0/data", "is nested deeper than 128 levels");
    assert_refused(batch("[".repeat(500_000)), "", "is not JSON");
}
