//! What a call looks like on the wire.

use crate::common::{
    LOOPBACK, Server, action, call, call_once, connection, item, refused, secret, text, with,
};
use crossdock_sdk::{Class, Setting, WrittenField};
use proptest::prelude::*;
use serde_json::json;

#[tokio::test]
async fn the_data_is_sent_untouched_with_an_id_that_stays_the_same() {
    let server = Server::answering("200 OK").await;
    let post = action("post", &server.url, Vec::new(), LOOPBACK).unwrap();
    let body = "{ \"b\" : 1.0e2,\n\"a\":\"\\u00fc\" }";
    for attempt in [1, 2] {
        let output = call(&post, with(crossdock_sdk::Item { attempt, ..item(body) }, "path", "/all")).await;
        assert_eq!((output.status, output.result), (Some(200), Ok(())));
        assert_eq!(output.request, Some(format!("POST {}/all", server.url)));
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!((request.line.as_str(), request.body.as_slice()), ("POST /all", body.as_bytes()));
        assert_eq!(request.header("content-type"), ["application/json"]);
        assert_eq!(request.header("webhook-id"), ["evt-1_0123456789abcdef"]);
        assert_eq!(request.header("webhook-timestamp").len(), 1);
        assert!(request.header("webhook-signature").is_empty(), "there is no secret to sign with");
    }
}

#[tokio::test]
async fn each_verb_is_its_own_and_only_those_with_a_body_send_one() {
    let server = Server::answering("204 No Content").await;
    for verb in ["post", "put", "patch", "delete", "get"] {
        let output = call_once(verb, &server.url, Vec::new(), with(item("{}"), "path", "/x")).await;
        assert_eq!(output.result, Ok(()), "{verb}");
        let request = server.requests().pop().unwrap();
        assert_eq!(request.line, format!("{} /x", verb.to_uppercase()));
        let has_body = matches!(verb, "post" | "put" | "patch");
        assert_eq!(
            (request.body.is_empty(), request.header("content-type").is_empty()),
            (!has_body, !has_body)
        );
    }
}

#[tokio::test]
async fn paths_queries_and_headers_of_a_call_come_behind_those_of_the_connection() {
    let server = Server::answering("200 OK").await;
    let headers = Setting::TextMap(vec![("X-One".into(), "1".into()), ("X-Two".into(), "2".into())]);
    let item = with(item("{}"), "path", "/issues/a%2Fb?c=1");
    let item = with(item, "query", json!({ "q": "a b&c=ü", "n": "2" }));
    let item = with(item, "headers", json!({ "x-two": "two", "content-type": "application/vnd.acme+json" }));
    let output =
        call_once("post", &format!("{}/api/?k=v", server.url), vec![("headers", headers)], item).await;
    assert_eq!(
        output.request,
        Some(format!("POST {}/…/issues/a%2Fb", server.url)),
        "a query may hold personal data"
    );
    let request = server.requests().pop().unwrap();
    assert_eq!(request.line, "POST /api/issues/a%2Fb?k=v&c=1&q=a+b%26c%3D%C3%BC&n=2");
    assert_eq!((request.header("x-one"), request.header("x-two")), (vec!["1"], vec!["two"]));
    assert_eq!(request.header("content-type"), ["application/vnd.acme+json"]);
}

#[tokio::test]
async fn each_way_to_sign_in_puts_the_secret_where_it_belongs() {
    let server = Server::answering("200 OK").await;
    let cases = [
        (vec![("auth", text("none"))], "authorization", vec![]),
        (vec![("auth", text("bearer")), ("token", secret("t0ken"))], "authorization", vec!["Bearer t0ken"]),
        (vec![("token", secret("t0ken"))], "authorization", vec!["Bearer t0ken"]),
        (
            vec![("auth", text("basic")), ("username", text("Aladdin")), ("password", secret("open sesame"))],
            "authorization",
            // RFC 7617 §2.
            vec!["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
        ),
        (vec![("auth", text("api_key")), ("api_key", secret("k3y"))], "x-api-key", vec!["k3y"]),
        (vec![("api_key", secret("k3y")), ("api_key_header", text("X-Acme-Key"))], "x-acme-key", vec!["k3y"]),
        (
            vec![("secret_headers", Setting::SecretMap(vec![("X-Acme".into(), "s3cret".into())]))],
            "x-acme",
            vec!["s3cret"],
        ),
    ];
    for (config, header, expected) in cases {
        let output = call_once("post", &server.url, config, item("{}")).await;
        assert_eq!(output.result, Ok(()));
        assert_eq!(server.requests().pop().unwrap().header(header), expected);
    }
    let query = vec![("api_key", secret("k3 y")), ("api_key_query", text("key"))];
    let output = call_once("post", &server.url, query, item("{}")).await;
    assert_eq!(server.requests().pop().unwrap().line, "POST /?key=k3+y");
    assert_eq!(output.request, Some(format!("POST {}/", server.url)), "the key is not shown");
}

#[tokio::test]
async fn calls_one_after_the_other_share_a_connection() {
    let server = Server::with("HTTP/1.1 422 No\r\ncontent-length: 7\r\n\r\n{\"a\":1}").await;
    let post = action("post", &server.url, Vec::new(), LOOPBACK).unwrap();
    for _ in 0..20 {
        call(&post, item("{}")).await;
    }
    let put = action("put", &server.url, Vec::new(), LOOPBACK).unwrap();
    call(&put, item("{}")).await;
    assert_eq!((server.requests().len(), server.connections()), (21, 1));
}

#[tokio::test]
async fn a_trace_is_passed_on() {
    let server = Server::answering("200 OK").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = crossdock_sdk::Item { traceparent: Some(trace.to_owned()), ..item("{}") };
    call_once("post", &server.url, Vec::new(), traced).await;
    assert_eq!(server.requests().pop().unwrap().header("traceparent"), [trace]);
}

#[tokio::test]
async fn rendered_fields_that_make_no_request_are_a_bug_and_nothing_is_sent() {
    let server = Server::answering("200 OK").await;
    let cases = [
        with(item("{}"), "path", "/a/../b"),
        with(item("{}"), "path", "//evil.example/"),
        with(item("{}"), "path", "/a b"),
        with(item("{}"), "headers", json!({ "x-note": "a\r\nx: y" })),
        with(item("{}"), "headers", json!({ "host": "evil.example" })),
        with(item("{}"), "headers", json!({ "webhook-id": "1" })),
        with(item("{}"), "headers", json!({ "authorization": "Bearer x" })),
    ];
    for item in cases {
        let shown = format!("{:?}", item.fields);
        let output = call_once("post", &server.url, Vec::new(), item).await;
        let fault = output.result.expect_err(&shown);
        assert_eq!((fault.class, output.status), (Class::Bug, None), "{shown}");
        assert!(fault.advice.is_some());
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_connection_that_cannot_work_names_its_field() {
    let url = "https://api.example";
    let map = |name: &str| Setting::TextMap(vec![(name.to_owned(), "v".to_owned())]);
    let list = |text: &str| Setting::TextList(vec![text.to_owned()]);
    let cases = [
        ("ftp://api.example", vec![], "base_url"),
        ("https://user:pass@api.example", vec![], "base_url"),
        (url, vec![("timeout", Setting::Duration(std::time::Duration::ZERO))], "timeout"),
        (url, vec![("timeout", Setting::Duration(std::time::Duration::from_secs(601)))], "timeout"),
        (url, vec![("connect_timeout", Setting::Duration(std::time::Duration::MAX))], "connect_timeout"),
        (url, vec![("headers", map("host"))], "headers"),
        (url, vec![("headers", map("authorization"))], "headers"),
        (url, vec![("headers", map("webhook-id"))], "headers"),
        (url, vec![("auth", text("bearer"))], "auth"),
        (url, vec![("auth", text("none")), ("token", secret("x"))], "token"),
        (url, vec![("auth", text("basic")), ("username", text("x"))], "auth"),
        (url, vec![("token", secret("x")), ("username", text("x")), ("password", secret("x"))], "token"),
        (url, vec![("token", secret(""))], "token"),
        (url, vec![("username", text("a:b")), ("password", secret("x"))], "username"),
        (url, vec![("api_key_header", text("x"))], "auth"),
        (url, vec![("signing_secret", secret("whsec_?"))], "signing_secret"),
        (url, vec![("signing_secret", secret("whsec_"))], "signing_secret"),
        (url, vec![("signing_secret", secret("whsec_dG9vLXNob3J0"))], "signing_secret"),
        (url, vec![("success", list("200"))], "success"),
        (url, vec![("allow_addresses", list("example.com"))], "allow_addresses"),
    ];
    for (url, config, field) in cases {
        let shown = format!("{url} {config:?}");
        assert_eq!(refused(url, config, LOOPBACK).0, field, "{shown}");
    }
}

#[test]
fn a_signing_secret_that_is_none_is_told_how_one_is_made() {
    for (written, problem) in [
        ("whsec_dG9vLXNob3J0", "the secret is 9 bytes, and must be 24 to 64; "),
        ("x?", "not valid base64; "),
    ] {
        let (_, message) =
            refused("https://api.example", vec![("signing_secret", secret(written))], LOOPBACK);
        assert!(message.contains(problem) && message.contains("openssl rand -base64 24"), "{message}");
        assert!(!message.contains(written), "{message}");
    }
    let longest = Setting::Duration(std::time::Duration::from_secs(600));
    assert!(action("post", "https://api.example", vec![("timeout", longest)], LOOPBACK).is_ok());
}

#[test]
fn what_no_event_could_make_a_request_of_is_refused_before_there_is_one() {
    let connection = connection("https://api.example/v1", Vec::new(), LOOPBACK).unwrap();
    let check = |field, name, text| connection.check(WrittenField { action: "post", field, name, text });
    for path in ["//evil.example/x", "https://evil.example", "/a/../x", "/a b/x", "/a#x", "/x/%2e%2E/b"] {
        assert!(check("path", None, path).is_err(), "{path}");
    }
    for name in ["Authorization", "cookie", "Host", "Webhook-Id", "traceparent", "x y", ""] {
        assert!(check("headers", Some(name), "x").is_err(), "{name}");
    }
    let long = "x".repeat(4097);
    for value in ["Müller x", "a\nb", &long] {
        assert!(check("headers", Some("x-note"), value).is_err(), "{value}");
    }
    for (field, name, text) in [
        ("path", None, "/issues/x?page=x"),
        ("path", None, ""),
        ("path", None, "x"),
        ("headers", Some("Content-Type"), "text/plain"),
        ("headers", Some("x-note"), ""),
        ("query", Some("any name"), "any text ü"),
    ] {
        assert_eq!(check(field, name, text), Ok(()), "{text}");
    }
}

#[tokio::test]
async fn the_path_of_the_base_is_shown_nowhere_and_parts_of_it_from_references_are_masked_in_answers() {
    let server =
        Server::with("HTTP/1.1 404 No\r\ncontent-length: 37\r\n\r\nno hook B0 canary-path, canary%2Dkey!")
            .await;
    let url = format!("{}/services/B0/canary-path?sig=canary%2Dkey", server.url);
    let config = || vec![("base_url", Setting::Url(url.clone(), vec![url.as_str().into()]))];
    for (path, shown) in [("", "/…"), ("/issues/7?k=v", "/…/issues/7")] {
        let output = call_once("post", "", config(), with(item("{}"), "path", path)).await;
        assert_eq!(output.request, Some(format!("POST {}{shown}", server.url)));
        let fault = output.result.unwrap_err();
        assert_eq!(fault.excerpt.as_deref(), Some("no hook B0 ‹redacted›, ‹redacted›!"));
    }
    let line = server.requests().pop().unwrap().line;
    assert_eq!(line, "POST /services/B0/canary-path/issues/7?sig=canary%2Dkey&k=v", "it was really called");
}

proptest! {
    #[test]
    fn whatever_is_rendered_into_a_header_arrives_whole_or_is_refused(value in "[\\x00-\\x7f]{0,30}|[\\x00-\\xff]{0,30}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::answering("200 OK").await;
            let item = with(item("{}"), "headers", json!({ "x-note": value }));
            let output = call_once("post", &server.url, Vec::new(), item).await;
            match output.result {
                Ok(()) => {
                    let request = server.requests().pop().unwrap();
                    assert_eq!(request.header("x-note"), [value.trim_matches([' ', '\t'])]);
                    assert!(value.is_ascii());
                    assert_eq!(request.body, b"{}");
                }
                Err(fault) => assert_eq!((fault.class, server.requests().len()), (Class::Bug, 0)),
            }
        });
    }
}
