//! What an answer means, and what people may see of it.

use std::time::Duration;

use bytes::Bytes;
use crossdock_sdk::{
    Class, Fault, Redactor, SecretString, Wait, classify,
    http::{Answer, HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use jiff::Timestamp;
use proptest::prelude::*;

fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
    }
    let status = StatusCode::from_u16(status).expect("a status");
    Answer { status, headers: map, body: Bytes::copy_from_slice(body) }
}

fn fault(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Fault {
    classify(&answer(status, headers, body), &Redactor::default()).expect_err("a failure")
}

#[test]
fn the_code_of_a_vendor_is_found_where_most_apis_put_it() {
    let cases: [(&str, Option<&str>); 10] = [
        (r#"{"code":"UNKNOWN_SKU"}"#, Some("UNKNOWN_SKU")),
        (r#"{"code":1042}"#, Some("1042")),
        (r#"{"error":{"code":"card_declined","type":"card_error"}}"#, Some("card_declined")),
        (r#"{"error":{"type":"card_error"}}"#, Some("card_error")),
        (r#"{"error":"invalid_grant","error_description":"x"}"#, Some("invalid_grant")),
        (r#"{"errors":[{"code":"E1"}]}"#, Some("E1")),
        (r#"{"error":"Something went wrong with order 17"}"#, None),
        (
            r#"{"type":"https://example.com/problems/out-of-stock"}"#,
            Some("https://example.com/problems/out-of-stock"),
        ),
        ("<html>", None),
        (r#"[{"code":"x"}]"#, None),
    ];
    for (body, code) in cases {
        assert_eq!(fault(422, &[], body.as_bytes()).code.as_deref(), code, "{body}");
    }
}

#[test]
fn resets_are_read_as_vendors_write_them() {
    let wait = |name, value| fault(429, &[(name, value)], b"").wait;
    let until = |second| Some(Wait::Until(Timestamp::from_second(second).expect("a time")));
    assert_eq!(wait("ratelimit-reset", "30"), Some(Wait::For(Duration::from_secs(30))));
    assert_eq!(wait("x-ratelimit-reset", "1700000000"), until(1_700_000_000));
    assert_eq!(wait("x-ratelimit-reset", "1700000000000"), until(1_700_000_000));
    assert_eq!(wait("x-rate-limit-reset", "soon"), None);
    let both = [("retry-after", "5"), ("x-ratelimit-reset", "1700000000")];
    assert_eq!(
        fault(429, &both, b"").wait,
        Some(Wait::For(Duration::from_secs(5))),
        "the standard comes first"
    );
    assert_eq!(fault(503, &both[1..], b"").wait, None, "a limit has nothing to do with an outage");
}

#[test]
fn what_looks_like_a_credential_is_masked_and_ids_are_not() {
    let redactor = Redactor::default();
    for hidden in [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "sk_live_abcdef0123456789abcdef",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "eyJhbGciOiJIUzI1NiJ9",
    ] {
        let text = redactor.text(format!("{{\"token\":\"{hidden}\"}}").as_bytes(), 200);
        assert!(!text.contains(hidden), "{text}");
    }
    assert!(!redactor.text(b"Authorization: Basic QWxhZGRpbjpvcGVu", 200).contains("QWxh"));
    for shown in [
        "0190c1f2-7f3a-7000-8000-0242ac120002",
        "order 820982911946154508",
        "Bearer of good news",
        "UNKNOWN_SKU",
    ] {
        assert_eq!(redactor.text(shown.as_bytes(), 200), shown);
    }
}

#[test]
fn an_answer_cannot_draw_on_a_terminal() {
    let text = Redactor::default().text("a\u{1b}[31mb\u{202e}c\r\n\u{7}".as_bytes(), 200);
    assert_eq!(text, "a\\u{1b}[31mb\\u{202e}c\\r\\n\\u{7}");
}

proptest! {
    #[test]
    fn seconds_of_retry_after_are_passed_on_and_nothing_else_is_made_up(value in "[0-9]{1,10}|[ -~]{0,20}") {
        let whole = value.trim();
        let seconds = (1..=10).contains(&whole.len()) && whole.bytes().all(|byte| byte.is_ascii_digit());
        let wait = fault(429, &[("retry-after", &value)], b"").wait;
        match whole.parse() {
            Ok(secs) if seconds => prop_assert_eq!(wait, Some(Wait::For(Duration::from_secs(secs)))),
            _ => prop_assert!(!matches!(wait, Some(Wait::For(_))), "{value:?} {wait:?}"),
        }
    }

    #[test]
    fn every_status_and_body_has_a_class_and_a_bounded_excerpt(
        status in 100..1000u16,
        body in prop::collection::vec(any::<u8>(), 0..10_000),
    ) {
        match classify(&answer(status, &[], &body), &Redactor::default()) {
            Ok(()) => prop_assert!((200..300).contains(&status)),
            Err(fault) => {
                prop_assert!(!(200..300).contains(&status));
                prop_assert_eq!(fault.status, Some(status));
                prop_assert!(fault.class != Class::AlreadyDone && fault.class != Class::Bug);
                prop_assert!(fault.excerpt.is_none_or(|excerpt| excerpt.len() <= 2048 + '…'.len_utf8()));
                prop_assert!(fault.code.is_none_or(|code| code.len() <= 64));
            }
        }
    }

    #[test]
    fn a_secret_of_the_connection_is_never_seen_wherever_it_stands(
        secret in "[ -~]{6,40}",
        before in "\\PC{0,40}",
        after in "\\PC{0,40}",
        form in 0..3usize,
    ) {
        let secret = secret.trim().to_owned();
        prop_assume!(secret.len() >= 6);
        let written = match form {
            0 => secret.clone(),
            1 => serde_json::Value::from(secret.as_str()).to_string(),
            _ => url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        };
        prop_assume!(!before.contains(&secret) && !after.contains(&secret));
        let redactor = Redactor::new(&[SecretString::from(secret.as_str())]);
        let text = redactor.mask(&format!("{before}{written}{after}"));
        prop_assert!(!text.contains(&secret), "{text}");
        prop_assert!(!text.contains(&written), "{text}");
    }

    #[test]
    fn no_half_of_a_secret_stays_where_an_excerpt_is_cut(padding in 1990..2060usize) {
        let secret = "correct-horse-battery-staple";
        let body = format!("{}{secret}", "x ".repeat(padding / 2));
        let fault = classify(&answer(400, &[], body.as_bytes()), &Redactor::new(&[SecretString::from(secret)]));
        let excerpt = fault.expect_err("a failure").excerpt.expect("an excerpt");
        prop_assert!(!excerpt.contains("corr"), "{excerpt}");
    }
}
