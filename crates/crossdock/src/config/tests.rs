use std::{path::Path, time::Duration};

use crossdock_core::{Jitter, Schedule};
use crossdock_engine::Order;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::{
    Look, fake,
    load::{Loaded, load_text},
    problem::Problems,
};

mod errors;
mod servers;

/// The configuration of the tutorial, as it stands there.
const EXAMPLE: &str = include_str!("tests/tutorial.yaml");

fn environment(name: &str) -> Option<String> {
    match name {
        "GITHUB_WEBHOOK_SECRET" | "TRACKER_SECRET" | "TOKEN" => Some(format!("the-value-of-{name}")),
        "WORDS" => Some("several-hidden-words".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Result<Loaded, Problems> {
    load_text(Path::new("conf/crossdock.yaml"), text, &environment, &fake::connectors())
}

#[test]
fn the_example_loads() {
    let loaded = load(EXAMPLE).map_err(|problems| problems.render(Look::Ascii)).unwrap();
    assert_eq!(loaded.data, Path::new("conf/./data"));
    assert_eq!(loaded.listen.to_string(), "127.0.0.1:8080");
    assert!(loaded.token.is_none() && loaded.warnings.items.is_empty());
    let names: Vec<_> = loaded.plan.connections.iter().map(|connection| connection.name.as_str()).collect();
    assert_eq!(names, ["github", "tracker"]);
    let flow = &loaded.plan.flows[0];
    assert_eq!((flow.name.as_str(), flow.topics[0].as_str()), ("opened-issues", "in.github"));
    assert_eq!((flow.connection.as_str(), flow.action.as_str()), ("tracker", "post"));
    assert_eq!(flow.filter.as_ref().unwrap().source(), "$event.type == \"github.issues.opened\"");
    assert_eq!(flow.retry.schedule, Schedule::List([200, 1000, 5000].map(Duration::from_millis).to_vec()));
    assert_eq!(
        (flow.retry.jitter, flow.retry.max_age),
        (Jitter::Ratio(0.2), Some(Duration::from_secs(3600)))
    );
    assert_eq!(flow.order, Order::Key);
    assert!(flow.map.is_some() && loaded.plan.flows[1].map.is_none());
    assert!(loaded.plan.topics.is_empty(), "what comes in through a connection takes nothing over the API");
}

#[test]
fn the_example_loads_with_the_connectors_of_the_program() {
    let whsec = |name: &str| environment(name).map(|_| "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
    let loaded = load_text(Path::new("crossdock.yaml"), EXAMPLE, &whsec, &crate::connectors::connectors())
        .map_err(|problems| problems.render(Look::Ascii))
        .unwrap();
    assert!(loaded.warnings.items.is_empty(), "{}", loaded.warnings.render(Look::Ascii));
    let connectors: Vec<_> =
        loaded.plan.connections.iter().map(|connection| connection.connector.as_str()).collect();
    assert_eq!(connectors, ["github", "http"]);
    assert!(loaded.plan.connections[0].connection.webhook().is_some());
    assert!(loaded.plan.connections[1].connection.action("post").is_some());
}

#[test]
fn every_further_key_loads() {
    let loaded = load(
        r#"
listen: "0.0.0.0:${env.PORT:8081}"
data: /var/lib/crossdock
token: "${env.TOKEN}"
allowed_hosts: [hub.example.com, "hub.internal:8443"]
topics: [orders, refunds]
limits: { body: 2MiB, data: 10GiB, rate: 1000/s }
partitions: 8
retention: 7d
dedupe_window: 24h
dead_letter_retention: 90d
connections:
  crm:
    connector: http
    concurrency: 4
    circuit: { failures: 5, over: 1s, pause: 2s, pause_max: 1m }
    config:
      base_url: https://crm.example.com
      timeout: 5s
      headers: { X-From: "hub ${env.WORDS}" }
      secret_headers: { Authorization: "Bearer ${env.TOKEN}" }
      style: structured
      gzip: true
      redirects: 0
      success: ["200", 201]
  slow: { connector: http, circuit: off, config: { base_url: "http://${env.HOST:localhost}" } }
flows:
  one:
    from: { topics: [orders, invoices] }
    key: .customer.id | tostring
    map: |
      { id: .id,
        lines: [.lines[].sku] }
    to: { connection: crm, action: request, method: PUT, path: "/orders/${.id}" }
    order: none
    retry: { schedule: { exponential: { initial: 500ms, factor: 1.5, max: 1m } }, jitter: full, max_attempts: 9, retry_after_max: 5m }
  two:
    from: { topic: orders }
    map: [{ n: 1, yes: true, none: null, text: "1" }, .id, "${.id}"]
    to: { connection: slow, action: post, path: /, query: { id: "${.id}" } }
    retry: { schedule: immediate }
  three: { from: { topic: orders }, to: { connection: slow, action: post, path: / }, retry: { schedule: { fixed: 5s } } }
"#,
    )
    .map_err(|problems| problems.render(Look::Ascii))
    .unwrap();
    assert_eq!(loaded.listen.to_string(), "0.0.0.0:8081");
    assert_eq!(loaded.data, Path::new("/var/lib/crossdock"));
    assert_eq!(loaded.token.unwrap().expose_secret(), "the-value-of-TOKEN");
    assert_eq!((loaded.limits.body_bytes_max, loaded.limits.rate), (2 << 20, Some(1000.0)));
    assert_eq!(loaded.limits.data_bytes_max, Some(10 << 30));
    let day = Duration::from_secs(86_400);
    assert_eq!((loaded.dedupe_window, loaded.dead_letter_retention), (Some(day), Some(90 * day)));
    let shape = loaded.shape;
    assert_eq!((shape.partitions, shape.retention), (Some(8), Some(Duration::from_secs(7 * 86_400))));
    let partitions: Vec<_> =
        loaded.topics.iter().map(|topic| (topic.topic.as_str(), topic.partitions.unwrap())).collect();
    assert_eq!(partitions, [("invoices", 8), ("orders", 8), ("refunds", 8)]);
    let topics: Vec<_> = loaded.plan.topics.iter().map(|topic| topic.as_str()).collect();
    assert_eq!(topics, ["orders", "refunds", "invoices"]);
    let connections = &loaded.plan.connections;
    assert_eq!((connections[0].concurrency, connections[0].circuit.unwrap().failures), (4, 5));
    assert!(connections[1].circuit.is_none());
    let retry = &loaded.plan.flows[0].retry;
    assert_eq!((retry.jitter, retry.max_attempts), (Jitter::Full, Some(9)));
    assert_eq!(loaded.plan.flows[1].retry.schedule, Schedule::Immediate);
    assert_eq!(loaded.plan.flows[2].retry.schedule, Schedule::Fixed(Duration::from_secs(5)));
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "(\\PC|\n){0,120}") {
        let _ = load(&text).map_err(|problems| (problems.render(Look::Colour), problems.json()));
    }

    #[test]
    fn no_mutilation_of_the_example_makes_the_loader_panic(
        start in 0..EXAMPLE.len(), length in 0usize..40, other in "[-a-z:{}\\[\\]$\"'|>#&*!.\n\t é]{0,12}",
    ) {
        let start = EXAMPLE.floor_char_boundary(start);
        let end = EXAMPLE.floor_char_boundary((start + length).min(EXAMPLE.len())).max(start);
        let text = format!("{}{other}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
        let told = match load(&text) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems,
        };
        let shown = told.render(Look::Lines) + &told.json().to_string();
        prop_assert!(!shown.contains("the-value-of"), "{}", shown);
    }
}
