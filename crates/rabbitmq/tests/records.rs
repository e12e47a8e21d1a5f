//! What travels on the wire: CloudEvents that others can read, and messages of others that we can read. Needs a real RabbitMQ.

mod house;

use std::{path::Path, process::Stdio, time::Duration};

use crossdock_core::{Delivery, Event};
use house::{House, Reader, event, publish};
use lapin::{BasicProperties, options::BasicPublishOptions};
use tokio::{process::Command, time::timeout};

/// Another client library, in another language, reads our messages, and its messages come to us as they were meant.
#[tokio::test(flavor = "multi_thread")]
async fn amqplib_reads_our_events_and_we_read_its() {
    let house = House::shared();
    let groups: [(&str, &[&str]); 2] = [("theirs", &["orders"]), ("ours", &["answers"])];
    let wanted = house.wanted(&[("orders", 1), ("answers", 1)], &groups);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "ours", &["answers"]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sent = Event {
        subject: Some("order 7".to_owned()),
        time: Some("2026-01-02T03:04:05.678Z".parse().expect("a time")),
        schema: Some("/schemas/order".to_owned()),
        extensions: vec![
            ("traceparent".to_owned(), trace.to_owned()),
            ("tenant".to_owned(), "nörd".to_owned()),
        ],
        ..event("käy", 42)
    };
    publish(&worker.rabbit, "orders", vec![sent.clone()]).await;
    let printed = node(&house.url, &house.queue("theirs", "orders", 0), &house.exchange("answers")).await;
    let mut read: serde_json::Value =
        serde_json::from_str(&printed).unwrap_or_else(|_| panic!("it printed {printed:?}"));
    let headers = read["properties"]["headers"].as_object_mut().expect("headers");
    for ours in ["x-crossdock-offset", "x-crossdock-sequence"] {
        assert!(headers.remove(ours).is_some(), "`{ours}` travels along");
    }
    let expected = serde_json::json!({
        "key": "0",
        "content": "{\"number\":42}",
        "properties": {
            "contentType": "application/json",
            "deliveryMode": 2,
            "messageId": "käy-42",
            "type": "order.placed",
            "timestamp": 1_767_323_045,
            "headers": {
                "cloudEvents:specversion": "1.0",
                "cloudEvents:id": "käy-42",
                "cloudEvents:source": "/test",
                "cloudEvents:type": "order.placed",
                "cloudEvents:time": "2026-01-02T03:04:05.678Z",
                "cloudEvents:subject": "order 7",
                "cloudEvents:dataschema": "/schemas/order",
                "cloudEvents:partitionkey": "käy",
                "cloudEvents:traceparent": trace,
                "traceparent": trace,
                "cloudEvents:tenant": "nörd",
                // Headers are a table without an order; these were given in another one than by name.
                "x-crossdock-extensions": ["traceparent", "tenant"],
            },
        },
    });
    assert_eq!(read, expected);
    // The script has sent the message back as it came.
    let back = reader.take(1).await.remove(0);
    assert_eq!(back.event.as_ref(), &sent);
}

/// Runs `tests/amqplib.mjs`; what it printed.
async fn node(url: &str, queue: &str, exchange: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = folder.join("../../target/npm/node_modules/amqplib");
    assert!(modules.exists(), "amqplib is not installed; type this: deploy/dev/oracles");
    let mut command = Command::new("node");
    command.arg(folder.join("tests/amqplib.mjs")).arg(modules).args([url, queue, exchange]);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(30), output).await.expect("it ends").expect("node is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "it failed: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whatever somebody publishes into our exchange comes once and keeps its position in every redelivery.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_others_become_events_with_a_position_that_stays() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let connection = house.stranger().await;
    let channel = connection.create_channel().await.expect("a channel");
    let plain = BasicProperties::default();
    let messages = [
        (plain.clone(), "one"),
        (plain.clone(), "two"),
        (plain.clone(), "two"),
        (plain.with_message_id("m-1".into()).with_type("invoice".into()), "three"),
    ];
    for (properties, data) in messages {
        let (exchange, options) = (house.exchange("orders").into(), BasicPublishOptions::default());
        let published =
            channel.basic_publish(exchange, "0".into(), options, data.as_bytes(), properties).await;
        published.expect("it is sent");
    }
    let first = reader.take(4).await;
    let data: Vec<_> = first.iter().map(|delivery| delivery.event.data.as_ref()).collect();
    assert_eq!(data, [b"one".as_slice(), b"two", b"two", b"three"]);
    let named = &first[3].event;
    assert_eq!((named.id.as_str(), named.kind.as_str()), ("m-1", "invoice"));
    assert_eq!(named.source, format!("amqp:///{}", house.exchange("orders")));
    let positions: Vec<_> = first.iter().map(|delivery| delivery.position.clone()).collect();
    drop((first, reader));
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let again = reader.take(4).await;
    let stay: Vec<_> = again.iter().map(|delivery| delivery.position.clone()).collect();
    assert_eq!(stay, positions);
    again.into_iter().for_each(Delivery::complete);
}
