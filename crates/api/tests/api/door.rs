//! Who may come in, and how refusals look.

use crossdock_api::ApiOptions;
use crossdock_core::PublishError;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::json;

use crate::harness::{Bench, Reply};

async fn with(server: &Bench, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = server.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Reply::of(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn a_rebound_name_drives_nothing() {
    let server =
        Bench::with(ApiOptions { allowed_hosts: vec!["hub.example".to_owned()], ..ApiOptions::default() })
            .await;
    for path in ["/", "/v1/status", "/v1/nothing"] {
        with(&server, Method::GET, path, &[("host", "evil.example")]).await.problem(421, "misdirected");
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:80", "hub.example", "HUB.example:443"] {
        assert_eq!(with(&server, Method::GET, "/v1/status", &[("host", host)]).await.status, 200, "{host}");
    }
    // Tunnels and probes bring names of their own.
    assert_eq!(with(&server, Method::GET, "/health/live", &[("host", "10.1.2.3.pod")]).await.status, 200);
    let webhook = [("host", "abc.tunnel.example"), ("x-signature", "good"), ("x-delivery", "1")];
    assert_eq!(with(&server, Method::POST, "/in/shop", &webhook).await.status, 202);
}

#[tokio::test]
async fn a_request_without_a_single_host_is_refused() {
    let server = Bench::start().await;
    for head in [
        "GET /v1/status HTTP/1.1\r\n\r\n",
        "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(head).await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[tokio::test]
async fn another_sites_page_drives_nothing() {
    let server = Bench::start().await;
    let own = format!("http://{}", server.address);
    for headers in
        [[("origin", "https://evil.example")], [("origin", "null")], [("sec-fetch-site", "cross-site")]]
    {
        let reply = with(&server, Method::POST, "/v1/topics/orders/events", &headers).await;
        reply.problem(403, "cross-origin");
        let reply = with(&server, Method::PATCH, "/v1/connections/shop", &headers).await;
        reply.problem(403, "cross-origin");
    }
    let reply =
        with(&server, Method::GET, "/v1/status", &[("origin", &own), ("sec-fetch-site", "same-origin")])
            .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), "", "no other page may read it either");
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "PATCH")];
    with(&server, Method::OPTIONS, "/v1/connections/shop", &preflight).await.problem(403, "cross-origin");
}

#[tokio::test]
async fn a_token_opens_v1_and_nothing_else_asks_for_it() {
    let token = Some(SecretString::from("correct horse".to_owned()));
    let server = Bench::with(ApiOptions { token, ..ApiOptions::default() }).await;
    for given in
        ["", "Bearer", "Bearer wrong", "Bearer correct horse2", "Basic correct horse", "Bearer correct"]
    {
        let reply = with(&server, Method::GET, "/v1/status", &[("authorization", given)]).await;
        let problem = reply.problem(401, "unauthorized").to_string();
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        assert!(!problem.contains("horse"), "{problem}");
    }
    server.get("/v1/status").await.problem(401, "unauthorized");
    server.get("/v1/unknown").await.problem(401, "unauthorized");
    server.post("/v1/topics/orders/events", &json!({})).await.problem(401, "unauthorized");
    for given in ["Bearer correct horse", "bearer  correct horse "] {
        assert_eq!(with(&server, Method::GET, "/v1/status", &[("authorization", given)]).await.status, 200);
    }
    for open in ["/", "/health/live", "/health/ready"] {
        assert_eq!(server.get(open).await.status, 200, "{open}");
    }
    let webhook = [("x-signature", "good"), ("x-delivery", "1")];
    assert_eq!(with(&server, Method::POST, "/in/shop", &webhook).await.status, 202);
}

#[tokio::test]
async fn a_stranger_learns_neither_names_nor_reasons() {
    let token = Some(SecretString::from("correct horse".to_owned()));
    let server = Bench::with(ApiOptions { token, ..ApiOptions::default() }).await;
    let local = Bench::start().await;
    for server in [&server, &local] {
        let full = "the disk of /srv/hub is full".to_owned();
        *server.store.refusal.lock().unwrap() = Some(PublishError::Unavailable(full));
    }
    let webhook = [("x-signature", "good"), ("x-delivery", "1")];
    let tunnel = [webhook[0], webhook[1], ("host", "abc.tunnel.example")];
    let page = [webhook[0], webhook[1], ("origin", "https://evil.example")];
    let wrong = [webhook[0], webhook[1], ("authorization", "Bearer wrong")];
    for (server, headers) in [(&server, &webhook[..]), (&server, &wrong), (&local, &tunnel), (&local, &page)]
    {
        let unknown = with(server, Method::POST, "/in/shpo", headers).await;
        let problem = unknown.problem(404, "not-found");
        assert!(!unknown.text.contains("shop") && !unknown.text.contains("tracker"), "{problem}");
        for (method, path) in [(Method::POST, "/in/shop"), (Method::GET, "/health/ready")] {
            let refused = with(server, method, path, headers).await;
            refused.problem(503, "unavailable");
            assert!(!refused.text.contains("/srv"), "{path}: {}", refused.text);
        }
    }
    for (server, headers) in [
        (&server, [webhook[0], webhook[1], ("authorization", "Bearer correct horse")]),
        (&local, [webhook[0], webhook[1], webhook[0]]),
    ] {
        let problem = with(server, Method::POST, "/in/shpo", &headers).await.problem(404, "not-found");
        assert_eq!((&problem["nearest"], &problem["known"]), (&json!("shop"), &json!(["shop", "tracker"])));
        for (method, path) in [(Method::POST, "/in/shop"), (Method::GET, "/health/ready")] {
            let problem = with(server, method, path, &headers).await.problem(503, "unavailable");
            assert!(problem["detail"].as_str().is_some_and(|text| text.contains("/srv/hub")), "{problem}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_allowed_are_told_apart() {
    let server = Bench::start().await;
    for path in ["/nothing", "/v1", "/v1/", "/v1/status/", "/in/", "/in/a/b", "/v2/status"] {
        server.get(path).await.problem(404, "not-found");
    }
    for (method, path, allowed) in [
        (Method::GET, "/in/shop", "POST"),
        (Method::GET, "/v1/topics/orders/events", "POST"),
        (Method::DELETE, "/v1/status", "GET,HEAD"),
        (Method::PUT, "/v1/connections/shop", "GET,HEAD,PATCH"),
        (Method::GET, "/v1/dead-letters/discards", "POST"),
    ] {
        let reply = with(&server, method, path, &[]).await;
        reply.problem(405, "method-not-allowed");
        assert_eq!(reply.header("allow"), allowed, "{path}");
    }
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request() {
    let server = Bench::start().await;
    let sent = with(&server, Method::GET, "/v1/status", &[("x-request-id", "req-7")]).await;
    assert_eq!(sent.header("x-request-id"), "req-7");
    let (first, second) = (server.get("/health/live").await, server.get("/nothing").await);
    assert!(!first.header("x-request-id").is_empty());
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert_eq!(
        (first.header("x-content-type-options"), first.header("cache-control")),
        ("nosniff", "no-store")
    );
}

#[tokio::test]
async fn input_is_shown_back_short_and_harmless() {
    let server = Bench::start().await;
    let reply = server.get(&format!("/v1/events/{}", "%1b%5b31m".repeat(1000))).await;
    let problem = reply.problem(404, "not-found");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.len() < 500 && !detail.contains('\u{1b}'), "{detail}");
    server.get("/v1/events/%ff").await.problem(400, "malformed");
}

#[tokio::test]
async fn the_page_says_what_this_is_and_loads_nothing() {
    let reply = Bench::start().await.get("/").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(reply.text.contains("Crossdock") && !reply.text.contains("<script"));
    assert!(reply.header("content-security-policy").contains("default-src 'none'"));
    assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"));
}
