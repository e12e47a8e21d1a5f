//! Shop, CRM and warehouse, as a hub meets them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use crossdock_sim::{
    Answer, Behaviour, Crm, CrmOptions, LedgerOptions, Quirk, Rule, Shop, ShopOptions, Sink, SinkOptions,
    Warehouse, WarehouseOptions, github, shopify_signature, standard_signature,
};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

async fn crm() -> Crm {
    let ledger = LedgerOptions::default();
    Crm::start(CrmOptions { port: 0, token: "t0ken".to_owned(), ledger }).await.unwrap()
}

async fn put(crm: &Crm, contact: &str, sequence: u64) -> reqwest::Response {
    let request = reqwest::Client::new().put(format!("{}/contacts/{contact}", crm.url()));
    request.bearer_auth("t0ken").json(&json!({ "sequence": sequence, "email": null })).send().await.unwrap()
}

#[tokio::test]
async fn a_crm_without_its_token_says_401() {
    let crm = crm().await;
    let answer =
        reqwest::Client::new().put(format!("{}/contacts/7", crm.url())).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(crm.ledger().counts().accepted, 0);
}

#[tokio::test]
async fn a_crm_throttles_for_so_many_requests_and_is_well_again() {
    let crm = crm().await;
    let lasting = crossdock_sim::Lasting::Requests(2);
    crm.behave(Behaviour::Throttle { retry_after: Duration::from_millis(2500), lasting });
    for _ in 0..2 {
        let answer = put(&crm, "7", 1).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (429, &"3".parse().unwrap())
        );
    }
    assert_eq!(put(&crm, "7", 1).await.status(), 200);
}

#[tokio::test]
async fn a_crm_refuses_with_a_code_and_is_down_until_told() {
    let crm = crm().await;
    crm.behave(Behaviour::reject("EMAIL_MISSING", "a contact needs an email", |body| {
        body["email"].is_null()
    }));
    let answer = put(&crm, "7", 1).await;
    assert_eq!(answer.status(), 422);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "EMAIL_MISSING");

    crm.behave(Behaviour::Outage(crossdock_sim::Lasting::UntilTold));
    assert_eq!(put(&crm, "7", 1).await.status(), 503);
    crm.behave(Behaviour::Ok);
    assert_eq!(put(&crm, "7", 1).await.status(), 200);
}

#[tokio::test]
async fn a_crm_knows_what_came_late_and_what_came_twice() {
    let crm = crm().await;
    for (contact, sequence) in [("7", 1), ("8", 1), ("7", 3), ("7", 2), ("8", 1)] {
        put(&crm, contact, sequence).await;
    }
    let tally = crm.ledger().tally();
    assert_eq!((tally.accepted, tally.keys, tally.out_of_order, tally.twice), (5, 2, 1, 1));
}

#[tokio::test]
async fn a_shop_signs_what_it_sends_and_keeps_the_order_of_each_customer() {
    let pointer = |p: &str| Some(crossdock_sim::Place::Pointer(p.to_owned()));
    let places = LedgerOptions {
        key: pointer("/customer/id"),
        seq: pointer("/customer/sequence"),
        bodies: true,
        ..LedgerOptions::default()
    };
    let sink = Sink::start(SinkOptions { ledger: places, ..SinkOptions::default() }).await.unwrap();
    let shop = Shop::start(ShopOptions::new(format!("{}/in", sink.url()), "s3cret"));
    let sent = shop.send(40).await;
    assert!(sent.iter().all(|sent| sent.accepted() && sent.tries == 1));

    let entries = sink.ledger().entries();
    for (entry, sent) in entries.iter().zip(&sent) {
        let header = |name: &str| entry.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(header("x-shopify-topic"), Some(sent.topic));
        assert_eq!(header("x-shopify-webhook-id"), Some(sent.id.as_str()));
        assert_eq!((entry.key.as_deref(), entry.seq), (Some(sent.key.as_str()), Some(sent.seq)));
    }
    let tally = sink.ledger().tally();
    assert_eq!((tally.accepted, tally.out_of_order, tally.twice), (40, 0, 0));
    shop.stop().await;
    sink.stop().await;
}

#[tokio::test]
async fn a_shop_tries_again_and_resends_with_the_same_id() {
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    sink.script().push(Rule::any().times(2), Answer::status(503));
    let retries = vec![Duration::ZERO; 2];
    let shop = Shop::start(ShopOptions { retries, ..ShopOptions::new(sink.url(), "s3cret") });
    let first = shop.send_odd(Quirk::NoEmail).await;
    assert_eq!((first.status, first.tries), (Some(200), 3));

    let again = shop.resend_last().await.unwrap();
    assert!(again.again && again.id == first.id);
    assert_eq!(shop.find(&first.id), Some(again), "the last time that it was sent");
    assert_eq!(shop.find("another"), None);
    let hashes: Vec<_> = sink.ledger().entries().into_iter().map(|entry| entry.body_sha256).collect();
    assert!(hashes.len() == 4 && hashes.iter().all(|hash| *hash == hashes[0]));
}

#[tokio::test]
async fn a_shop_gives_a_webhook_up_after_its_last_retry() {
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    sink.script().push(Rule::any().times(1), Answer::cut());
    sink.script().push(Rule::any().times(1), Answer::status(500));
    let retries = vec![Duration::ZERO];
    let shop = Shop::start(ShopOptions { retries, ..ShopOptions::new(sink.url(), "s3cret") });
    let sent = shop.send(2).await;
    assert_eq!((sent[0].status, sent[0].tries), (Some(500), 2));
    assert!(sent[1].accepted());
}

#[tokio::test]
async fn a_shop_at_its_pace_pauses_and_goes_on() {
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    let shop = Shop::start(ShopOptions { rate: Some(500.0), ..ShopOptions::new(sink.url(), "s3cret") });
    shop.wait_for_accepted(3, 5 * SECOND).await.unwrap();
    shop.pause();
    let before = shop.accepted();
    shop.resume();
    shop.wait_for_accepted(before + 3, 5 * SECOND).await.unwrap();
}

#[tokio::test]
async fn a_warehouse_takes_what_is_signed_and_on_its_shelves() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let options = WarehouseOptions { port: 0, secret: secret.to_owned(), ledger: LedgerOptions::default() };
    let warehouse = Warehouse::start(options).await.unwrap();
    let pick = |sku: &str, sent: i64, secret: &str| {
        let body =
            json!({ "customer": 7, "sequence": 1, "lines": [{ "sku": sku, "quantity": 1 }] }).to_string();
        let sent = sent.to_string();
        let signature = standard_signature(secret, "msg_1", &sent, body.as_bytes()).unwrap();
        let request = reqwest::Client::new().post(format!("{}/picks", warehouse.url()));
        let request = request.header("webhook-id", "msg_1").header("webhook-timestamp", sent);
        let sending = request.header("webhook-signature", format!("v1,AAAA {signature}")).body(body).send();
        async { sending.await.unwrap().status().as_u16() }
    };
    let now = jiff::Timestamp::now().as_second();
    assert_eq!(pick("MUG-BLUE", now, secret).await, 202);
    assert_eq!(pick("MUG-BLUE", now, "whsec_AAAA").await, 401);
    assert_eq!(pick("MUG-BLUE", now - 3600, secret).await, 401);
    assert_eq!(pick("LAMP", now, secret).await, 422);
    warehouse.learn("LAMP");
    assert_eq!(pick("LAMP", now, secret).await, 202);
    assert_eq!(warehouse.ledger().entries()[0].key.as_deref(), Some("7"));
}

#[tokio::test]
async fn github_delivers_the_payload_untouched() {
    let ledger = LedgerOptions { bodies: true, ..LedgerOptions::default() };
    let sink = Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.unwrap();
    let payload = bytes::Bytes::from_static(b"{ \"action\":\n\"opened\" }");
    let delivery =
        github::Delivery { event: "issues".to_owned(), id: "g-1".to_owned(), payload: payload.clone() };
    let posted = github::deliver(&format!("{}/gh", sink.url()), "s", &delivery).await.unwrap();
    assert_eq!(posted.status, 200);
    let entry = &sink.ledger().entries()[0];
    assert_eq!(entry.body.as_deref().map(str::as_bytes), Some(&payload[..]));
    assert!(entry.headers.contains(&("x-github-delivery".to_owned(), "g-1".to_owned())));
    assert!(!entry.headers.iter().any(|(name, _)| name.contains("signature")));
    // Both schemes hash the same bytes.
    assert_ne!(shopify_signature("s", &payload), "");
}
