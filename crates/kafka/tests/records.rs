//! What travels on the wire: CloudEvents that others can read, and records of others that we can read. Needs a real Kafka.

mod house;

use std::{path::Path, process::Stdio, time::Duration};

use crossdock_core::{Broker, Event, Published};
use house::{House, batch, event, flow, publish, take, topic};
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// Where Java's clients put keys: `Utils.murmur2` of Kafka, whose own test has these hashes.
#[tokio::test(flavor = "multi_thread")]
async fn keys_land_where_javas_clients_put_them() {
    let hashes: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let house = House::shared();
    let kafka = house.open(&["orders"], 7).await;
    for (key, hash) in hashes {
        let answers = kafka.publish(&topic("orders"), vec![event("1", key)]).await;
        let [Ok(Published::New(Some(position)))] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!(position.partition, (hash & 0x7fff_ffff) as u32 % 7, "the partition of {key}");
    }
    kafka.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_others_become_events_and_nothing_sticks() {
    let house = House::shared();
    let kafka = house.open(&["orders"], 1).await;
    let mut subscription = kafka.subscribe(&flow("billing"), &[topic("orders")]).await.expect("it is joined");
    let producer: BaseProducer = house.client().create().expect("a client can be made");
    let name = house.name("orders");
    let text = |name: &'static str, value: &'static [u8]| Header { key: name, value: Some(value) };
    let all = |headers: Vec<Header<'static, &'static [u8]>>| {
        headers.into_iter().fold(OwnedHeaders::new(), |all, header| all.insert(header))
    };
    type Bytes = Option<&'static [u8]>;
    let records: Vec<(Bytes, Bytes, OwnedHeaders)> = vec![
        (None, Some(b"{}"), OwnedHeaders::new()),
        (Some(b"k"), None, all(vec![text("content-type", b"text/plain"), text("traceparent", b"00-a-b-01")])),
        (Some(b"\xff\xfe"), Some(b"\xff"), all(vec![text("ce_id", b"\xff")])),
        (
            Some(b"k"),
            Some(b"x"),
            all(vec![
                text("ce_id", b"1"),
                text("ce_source", b"/s"),
                text("ce_type", b"t"),
                text("ce_time", b"yesterday"),
            ]),
        ),
        (Some(b"k"), Some(b"x"), all(vec![text("ce_id", b"1"), Header { key: "ce_source", value: None }])),
        (
            Some(b"k"),
            Some(b"x"),
            all(vec![
                text("ce_id", b"1"),
                text("ce_source", b"/s"),
                text("ce_type", b"t"),
                text("ce_tenant", b"a"),
            ]),
        ),
    ];
    for (key, payload, headers) in records {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&name).headers(headers);
        record.key = key;
        record.payload = payload;
        producer.send(record).map_err(|(error, _)| error).expect("it is queued");
    }
    producer.flush(Duration::from_secs(10)).expect("they are written");
    let came = take(&mut subscription, 6).await;
    let came: Vec<&Event> = came.iter().map(|delivery| delivery.event.as_ref()).collect();
    for (offset, event) in came.iter().enumerate().take(5) {
        assert_eq!((event.id.clone(), event.kind.as_str()), (format!("orders/0/{offset}"), "kafka.record"));
        assert_eq!(event.source, "kafka:///orders");
        assert!(event.time.is_some() && event.validate().is_ok(), "{event:?}");
    }
    assert_eq!((came[0].key.as_deref(), came[0].data.as_ref()), (None, b"{}".as_slice()));
    assert_eq!((came[1].content_type.as_deref(), came[1].data.len()), (Some("text/plain"), 0));
    assert_eq!(came[1].extensions, [("traceparent".to_owned(), "00-a-b-01".to_owned())]);
    assert_eq!((came[2].key.as_deref(), came[2].data.as_ref()), (Some("__4"), b"\xff".as_slice()));
    assert_eq!((came[5].id.as_str(), came[5].kind.as_str(), came[5].key.as_deref()), ("1", "t", Some("k")));
    assert_eq!(came[5].extensions, [("tenant".to_owned(), "a".to_owned())]);
    drop(subscription);
    kafka.close(Duration::from_secs(5)).await;
}

/// Another client library, in another language, reads our records, and its records come to us as they were meant.
#[tokio::test(flavor = "multi_thread")]
async fn kafkajs_reads_our_events_and_we_read_its() {
    let house = House::shared();
    let kafka = house.open(&["orders", "answers"], 1).await;
    let mut subscription =
        kafka.subscribe(&flow("billing"), &[topic("answers")]).await.expect("it is joined");
    let sent = Event {
        subject: Some("order 7".to_owned()),
        time: Some("2026-01-02T03:04:05.678Z".parse().expect("a time")),
        schema: Some("/schemas/order".to_owned()),
        extensions: vec![
            ("traceparent".to_owned(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            ("tenant".to_owned(), "nörd".to_owned()),
        ],
        ..event("42", "käy")
    };
    publish(&kafka, "orders", vec![sent.clone()]).await;
    let node = node(&house.servers, &house.name("orders"), &house.name("answers")).await;
    let read: serde_json::Value =
        serde_json::from_str(&node).unwrap_or_else(|_| panic!("it printed {node:?}"));
    let expected = serde_json::json!({
        "key": "käy",
        "value": "{\"id\":\"42\"}",
        "headers": {
            "ce_specversion": "1.0",
            "ce_id": "42",
            "ce_source": "/test",
            "ce_type": "order.placed",
            "ce_time": "2026-01-02T03:04:05.678Z",
            "ce_subject": "order 7",
            "ce_dataschema": "/schemas/order",
            "content-type": "application/json",
            "ce_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ce_tenant": "nörd",
        },
    });
    assert_eq!(read, expected);
    // The script has sent the record back as it came.
    let back = batch(&mut subscription).await.deliveries.remove(0);
    assert_eq!(back.event.as_ref(), &sent);
    drop(subscription);
    kafka.close(Duration::from_secs(5)).await;
}

/// Runs `tests/kafkajs.mjs`; what it printed.
async fn node(servers: &str, from: &str, to: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = folder.join("../../target/npm/node_modules/kafkajs");
    assert!(modules.exists(), "kafkajs is not installed; type this: deploy/dev/oracles");
    let mut command = Command::new("node");
    command.arg(folder.join("tests/kafkajs.mjs")).arg(modules).args([servers, from, to]);
    let mut child =
        command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("node is installed, as make says");
    let mut printed = String::new();
    let output = child.stdout.as_mut().expect("it is piped").read_to_string(&mut printed);
    timeout(house::SOON, output).await.expect("it ends").expect("it can be read");
    printed
}
