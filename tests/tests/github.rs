//! Every payload that GitHub's own SDK publishes, through the real binary and out again.

use std::{collections::HashSet, time::Duration};

use crossdock_sim::{
    LedgerOptions, Sink, SinkOptions,
    github::{Delivery, deliver},
};
use crossdock_tests::{Setup, workspace};
use serde_json::Value;
use tokio::task::JoinSet;

const SECRET: &str = "It's a Secret to Everybody";
const PATIENCE: Duration = Duration::from_secs(60);

/// The examples of github.com in npm's `@octokit/webhooks-examples`, with the names of their events.
fn examples() -> Vec<(String, String)> {
    let file = "target/npm/node_modules/@octokit/webhooks-examples/api.github.com/index.json";
    let text =
        std::fs::read_to_string(workspace().join(file)).expect("deploy/dev/oracles has installed them");
    let events: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let of_event = |event: &Value| {
        let name = event["name"].as_str().expect("an event has a name").to_owned();
        let examples = event["examples"].as_array().expect("an event has examples").clone();
        examples.into_iter().map(move |example| (name.clone(), example.to_string()))
    };
    events.iter().flat_map(of_event).collect()
}

async fn sink() -> Sink {
    let ledger = LedgerOptions { bodies: true, ..LedgerOptions::default() };
    Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts")
}

fn config(sink: &Sink) -> String {
    format!(
        "data: ./data
listen: 127.0.0.1:0
connections:
  github:
    connector: github
    config: {{ secret: \"${{env.GITHUB_WEBHOOK_SECRET}}\" }}
  tracker:
    connector: http
    config: {{ base_url: {url} }}
flows:
  opened-issues:
    from: {{ connection: github }}
    filter: $event.type == \"github.issues.opened\"
    map:
      repo: \"${{.repository.full_name}}\"
      number: \"${{.issue.number}}\"
      title: \"#${{.issue.number}}: ${{.issue.title}}\"
    to: {{ connection: tracker, action: post, path: \"/issues/${{.repository.name}}\" }}
  everything:
    from: {{ connection: github }}
    to: {{ connection: tracker, action: post, path: /all }}
",
        url = sink.url()
    )
}

#[tokio::test]
async fn every_published_payload_arrives_byte_for_byte_and_a_second_delivery_is_swallowed() {
    let examples = examples();
    assert_eq!(examples.len(), 329, "the examples of version 7.6.1");
    let sink = sink().await;
    let setup = Setup::new(&config(&sink)).expect("a folder").variable("GITHUB_WEBHOOK_SECRET", SECRET);
    let hub = setup.start().await.expect("the hub starts");
    let url = format!("{}/in/github", hub.url);
    for round in ["first", "again"] {
        let mut posts = JoinSet::new();
        for (n, (event, payload)) in examples.iter().enumerate() {
            let payload = payload.clone().into();
            let delivery = Delivery { event: event.clone(), id: format!("delivery-{n}"), payload };
            let url = url.clone();
            posts.spawn(async move { (deliver(&url, SECRET, &delivery).await, delivery) });
        }
        for (posted, Delivery { event, id, .. }) in posts.join_all().await {
            assert_eq!(posted.expect("the hub answers").status, 202, "{event}, {id}, {round}");
        }
    }
    let opened =
        |(event, payload): &&(String, String)| event == "issues" && payload.contains("\"action\":\"opened\"");
    let opened = examples.iter().filter(opened).count();
    assert!(opened > 0, "there are opened issues among the examples");
    let expected = (examples.len() + opened) as u64;
    sink.ledger().wait_for_accepted(expected, PATIENCE).await.expect("all arrive");
    let drained = |status: &Value| status["held"] == 0 && status["pending"] == 0 && status["dead"] == 0;
    hub.wait_until("/v1/status", drained).await.expect("nothing is left");

    let entries = sink.ledger().entries();
    assert_eq!(entries.len() as u64, expected, "nothing arrives twice");
    let ids: HashSet<_> = entries.iter().map(|entry| entry.webhook_id.clone()).collect();
    assert_eq!(ids.len(), entries.len(), "each delivery has its own id");
    let (mut all, mut issues) = (Vec::new(), Vec::new());
    for entry in &entries {
        let body = entry.body.clone().expect("bodies are kept");
        if entry.path == "/all" { all.push(body) } else { issues.push((entry.path.clone(), body)) }
    }
    let mut sent: Vec<_> = examples.into_iter().map(|(_, payload)| payload).collect();
    sent.sort();
    all.sort();
    assert!(sent == all, "every payload arrives byte for byte");
    let title =
        r##"{"repo":"Codertocat/Hello-World","number":1,"title":"#1: Spelling error in the README file"}"##;
    assert_eq!(issues, vec![("/issues/Hello-World".to_owned(), title.to_owned()); opened]);
}
