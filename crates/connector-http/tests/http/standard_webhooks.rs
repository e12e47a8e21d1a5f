//! What we sign, the published package of Standard Webhooks believes.

use crate::{
    common::{LOOPBACK, Server, action, call, item, secret},
    oracle,
};
use serde_json::{Map, Value, json};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_Q2FuYXJ5T25lQ2FuYXJ5T25lQ2FuYXJ5T25l";

#[tokio::test]
async fn every_signed_call_is_believed_by_receivers_with_either_secret() {
    let server = Server::answering("200 OK").await;
    let bodies =
        ["{}", r#"{"test": 2432232314}"#, "", "{\"ü\":\"€😀\"}\n", "no JSON at all", &"x".repeat(300_000)];
    let secrets = format!("{NEW} {OLD}");
    for verb in ["post", "put", "patch", "delete", "get"] {
        let action = action(verb, &server.url, vec![("signing_secret", secret(&secrets))], LOOPBACK).unwrap();
        for body in bodies {
            assert_eq!(call(&action, item(body)).await.result, Ok(()));
        }
    }
    let mut verify = Vec::new();
    for request in server.requests() {
        let headers: Map<String, Value> =
            request.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let body = String::from_utf8(request.body).unwrap();
        for secret in [OLD, NEW, "whsec_b3RoZXJPbmVvdGhlck9uZW90aGVyT25l"] {
            verify.push(json!({ "secret": secret, "headers": headers, "body": body }));
        }
    }
    assert_eq!(verify.len(), 5 * bodies.len() * 3);
    let answer = oracle::ask("standard-webhooks.mjs", &json!({ "sign": [], "verify": verify }));
    for (n, verdict) in answer["verdicts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(verdict, &Value::from(n % 3 != 2), "call {}, secret {}", n / 3, n % 3);
    }
}
