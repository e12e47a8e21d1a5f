//! Stores, brokers and topics.

use std::time::Duration;

use super::{
    super::{Look, servers::Carrier, servers::Store},
    errors::problems,
    load,
};

/// One flow, so that nothing else is to be said of the file.
const AROUND: &str = r#"
connections:
  crm: { connector: http, config: { base_url: "http://127.0.0.1" } }
flows:
  a: { from: { topic: orders }, to: { connection: crm, action: post, path: / } }
"#;

#[test]
fn nothing_else_is_said_is_embedded() {
    let loaded = load(AROUND).map_err(|problems| problems.render(Look::Ascii)).unwrap();
    assert!(matches!((loaded.store, loaded.broker), (Store::Embedded, Carrier::Embedded)));
}

#[test]
fn topics_may_say_what_they_are_like() {
    let text = "partitions: 6\nretention: 2d\ntopics: { orders: { partitions: 12, replication: 3, retention: 1h }, refunds: }\n";
    let text = format!(
        "store: postgres://hub@db/hub\nbroker: kafka://h1:9092\n{text}{AROUND}  b: {{ from: {{ topic: refunds }}, key: .id, to: {{ connection: crm, action: post, path: / }} }}\n"
    );
    let loaded = load(&text).map_err(|problems| problems.render(Look::Ascii)).unwrap();
    assert!(loaded.warnings.items.is_empty(), "{}", loaded.warnings.render(Look::Ascii));
    let [orders, refunds] = loaded.topics.as_slice() else { panic!("{:?}", loaded.topics) };
    assert_eq!(
        (orders.partitions, orders.replication, orders.retention),
        (Some(12), Some(3), Some(Duration::from_secs(3600)))
    );
    assert_eq!(
        (refunds.partitions, refunds.replication, refunds.retention),
        (Some(1), None, Some(Duration::from_secs(172_800)))
    );
    assert_eq!(refunds.single_for.as_ref().map(|flow| flow.as_str()), Some("b"));
}

macro_rules! shows {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
                insta::assert_snapshot!(stringify!($name), problems(&format!("{}{AROUND}", $text)));
            });
        })*
    };
}

shows! {
    options_of_servers_are_checked_by_their_adapters: r#"store: { url: postgres://hub@db/hub, poool: 3, call_timeout: soon }
broker:
  url: kafka://h1:9092
  liner.ms: 5
  acks: 1
  sasl: { mechanism: plain, username: hub, password: tellnobody }
"#;
    options_of_rabbitmq_are_checked_too: "store: postgres://hub@db\nbroker: { url: amqp://hub@mq/hub, prefetsh: 5, password: \"${env.TOKEN}\" }\n";
    a_broker_without_a_store_is_refused: "broker: kafka://h1:9092\n";
    unknown_stores_and_brokers_name_the_nearest: "store: postgress://hub@db/hub\nbroker: kafak://h1:9092\n";
    embedded_has_no_options: "store: { url: embedded, pool: 3 }\nbroker: { partitions: 4 }\n";
    passwords_of_servers_are_refused_and_never_shown:
        "store: postgres://hub:tellnobody@db/hub\nbroker: { url: \"amqp://hub:${env.TOKEN:tellnobody}@mq/hub\" }\n";
    a_password_in_the_address_of_an_option_is_refused_too:
        "store: postgres://hub@db/hub\nbroker: { url: amqp://mq, management: \"http://hub:tellnobody@mq:15672\" }\n";
    a_missing_password_is_told_with_its_place: "store: \"postgres://hub:${env.PG_PASSWORD}@db/hub\"\n";
    fields_of_the_embedded_store_are_warned_of_beside_another:
        "store: postgres://hub@db/hub\nbroker: amqp://mq/hub\ndata: x\nlimits: { data: 1GiB }\n";
    what_the_embedded_broker_does_not_do_is_a_warning:
        "replication: 3\ntopics: { orders: { replication: 3, retention: 1h, partitions: 2 } }\n";
    shapes_of_topics_are_checked: "partitions: 0\ntopics: { orders: { partitons: 3, replication: many, retention: 7 }, in.x: {}, \"a b\": {} }\n";
}

#[test]
fn a_topic_of_a_flow_with_its_own_key_has_one_partition() {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
        insta::assert_snapshot!(problems(r#"
topics: { orders: { partitions: 8 } }
connections:
  crm: { connector: http, config: { base_url: "http://127.0.0.1" } }
flows:
  by-customer: { from: { topic: orders }, key: .customer, to: { connection: crm, action: post, path: / } }
"#));
    });
}

/// What an adapter says when it is given an option that is like no other: all that it knows.
fn known_options(server: &str) -> Vec<String> {
    let told = problems(&format!("{server}{AROUND}"));
    let (_, known) = told.split_once("known are ").unwrap_or_else(|| panic!("no list of options: {told}"));
    let (known, _) = known.split_once("\n\n").unwrap_or((known, ""));
    let (known, _) = known.split_once(" and options of").unwrap_or((known, ""));
    known.split(',').map(|name| name.trim().to_owned()).collect()
}

#[test]
fn the_readme_names_every_option_of_a_server() {
    let readme = include_str!("../../../../../README.md");
    for (server, options) in [
        ("store: { url: postgres://hub@db/hub, xyzzy: 1 }\n", 9),
        ("store: postgres://hub@db/hub\nbroker: { url: kafka://h1, xyzzy: 1 }\n", 20),
        ("store: postgres://hub@db/hub\nbroker: { url: amqp://mq, xyzzy: 1 }\n", 16),
    ] {
        let known = known_options(server);
        assert!(known.len() >= options, "{server}: {known:?}");
        for option in known {
            assert!(readme.contains(&format!("`{option}`")), "{option}");
        }
    }
}

#[test]
fn options_may_be_nested_and_come_from_the_environment() {
    let text = r#"store: "postgres://hub:${env.TOKEN}@db/hub"
broker:
  url: kafka://h1:9092,h2
  partitions: 12
  tls: { ca: ca.pem }
  sasl: { mechanism: scram-sha-512, username: hub, password: "${env.TOKEN}" }
"#;
    let loaded = load(&format!("{text}{AROUND}")).map_err(|problems| problems.render(Look::Ascii)).unwrap();
    assert_eq!(
        (loaded.shown.store.as_str(), loaded.shown.broker.as_str()),
        ("postgres://db/hub", "kafka://h1:9092,h2")
    );
    let Carrier::Kafka(options) = loaded.broker else { panic!("it is Kafka") };
    assert_eq!(options.partitions, 12);
    assert!(!format!("{options:?}").contains("the-value-of"), "{options:?}");
}
