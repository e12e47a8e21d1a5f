//! What holds for every event and for any bytes.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use proptest::{collection::vec, option, prelude::*};

use crate::*;

/// Media types, and whether data of them is JSON.
const MEDIA_TYPES: [(&str, bool); 7] = [
    ("application/json", true),
    ("application/vnd.shop.order+JSON; charset=\"utf-8\"", true),
    ("text/plain", false),
    ("text/csv; charset=iso-8859-1", false),
    ("application/xml;charset=us-ascii", false),
    ("application/octet-stream", false),
    ("jsonish", false),
];

/// What must be percent-encoded in a header (§3.1.3.2); what is not ASCII is so in any case.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

fn character() -> impl Strategy<Value = char> {
    let odd = prop::sample::select(
        "\"\\%/~ é€😀\u{FFFD}\u{FEFF}\u{202E}\u{10FFFF}{}[]:,".chars().collect::<Vec<_>>(),
    );
    prop_oneof![odd, any::<char>()]
        .prop_filter("is no control character", |character| !character.is_control())
}

fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    vec(character(), length).prop_map(|characters| characters.into_iter().collect())
}

fn some_text() -> impl Strategy<Value = Option<String>> {
    option::of(text(1..40))
}

fn time() -> impl Strategy<Value = Timestamp> {
    let (first, last) = ("0000-01-01T00:00:00Z", Timestamp::MAX);
    let first: Timestamp = first.parse().expect("a time");
    (first.as_second()..last.as_second(), 0..1_000_000_000)
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).expect("a time in range"))
}

fn extensions() -> impl Strategy<Value = Vec<(String, String)>> {
    let known = |name: &String| {
        !matches!(name.as_str(), "specversion" | "id" | "source" | "type" | "subject" | "time" | "data")
    };
    let name = "[a-z0-9]{1,64}".prop_filter("is no attribute of another kind", known);
    vec((name, text(0..20)), 0..6).prop_map(|mut extensions: Vec<(String, String)>| {
        let mut names = std::collections::HashSet::new();
        extensions.retain(|(name, _)| names.insert(name.clone()));
        extensions
    })
}

/// JSON as senders write it.
fn json_text() -> impl Strategy<Value = String> {
    let number = (any::<i64>(), 0..30_u32, -40..40_i32)
        .prop_map(|(digits, shift, exponent)| format!("{}.50e{exponent}", digits >> shift.min(62)));
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i128>().prop_map(|value| value.to_string()),
        number,
        any::<f64>()
            .prop_filter("is a number", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        any::<String>().prop_map(|value| json!(value).to_string()),
    ];
    let tree = leaf.prop_recursive(4, 24, 4, |inner| {
        let members = vec(("[ab\\\\]?", inner.clone()), 0..4).prop_map(|members| {
            let member = |(name, value): (String, String)| format!("{} :{value}", json!(name));
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(",\n"))
        });
        prop_oneof![members, vec(inner, 0..4).prop_map(|items| format!("[ {} ]", items.join(", ")))]
    });
    tree.boxed()
}

/// A media type and data that is what it says.
fn content() -> impl Strategy<Value = (Option<String>, Bytes)> {
    let any_bytes = || {
        prop_oneof![vec(any::<u8>(), 0..60), any::<String>().prop_map(String::into_bytes)]
            .prop_map(Bytes::from)
    };
    let json_or_none = || prop_oneof![9 => json_text().prop_map(Bytes::from), 1 => Just(Bytes::new())];
    let typed = prop::sample::select(&MEDIA_TYPES[..]).prop_flat_map(move |(media_type, is_json)| {
        let data = if is_json { json_or_none().boxed() } else { any_bytes().boxed() };
        data.prop_map(move |data| (Some(media_type.to_owned()), data))
    });
    let untyped = prop_oneof![any_bytes().boxed(), json_or_none().boxed()].prop_map(|data| (None, data));
    prop_oneof![4 => typed, 1 => untyped]
}

/// Any event that the model allows and that the names of CloudEvents can carry.
fn event() -> impl Strategy<Value = Event> {
    let required = (text(1..60), text(1..40), text(1..40));
    let optional = (some_text(), option::of(time()), some_text(), some_text());
    (required, optional, extensions(), content()).prop_map(
        |((id, source, kind), (subject, time, schema, key), extensions, (content_type, data))| Event {
            id,
            source,
            kind,
            subject,
            time,
            content_type,
            schema,
            key,
            extensions,
            data,
        },
    )
}

/// The JSON form with the data as it stands, or as base64.
fn as_structured(event: &Event) -> String {
    let mut shown = CloudEvents.encode(&Event { data: Bytes::new(), ..event.clone() }).to_string();
    let content_type = event.content_type.as_deref().unwrap_or_default();
    let is_json = MEDIA_TYPES.contains(&(content_type, true));
    if !event.data.is_empty() {
        let member = match std::str::from_utf8(&event.data) {
            Ok(json) if is_json => format!("\"data\": {json}"),
            _ => format!("\"data_base64\":\"{}\"", base64(&event.data)),
        };
        shown.truncate(shown.len() - 1);
        shown = format!("{shown},{member}}}");
    }
    shown
}

fn base64(data: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(data)
}

/// The headers that the binding writes.
fn as_headers(event: &Event) -> Vec<(String, String)> {
    let time = event.time.map(|time| time.to_string());
    let required =
        [("specversion", "1.0"), ("id", &event.id), ("source", &event.source), ("type", &event.kind)];
    let optional = [
        ("subject", event.subject.as_deref()),
        ("time", time.as_deref()),
        ("dataschema", event.schema.as_deref()),
        ("partitionkey", event.key.as_deref()),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let extensions = event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let encoded =
        |(name, value): (&str, &str)| (format!("ce-{name}"), utf8_percent_encode(value, ENCODED).to_string());
    let attributes = required.into_iter().chain(optional).chain(extensions).map(encoded);
    let content_type = event.content_type.iter().map(|value| ("content-type".to_owned(), value.clone()));
    attributes.chain(content_type).collect()
}

/// Reads what is shown of an event, and holds it against the event. JSON that is shown as JSON keeps its meaning, and its
/// media type is named if it was not; everything else is the same byte for byte.
fn assert_reads_back(event: &Event) {
    let shown = CloudEvents.encode(event);
    let read = structured(shown.to_string()).expect("what is shown is an event");
    let mut same = event.clone();
    let json = event.content_type.is_none() || read.data != event.data;
    if let Some(data) = shown.get("data").filter(|_| json) {
        let sent: Value = serde_json::from_slice(&event.data).expect("is shown as JSON");
        assert_eq!(*data, sent);
        assert_eq!(read.data, data.to_string());
        same.data = read.data.clone();
        same.content_type.get_or_insert_with(|| "application/json".to_owned());
    }
    assert_eq!(read, same);
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_as_the_same_event(event in event()) {
        prop_assert_eq!(event.validate(), Ok(()));
        assert_reads_back(&event);
    }

    #[test]
    fn an_event_is_the_same_in_every_mode(event in event()) {
        let one = as_structured(&event);
        let binary = only(CloudEvents.decode(&as_headers(&event), &event.data));
        prop_assert_eq!(structured(&one), Ok(event.clone()));
        prop_assert_eq!(binary, Ok(event.clone()));
        let list = decode(&[("content-type", BATCH)], format!("[{one},{one}]"));
        prop_assert_eq!(list, Ok(vec![Ok(event.clone()), Ok(event)]));
    }

    #[test]
    fn a_number_is_shown_as_the_number_that_was_sent(
        digits in -999_999_999_999_999_i64..1_000_000_000_000_000,
        exponent in prop_oneof![-25..25_i32, -330..330_i32],
    ) {
        let sent = format!("{digits}e{exponent}");
        let shown = CloudEvents.encode(&Event { data: Bytes::from(sent.clone()), ..least() });
        match shown.get("data") {
            Some(shown) => prop_assert_eq!(shown.to_string().parse::<f64>(), sent.parse::<f64>()),
            None => prop_assert!(digits != 0 && exponent.abs() > 22, "{sent} could be shown"),
        }
    }

    #[test]
    fn no_bytes_are_too_odd(
        content_type in prop::sample::select(vec![ONE, BATCH, "application/json", "text/plain", ""]),
        headers in vec((text(0..12).prop_map(|name| format!("ce-{name}")), any::<String>()), 0..4),
        body in prop_oneof![vec(any::<u8>(), 0..200), json_text().prop_map(String::into_bytes)],
    ) {
        let content_type = ("content-type".to_owned(), content_type.to_owned());
        let headers: Vec<_> = std::iter::once(content_type).chain(headers).collect();
        for event in CloudEvents.decode(&headers, &Bytes::from(body)).into_iter().flatten().flatten() {
            assert_reads_back(&event);
        }
    }

    /// Broken in one place, an event is refused or is another event; what was taken can be shown and read back.
    #[test]
    fn what_is_taken_is_an_event(
        event in event(),
        at in any::<prop::sample::Index>(),
        splice in vec(any::<u8>(), 0..4),
        cut in 0..3_usize,
    ) {
        let mut body = as_structured(&event).into_bytes();
        let at = at.index(body.len());
        let end = (at + cut).min(body.len());
        body.splice(at..end, splice);
        if let Ok(event) = structured(&body) {
            prop_assert_eq!(event.validate(), Ok(()));
            assert_reads_back(&event);
        }
    }

    #[test]
    fn any_header_is_refused_or_is_an_attribute(value in prop_oneof!["[ -~]{0,30}", any::<String>()]) {
        let required = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
        let headers = [&required[..], &[("ce-tenant", &value)]].concat();
        if let Ok(event) = only(decode(&headers, "")) {
            prop_assert!(value.trim_matches([' ', '\t']).bytes().all(|byte| matches!(byte, b' '..=b'~')));
            assert_reads_back(&event);
        }
    }
}
