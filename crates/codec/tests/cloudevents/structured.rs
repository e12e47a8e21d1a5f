//! One event in the JSON format.

use serde_json::json;

use crate::*;

#[test]
fn an_event_with_every_attribute_is_read() {
    let event = structured(
        r#"{
            "specversion" : "1.0",
            "type" : "com.example.someevent",
            "source" : "/mycontext",
            "subject" : "larger-context",
            "id" : "C234-1234-1234",
            "time" : "2018-04-05T17:31:00Z",
            "dataschema" : "https://example.com/schema",
            "partitionkey" : "k-7",
            "comexampleextension1" : "value",
            "comexampleothervalue" : 5,
            "comexampleflag" : true,
            "unsetextension" : null,
            "datacontenttype" : "application/json",
            "data" : { "appinfoA" : "abc",  "appinfoB" : 1.0 }
        }"#,
    );
    let extension = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let read = Event {
        id: "C234-1234-1234".to_owned(),
        source: "/mycontext".to_owned(),
        kind: "com.example.someevent".to_owned(),
        subject: Some("larger-context".to_owned()),
        time: Some("2018-04-05T17:31:00Z".parse().unwrap()),
        content_type: Some("application/json".to_owned()),
        schema: Some("https://example.com/schema".to_owned()),
        key: Some("k-7".to_owned()),
        extensions: vec![
            extension("comexampleextension1", "value"),
            extension("comexampleothervalue", "5"),
            extension("comexampleflag", "true"),
        ],
        data: Bytes::from_static(br#"{ "appinfoA" : "abc",  "appinfoB" : 1.0 }"#),
    };
    assert_eq!(event, Ok(read));
}

#[test]
fn members_may_come_in_any_order_and_with_escapes() {
    let event = structured(
        r#"{"data":"\u003cmuch wow=\"xml\"/>","type":"t","datacontenttype":"application/xml",
            "\u0069d":"\ud83d\ude00","source":"/s","specversion":"1.0"}"#,
    );
    let event = event.unwrap();
    assert_eq!((event.id.as_str(), event.data.as_ref()), ("😀", br#"<much wow="xml"/>"#.as_slice()));
}

#[test]
fn what_is_required_is_required() {
    for name in ["specversion", "id", "source", "type"] {
        assert_refused(structured(with(&json!({ name: null }))), &format!("/{name}"), "is required");
        assert_refused(structured(with(&json!({ name: 1.5 }))), &format!("/{name}"), "must be text");
    }
    for name in ["id", "source", "type"] {
        assert_refused(structured(with(&json!({ name: "" }))), &format!("/{name}"), "is required");
    }
    assert_refused(structured("{}"), "/specversion", "is required: `1.0`");
}

#[test]
fn only_version_1_0_is_taken() {
    for version in ["", "0.3", "1.0.2", "1", " 1.0"] {
        assert_refused(structured(with(&json!({ "specversion": version }))), "/specversion", "only `1.0`");
    }
}

#[test]
fn null_is_the_same_as_leaving_out() {
    let names = ["subject", "time", "datacontenttype", "dataschema", "partitionkey", "tenant", "data_base64"];
    for name in names {
        assert_eq!(structured(with(&json!({ name: null }))), Ok(least()), "{name}");
    }
}

#[test]
fn an_optional_attribute_that_is_there_is_not_empty() {
    for name in ["subject", "datacontenttype", "dataschema", "partitionkey"] {
        assert_refused(structured(with(&json!({ name: "" }))), &format!("/{name}"), "must not be empty");
    }
}

#[test]
fn an_attribute_is_there_once() {
    for (name, value) in [("id", r#""1""#), ("data", "1"), ("data_base64", r#""""#), ("tenant", r#""a""#)] {
        for (first, second) in [(value, value), (value, "null"), ("null", value), ("null", "null")] {
            let twice = format!(r#"{{"{name}":{first},"{name}":{second}}}"#);
            assert_refused(structured(twice), &format!("/{name}"), "is there twice");
        }
    }
}

#[test]
fn extensions_are_text_whole_numbers_or_booleans() {
    let read = |value: &str| {
        let body = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","tenant":{value}}}"#);
        structured(body).map(|event| event.extensions[0].1.clone())
    };
    for (sent, value) in [
        ("-2147483648", "-2147483648"),
        ("9007199254740993", "9007199254740993"),
        ("false", "false"),
        (r#""""#, ""),
    ] {
        assert_eq!(read(sent).as_deref(), Ok(value));
    }
    for sent in ["1.5", "1e3", "9223372036854775808", "[]", r#"{"a":1}"#] {
        assert_refused(read(sent), "/tenant", "must be text, a whole number of 64 bits, or true or false");
    }
}

#[test]
fn a_name_has_1_to_64_lower_case_letters_and_digits() {
    for name in ["a", "0", "comexampleextension12345", &"n".repeat(64)] {
        let event = structured(with(&json!({ name: "value" }))).unwrap();
        assert_eq!(event.extensions, [(name.to_owned(), "value".to_owned())]);
    }
    for name in ["", "Tenant", "tenant_id", "tenant-id", "é", "data_base65"] {
        assert_refused(
            structured(with(&json!({ name: "value" }))),
            &format!("/{name}"),
            "is not the name of an",
        );
    }
    let long = "n".repeat(65);
    assert_refused(
        structured(with(&json!({ long.as_str(): "value" }))),
        &format!("/{}", &long[..64]),
        "1 to 64",
    );
    assert_refused(structured(with(&json!({ "a/b~c": "value" }))), "/a~1b~0c", "`a/b~c`");
}

#[test]
fn an_event_has_64_extensions_and_not_one_more() {
    let extensions = |count: usize| -> Value { (0..count).map(|n| (format!("e{n}"), json!(n))).collect() };
    assert_eq!(structured(with(&extensions(64))).unwrap().extensions.len(), 64);
    assert_refused(structured(with(&extensions(65))), "/e64", "one extension too many; 64 are allowed");
    assert_refused(structured(with(&extensions(100))), "", "the body holds more than 96 members");
}

#[test]
fn an_attribute_has_1024_bytes_and_no_control_characters() {
    let body = with(&json!({ "subject": "é".repeat(512), "tenant": "\u{FFFD} \u{202E}\u{10FFFD}" }));
    assert_eq!(structured(body).unwrap().subject, Some("é".repeat(512)));
    let body = with(&json!({ "subject": "é".repeat(512) + "a" }));
    assert_refused(structured(body), "/subject", "is longer than 1024 bytes");
    for control in ["\u{0}", "\n", "\t", "\u{7f}", "\u{85}", "\u{9f}"] {
        for name in ["id", "tenant", "datacontenttype"] {
            let body = with(&json!({ name: format!("a{control}b") }));
            assert_refused(structured(body), &format!("/{name}"), "holds a control character");
        }
    }
}

#[test]
fn a_time_with_an_offset_is_the_same_moment() {
    for time in [
        "2026-11-24T08:15:30.25Z",
        "2026-11-24t09:15:30.250+01:00",
        "2026-11-23T22:45:30.250000000-09:30",
        "2026-11-24T08:15:30.25-00:00",
    ] {
        let event = structured(with(&json!({ "time": time }))).unwrap();
        assert_eq!(event.time, Some("2026-11-24T08:15:30.25Z".parse().unwrap()), "{time}");
    }
}

#[test]
fn a_time_that_cannot_be_written_again_is_refused() {
    let first = with(&json!({ "time": "0000-01-01T00:00:00Z" }));
    assert_eq!(structured(first).unwrap().time.unwrap().to_string(), "0000-01-01T00:00:00Z");
    for time in ["0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59Z", "2026-02-29T00:00:00Z", "now"] {
        assert_refused(structured(with(&json!({ "time": time }))), "/time", "is not an RFC 3339 time");
    }
}

#[test]
fn data_without_a_media_type_is_json() {
    let event = structured(with(&json!({ "data": "I'm just a string" }))).unwrap();
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.data, r#""I'm just a string""#);
    let event = structured(with(&json!({ "data": null }))).unwrap();
    assert_eq!(
        (event.content_type.as_deref(), event.data.as_ref()),
        (Some("application/json"), &b"null"[..])
    );
}

#[test]
fn data_of_a_json_type_is_never_re_written() {
    for data in [r#"{"a":1,"a":2}"#, "[1.50, 1E+3,\t18446744073709551616]", r#""\u0041\/""#, "0"] {
        for content_type in ["application/json", "text/JSON; charset=utf-8", "application/vnd.shop+json"] {
            let required = r#""specversion":"1.0","id":"1","source":"/s","type":"t""#;
            let body = format!(r#"{{{required},"datacontenttype":"{content_type}","data": {data} }}"#);
            assert_eq!(structured(body).unwrap().data, data);
        }
    }
}

#[test]
fn data_of_another_type_is_text() {
    let text = |data: Value| structured(with(&json!({ "datacontenttype": "text/plain", "data": data })));
    assert_eq!(text(json!("a\nb\u{0}😀")).unwrap().data, "a\nb\u{0}😀");
    assert_eq!(text(json!("")).unwrap().data, "");
    for data in [json!(null), json!(1), json!({}), json!(["a"])] {
        assert_refused(text(data), "/data", "must be text, because `datacontenttype` is `text/plain`");
    }
    let body = with(&json!({ "datacontenttype": "text/plain; charset=latin1", "data": "é" }));
    assert_refused(structured(body), "/data", "send it as `data_base64`");
}

#[test]
fn data_base64_is_any_bytes() {
    let content_type = "application/vnd.apache.thrift.binary";
    let body = with(&json!({ "datacontenttype": content_type, "data_base64": "AP+Af+/6" }));
    let event = structured(body).unwrap();
    assert_eq!(event.data.as_ref(), [0x00, 0xFF, 0x80, 0x7F, 0xEF, 0xFA]);
    assert_eq!(event.content_type.as_deref(), Some(content_type));
    // Only `data` implies a media type.
    let event = structured(with(&json!({ "data_base64": "e30=" }))).unwrap();
    assert_eq!((event.content_type, event.data.as_ref()), (None, &b"{}"[..]));
}

#[test]
fn data_base64_is_base64_with_padding() {
    for wrong in ["AP-A", "AP8", "AP8=\n", " AP8=", "A", "AP9="] {
        let refused = structured(with(&json!({ "data_base64": wrong })));
        assert_refused(refused, "/data_base64", "is not base64 (RFC 4648 §4, with padding): ");
    }
    assert_refused(structured(with(&json!({ "data_base64": 1 }))), "/data_base64", "must be text");
}

#[test]
fn data_stands_in_one_place() {
    for data in [json!("a"), json!(null)] {
        let both = structured(with(&json!({ "data": data, "data_base64": "AP8=" })));
        assert_refused(both, "/data_base64", "stands beside `data`");
    }
    let body = with(&json!({ "data": 1, "data_base64": null }));
    assert_eq!(structured(body).unwrap().data, "1");
}

#[test]
fn data_base64_that_claims_to_be_json_is_json() {
    let read = |base64: &str| {
        structured(with(&json!({ "datacontenttype": "application/json", "data_base64": base64 })))
    };
    assert_eq!(read("eyJhIjoxLCJhIjoyfQ==").unwrap().data, r#"{"a":1,"a":2}"#);
    assert_eq!(read("").unwrap().data, "");
    assert_refused(read("e30K/w=="), "/data_base64", "is not JSON");
    assert_refused(read("Ilx1ZDgwMCI="), "/data_base64", "half of a surrogate pair");
}

#[test]
fn data_is_128_levels_deep_and_not_one_more() {
    let nested = |levels: usize| {
        let data = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        structured(format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#))
    };
    assert_eq!(nested(128).unwrap().data.len(), 256);
    assert_refused(nested(129), "/data", "is nested deeper than 128 levels");
    // No stack is used up by what is refused.
    assert_refused(nested(500_000), "/data", "is nested deeper than 128 levels");
}

#[test]
fn half_of_a_surrogate_pair_is_no_text() {
    let body = |member: &str| {
        structured(format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{member}}}"#))
    };
    assert_refused(body(r#""data":{"a":"\udc00"}"#), "/data", "half of a surrogate pair");
    assert_refused(body(r#""data":{"\ud800":1}"#), "/data", "half of a surrogate pair");
    assert_refused(body(r#""datacontenttype":"text/plain","data":"\ud800""#), "/data", "is not JSON text");
    assert_refused(body(r#""subject":"\ud800x""#), "/subject", "is not JSON text");
    assert_refused(body(r#""\ud800":"x""#), "", "the body is not JSON");
}

#[test]
fn a_body_that_is_no_event_is_told_what_it_is() {
    for (body, what) in [
        (&b""[..], "is empty"),
        (b" \n", "is empty"),
        (b"\xEF\xBB\xBF{}", "byte order mark"),
        (b"\xFF\xFE{\0}\0", "byte order mark"),
        (b"[]", "is a list; send lists as `application/cloudevents-batch+json`"),
        (b"7", "must hold each event as a JSON object"),
        (b"{", "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b"{\"id\":\"1\",}", "is not JSON"),
        (b"{\"id\":\"\xE9\"}", "is not JSON"),
    ] {
        assert_refused(structured(body), "", what);
    }
}

#[test]
fn only_the_json_format_in_utf_8_is_read() {
    let read = |content_type: &str| decode(&[("Content-Type", content_type)], with(&json!({})));
    for fine in [ONE, "Application/CloudEvents+JSON;charset=\"UTF-8\"", "application/cloudevents+json ; a=b"]
    {
        assert_eq!(read(fine), Ok(vec![Ok(least())]), "{fine}");
    }
    assert_refused(read("application/cloudevents+json; charset=utf-16"), "", "is not in UTF-8");
    for other in
        ["application/cloudevents+avro", "application/cloudevents", "application/cloudevents-batch+xml"]
    {
        assert_refused(read(other), "", &format!("the format `{other}` is not supported"));
    }
    for no_event in ["application/json", "", "é"] {
        assert_refused(read(no_event), "", "is not a CloudEvents request");
    }
    assert_refused(decode(&[], with(&json!({}))), "", "is not a CloudEvents request");
}

#[test]
fn headers_beside_a_structured_event_are_passed_over() {
    let headers = [("content-type", ONE), ("ce-id", "other"), ("ce-data", "%FF")];
    assert_eq!(decode(&headers, with(&json!({}))), Ok(vec![Ok(least())]));
}
