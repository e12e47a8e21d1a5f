//! What an evaluation costs, in µs per event, over an order of about 1 KB:
//! `cargo run --release -p crossdock-expr --example speed`.
//!
//! Each event is a fresh document, so reading its text is included, as in a delivery.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use crossdock_expr::{Document, Program, Scope, Tree};

const EVENTS: u32 = 20_000;
const ROUNDS: u32 = 5;

const ATTRIBUTES: &[u8] = br#"{"id":"018f2c6e-7a40-7c3b-9d2e-5b1f6a7c8d90","source":"/shops/berlin/orders",
"type":"order.created","subject":"order/1042","time":"2026-11-23T08:15:30.123Z","key":"customer-77"}"#;

const JQ: &str = r#"{
  id: .id, email: (.customer.email | ascii_downcase), total: ([.items[] | .quantity * .price] | add),
  lines: [.items[] | {sku, quantity, label: "\(.quantity) x \(.name)"}],
  ship_to: (.shipping | "\(.street), \(.zip) \(.city)")
}"#;

fn main() {
    let order = order();
    println!("an order of {} bytes", order.len());
    let scope = Scope::new(&["event"]);
    let program = |source| Program::compile(source, &scope).expect("the example is correct");
    let path = program(".customer.email");
    measure("native path", &order, |data, event| drop(path.text(data, &[("event", event)])));
    let attribute = program(r#"$event.type == "order.created""#);
    measure("native comparison, attribute", &order, |data, event| {
        drop(black_box(attribute.test(data, &[("event", event)])));
    });
    let both = program(r#"$event.type == "order.created" and .payment.status != "refused""#);
    measure("native comparison, and data", &order, |data, event| {
        drop(black_box(both.test(data, &[("event", event)])));
    });
    let jq = program(JQ);
    measure("jq program", &order, |data, event| drop(jq.jsons(data, &[("event", event)])));
    let tree = tree(&scope);
    measure("map with 5 leaves", &order, |data, event| {
        let mut out = Vec::with_capacity(512);
        tree.json(data, &[("event", event)], &mut out).expect("the order has it all");
        black_box(out);
    });
}

/// Print the best of some rounds.
fn measure(name: &str, order: &Bytes, evaluate: impl Fn(&Document, &Document)) {
    let round = || {
        let start = Instant::now();
        for _ in 0..EVENTS {
            let event = Document::lazy(|| Bytes::from_static(ATTRIBUTES));
            evaluate(black_box(&Document::new(order.clone())), &event);
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(EVENTS)
    };
    let best = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
    println!("{name:<30}{best:>8.2} µs/event");
}

fn tree(scope: &Scope) -> Tree {
    let map = serde_json::json!({
        "orderId": "${ .id }",
        "contact": { "mail": "${ .customer.email }", "name": "${ .customer.first_name } ${ .customer.last_name }" },
        "city": "${ .shipping.city }",
        "kind": "${ $event.type }",
    });
    Tree::compile(&map, scope).expect("the example is correct")
}

fn order() -> Bytes {
    let item = |number: u32| {
        serde_json::json!({
            "sku": format!("SKU-{number:05}"), "name": "Café crème, 250 g", "quantity": number, "price": 12.95,
            "tax_rate": 0.07, "gift": false, "options": { "grind": "whole bean", "size": "M" },
        })
    };
    let order = serde_json::json!({
        "id": 1042, "created_at": "2026-11-23T08:15:30Z", "currency": "EUR",
        "customer": { "id": 77, "email": "Ada.Lovelace@Example.com", "first_name": "Ada", "last_name": "Lovelace" },
        "shipping": { "street": "Hauptstr. 5", "zip": "10115", "city": "Berlin", "country": "DE" },
        "payment": { "method": "card", "status": "paid", "amount": 129.5 },
        "items": (1..=4).map(item).collect::<Vec<_>>(),
        "tags": ["web", "first-order"], "note": null,
    });
    Bytes::from(order.to_string())
}
