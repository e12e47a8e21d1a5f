//! Every payload that GitHub's own SDK publishes, through the real binary and out again.

use std::{collections::HashSet, time::Duration};

use crossdock_sim::{
    Answer, Entry, LedgerOptions, Rule, Sink, SinkOptions,
    github::{Delivery, deliver},
    standard_signature,
};
use crossdock_tests::{Setup, TRACKER_SECRET, workspace};
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
    let ledger = LedgerOptions { bodies: true, every_header: true, ..LedgerOptions::default() };
    Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts")
}

/// The file of the tutorial as it stands, but for the two ports, which others on this machine may have.
fn config(sink: &Sink) -> String {
    let file = workspace().join("crates/crossdock/src/config/tests/tutorial.yaml");
    let mut text = std::fs::read_to_string(file).expect("the tutorial has a file");
    for (port, here) in [
        ("listen: 127.0.0.1:8080\n", "listen: 127.0.0.1:0\n"),
        ("http://127.0.0.1:9001\n", &format!("{}\n", sink.url())),
    ] {
        assert_eq!(text.matches(port).count(), 1, "{port}");
        text = text.replace(port, here);
    }
    text
}

/// Whether the published secret signed it.
fn is_signed(entry: &Entry) -> bool {
    let header = |name: &str| entry.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
    let (Some(time), Some(signature)) = (header("webhook-timestamp"), header("webhook-signature")) else {
        return false;
    };
    let (id, body) = (entry.webhook_id.as_deref(), entry.body.as_deref());
    let (id, body) = (id.expect("an id"), body.expect("bodies are kept"));
    standard_signature(TRACKER_SECRET, id, time, body.as_bytes()).as_ref() == Ok(signature)
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
    assert!(entries.iter().all(is_signed), "each is signed with the secret of the tracker");
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

#[tokio::test]
async fn one_opened_issue_goes_out_by_both_flows_and_the_second_does_not_wait_for_the_first() {
    let issue = examples()
        .into_iter()
        .find(|(event, payload)| event == "issues" && payload.contains("\"action\":\"opened\""));
    let (event, payload) = issue.expect("there is one");
    let sink = sink().await;
    // The tracker refuses the issue twice: the schedule of the flow is 200 ms, then 1 s, a fifth more or less.
    sink.script().push(Rule::path("/issues/Hello-World").times(2), Answer::status(503));
    let setup = Setup::new(&config(&sink)).expect("a folder").variable("GITHUB_WEBHOOK_SECRET", SECRET);
    let hub = setup.start().await.expect("the hub starts");
    let url = format!("{}/in/github", hub.url);
    let delivery = Delivery { event, id: "d-1".to_owned(), payload: payload.clone().into() };
    let forged = deliver(&url, "another secret", &delivery).await.expect("the hub answers");
    assert_eq!(forged.status, 401, "nobody but GitHub gets in");
    assert_eq!(deliver(&url, SECRET, &delivery).await.expect("the hub answers").status, 202);
    sink.ledger().wait_for_accepted(2, PATIENCE).await.expect("both flows deliver");

    let entries = sink.ledger().entries();
    let of = |path: &str| entries.iter().filter(|entry| entry.path == path).collect::<Vec<_>>();
    let (all, issues) = (of("/all"), of("/issues/Hello-World"));
    assert_eq!((all.len(), issues.len(), entries.len()), (1, 3, 4));
    assert_eq!(all[0].body.as_deref(), Some(payload.as_str()), "without `map` the same bytes");
    let mapped: Value = serde_json::from_str(issues[2].body.as_deref().expect("a body")).expect("JSON");
    let source: Value = serde_json::from_str(&payload).expect("JSON");
    let number = source["issue"]["number"].as_u64().expect("a number");
    let title = source["issue"]["title"].as_str().expect("a title");
    let expected = serde_json::json!({
        "repo": source["repository"]["full_name"], "number": number, "title": format!("#{number}: {title}"),
    });
    assert_eq!(mapped, expected);
    assert!(entries.iter().all(is_signed));
    let waits = [(0, 160), (1, 800)]
        .map(|(n, least)| (issues[n + 1].at.duration_since(issues[n].at).as_millis(), least));
    assert!(waits.iter().all(|(wait, least)| wait >= least), "waited, and the least: {waits:?} ms");
    assert!(all[0].at < issues[2].at, "the second flow was not held up");
}
