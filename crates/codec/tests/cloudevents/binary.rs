//! Attributes in headers, the data as the body.

use crate::*;

const REQUIRED: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.paid")];

/// An event with [`REQUIRED`] and more headers.
fn binary(headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Result<Event, Malformed> {
    only(decode(&[&REQUIRED, headers].concat(), body))
}

/// [`REQUIRED`] with another value for a header.
fn instead(header: &str, value: &str) -> Result<Event, Malformed> {
    only(decode(&REQUIRED.map(|(name, old)| (name, if name == header { value } else { old })), ""))
}

fn subject(value: &str) -> Result<String, Malformed> {
    binary(&[("ce-subject", value)], "").map(|event| event.subject.expect("there is a subject"))
}

#[test]
fn the_example_of_the_binding_is_read() {
    let headers = [
        ("host", "webhook.example.com"),
        ("ce-specversion", "1.0"),
        ("CE-Type", "com.example.someevent"),
        ("ce-time", "2018-04-05T03:56:24Z"),
        ("ce-id", "1234-1234-1234"),
        ("ce-source", "/mycontext/subcontext"),
        ("ce-comexampleOtherValue", "5"),
        ("ce-partitionkey", "k-7"),
        ("ce-dataschema", "https://example.com/schema"),
        ("Content-Type", " application/json; charset=\"utf-8\" "),
        ("content-length", "14"),
    ];
    let event = only(decode(&headers, "{ \"n\": [1.0] }")).unwrap();
    let read = Event {
        id: "1234-1234-1234".to_owned(),
        source: "/mycontext/subcontext".to_owned(),
        kind: "com.example.someevent".to_owned(),
        time: Some("2018-04-05T03:56:24Z".parse().unwrap()),
        content_type: Some("application/json; charset=\"utf-8\"".to_owned()),
        schema: Some("https://example.com/schema".to_owned()),
        key: Some("k-7".to_owned()),
        extensions: vec![("comexampleothervalue".to_owned(), "5".to_owned())],
        data: Bytes::from_static(b"{ \"n\": [1.0] }"),
        ..least()
    };
    assert_eq!(event, read);
}

#[test]
fn values_are_percent_decoded_once() {
    for (sent, read) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("euro%20%e2%82%ac", "euro €"),
        ("%41%62", "Ab"),
        ("%2520", "%20"),
        ("%EF%BF%BD", "\u{FFFD}"),
        ("%20a%20", " a "),
        ("a b+c", "a b+c"),
        // What is no percent-encoding stands for itself.
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
    ] {
        assert_eq!(subject(sent).as_deref(), Ok(read), "{sent}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_refused() {
    for sent in ["%C0%A0", "%FF", "caf%E9", "%ED%A0%80", "%F4%90%80%80", "%E2%82"] {
        assert_refused(subject(sent), "/subject", "is not UTF-8 after percent-decoding");
    }
}

#[test]
fn quoted_values_of_older_senders_are_unquoted() {
    for (sent, read) in [
        (r#""a b""#, "a b"),
        (r#"" a ""#, " a "),
        (r#""say \"hi\" \\o/""#, r#"say "hi" \o/"#),
        (r#""\a%20b""#, "a b"),
        (r#"a"b"#, r#"a"b"#),
    ] {
        assert_eq!(subject(sent).as_deref(), Ok(read), "{sent}");
    }
    for sent in ["\"", "\"a", r#""a\""#, r#""a"b"#, r#""a" "b""#, r#""a"b""#] {
        assert_refused(subject(sent), "/subject", "begins with a quote and is no quoted string");
    }
    assert_refused(subject(r#""""#), "/subject", "must not be empty");
}

#[test]
fn two_ids_that_an_http_library_made_one_are_refused() {
    // What becomes of `caf\xE9` and `caf\xE8` in Latin-1.
    assert_refused(instead("ce-id", "caf\u{FFFD}"), "/id", "is not printable ASCII; percent-encode");
}

#[test]
fn only_printable_ascii_stands_in_a_header() {
    for value in ["é", "a\u{FFFD}", "a\tb", "a\u{0}", "\u{7F}", "\u{A0}a"] {
        for header in ["ce-id", "ce-source", "ce-type"] {
            assert_refused(instead(header, value), &format!("/{}", &header[3..]), "is not printable ASCII");
        }
        assert_refused(binary(&[("ce-tenant", value)], ""), "/tenant", "is not printable ASCII");
        let refused = binary(&[("content-type", &format!("text/{value}"))], "");
        assert_refused(refused, "/datacontenttype", "is not printable ASCII");
    }
    assert_eq!(subject("\t a \t").as_deref(), Ok("a"));
    assert_refused(subject("a%0Ab"), "/subject", "holds a control character");
    assert_refused(subject("%C2%85"), "/subject", "holds a control character");
    // Headers that carry no attribute may hold anything.
    assert_eq!(binary(&[("user-agent", "é\u{FFFD}")], ""), Ok(least()));
}

#[test]
fn what_is_required_is_required() {
    for (missing, _) in REQUIRED {
        let headers: Vec<_> = REQUIRED.into_iter().filter(|(name, _)| *name != missing).collect();
        assert_refused(decode(&headers, ""), &format!("/{}", &missing[3..]), "is required");
    }
    assert_refused(instead("ce-id", ""), "/id", "is required");
    assert_refused(instead("ce-specversion", "0.3"), "/specversion", "only `1.0` is supported");
}

#[test]
fn a_header_is_there_once() {
    for (header, value) in [("CE-ID", "1"), ("ce-source", "/other")] {
        let pointer = format!("/{}", header[3..].to_ascii_lowercase());
        assert_refused(binary(&[(header, value)], ""), &pointer, "is there twice");
    }
    let twice = [("ce-tenant", "a"), ("ce-Tenant", "a")];
    assert_refused(binary(&twice, ""), "/tenant", "is there twice");
    let twice = [("content-type", "text/plain"), ("Content-Type", "text/plain")];
    assert_refused(binary(&twice, ""), "/datacontenttype", "is there twice");
}

#[test]
fn a_header_has_the_name_of_an_attribute() {
    let long = format!("ce-{}", "n".repeat(64));
    assert_eq!(binary(&[(&long, "v")], "").unwrap().extensions, [(long[3..].to_owned(), "v".to_owned())]);
    for header in ["ce-", "ce-tenant-id", "ce-tenant_id", &format!("{long}n")] {
        let refusal = binary(&[(header, "v")], "").unwrap_err();
        assert!(refusal.message.contains("is not the name of an attribute"), "{}", refusal.message);
    }
    for header in ["ce-data", "ce-data_base64", "ce-datacontenttype"] {
        assert_refused(binary(&[(header, "v")], ""), &format!("/{}", &header[3..]), "is no header");
    }
}

#[test]
fn the_body_is_the_data_whatever_it_is() {
    for (content_type, body) in [
        ("text/plain; charset=iso-8859-1", &b"caf\xE9"[..]),
        ("application/octet-stream", b"\x00\xFF"),
        ("application/json", b" {\"a\":1,\"a\":1.50}\n"),
        ("application/json", b""),
    ] {
        let event = binary(&[("content-type", content_type)], body).unwrap();
        assert_eq!((event.content_type.as_deref(), event.data.as_ref()), (Some(content_type), body));
    }
    let event = binary(&[], b"{").unwrap();
    assert_eq!((event.content_type, event.data.as_ref()), (None, &b"{"[..]));
}

#[test]
fn a_body_that_claims_to_be_json_is_json() {
    let read = |body: &str| binary(&[("content-type", "application/vnd.shop+json")], body);
    for broken in ["{", " ", "{} {}", "\u{FEFF}{}", "nul"] {
        assert_refused(read(broken), "/data", "is not JSON");
    }
    assert_refused(read(r#""\ud800""#), "/data", "half of a surrogate pair");
    assert_refused(
        read(&format!("{}{}", "[".repeat(129), "]".repeat(129))),
        "/data",
        "deeper than 128 levels",
    );
    assert!(binary(&[("content-type", "application/json")], b"\"\xFF\"").is_err());
}
