//! The command line against a running hub: what an on-call person does, what scripts rely on, how commands end.

use std::{
    io::Read as _,
    process::{Command, Stdio},
};

use crossdock_sim::{Answer, Rule, Sink};
use crossdock_tests::{Hub, Setup, TRACKER_SECRET, crossdock, workspace};
use serde_json::{Value, json};

use crate::common::{PATIENCE, config, event, publish, sink};

/// How a command ended.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    /// The result as JSON.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs a command in the folder of the setup.
async fn run(setup: &Setup, arguments: &[&str]) -> Ended {
    let output = setup.command(arguments).await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a command against the hub.
async fn ask(setup: &Setup, hub: &Hub, line: &str) -> Ended {
    let arguments: Vec<_> =
        ["--url", &hub.url, "--actor", "ana"].into_iter().chain(line.split(' ')).collect();
    run(setup, &arguments).await
}

/// A hub with so many dead letters of one cause; the sink goes on refusing.
async fn hub_with_dead_letters(count: u64) -> (Sink, Setup, Hub) {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::error(422, "NO_EMAIL", "email is required"));
    let events: Vec<_> =
        (1..=count).map(|seq| event(&format!("e{seq}"), "k", &json!({ "key": "k", "seq": seq }))).collect();
    publish(&hub, "orders", &events).await;
    hub.wait_until("/v1/status", |status| status["dead"] == count).await.expect("all are dead");
    (sink, setup, hub)
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn on_call_finds_the_cause_tries_one_and_replays_the_rest() {
    let (sink, setup, hub) = hub_with_dead_letters(40).await;
    let groups = ask(&setup, &hub, "failures groups").await;
    assert!(groups.code == Some(0) && groups.out.contains("NO_EMAIL"), "{}{}", groups.out, groups.err);
    let group = ask(&setup, &hub, "failures groups -o json").await.json()["items"][0].clone();
    let id = group["id"].as_str().expect("an id");
    let shown = ask(&setup, &hub, "failures show e7").await;
    for kept in ["e7", "NO_EMAIL", "email is required", "/orders", "ATTEMPTS", "idempotency_key"] {
        assert!(shown.out.contains(kept), "{kept} is in {}", shown.out);
    }

    assert_eq!(ask(&setup, &hub, "replay test e7").await.code, Some(1), "it is not mended yet");
    sink.script().clear();
    let test = ask(&setup, &hub, "replay test e7 -o json").await;
    assert_eq!((test.code, &test.json()["outcome"]), (Some(0), &json!("delivered")));

    let create = format!("replay create --group {id} --rate 2000/s --reason mended");
    let unsaid = ask(&setup, &hub, &create).await;
    assert_eq!(unsaid.code, Some(4), "nobody said yes: {}", unsaid.err);
    assert!(unsaid.err.contains("39 open dead letters"), "{}", unsaid.err);
    let planned = ask(&setup, &hub, &format!("{create} --dry-run -o json")).await.json();
    assert_eq!(planned["count"], 39);
    assert_eq!(
        hub.get("/v1/replays").await.expect("replays")["items"].as_array().map(Vec::len),
        Some(2),
        "the tests"
    );

    let job = ask(&setup, &hub, &format!("{create} --yes -o json")).await.json();
    assert_eq!((&job["total"], &job["actor"], &job["reason"]), (&json!(39), &json!("ana"), &json!("mended")));
    let job = job["id"].as_str().expect("an id");
    let followed = ask(&setup, &hub, &format!("replay show {job} --follow -o json")).await;
    assert_eq!((followed.code, &followed.json()["state"]), (Some(0), &json!("succeeded")));
    let listed = ask(&setup, &hub, "replay list").await;
    assert!(listed.out.contains(job), "{}", listed.out);
    assert_eq!(ask(&setup, &hub, &format!("{create} --yes")).await.code, Some(3), "nothing is left");
    assert_eq!(sink.ledger().counts().accepted, 40);
}

#[tokio::test]
async fn a_replay_that_fails_again_ends_with_one_and_what_is_given_up_is_gone() {
    let (_sink, setup, hub) = hub_with_dead_letters(3).await;
    let failed = ask(&setup, &hub, "replay create --all --reason hope --yes --wait -o json").await;
    assert_eq!((failed.code, &failed.json()["state"]), (Some(1), &json!("failed")));
    let one = ask(&setup, &hub, "failures discard --event e2 --reason old --yes -o json").await;
    assert_eq!(one.json(), json!({ "discarded": 1 }));
    assert_eq!(ask(&setup, &hub, "failures discard --all --reason old").await.code, Some(4));
    let rest = ask(&setup, &hub, "failures discard --all --flow orders-to-tracker --reason old --yes").await;
    assert_eq!(rest.out, "discarded  2\n");
    let given_up = ask(&setup, &hub, "failures list --state discarded -o json").await.json();
    assert_eq!(given_up["items"].as_array().map(Vec::len), Some(3));
    let none = ask(&setup, &hub, "failures groups").await;
    assert!(none.code == Some(0) && none.out.starts_with("no failures"), "{}", none.out);
}

#[tokio::test]
async fn a_replay_is_paused_sped_up_resumed_and_cancelled() {
    let (sink, setup, hub) = hub_with_dead_letters(30).await;
    sink.script().clear();
    let job = ask(&setup, &hub, "replay create --all --rate 1/s --reason slow --yes -o json").await.json();
    let id = job["id"].as_str().expect("an id");
    let change = async |line: &str| ask(&setup, &hub, &format!("replay {line} -o json")).await.json();
    assert_eq!(change(&format!("pause {id}")).await["state"], "paused");
    assert_eq!(change(&format!("set {id} --rate 2/s")).await["rate"], 2.0);
    assert_eq!(change(&format!("resume {id}")).await["state"], "running");
    assert_eq!(change(&format!("set {id} --rate max")).await["rate"], Value::Null);
    let ended = ask(&setup, &hub, &format!("replay show {id} --follow --quiet")).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);

    let (_sink, setup, hub) = hub_with_dead_letters(5).await;
    let job = ask(&setup, &hub, "replay create --all --rate 1/h --reason slow --yes -o json").await.json();
    let id = job["id"].as_str().expect("an id");
    let cancelled = ask(&setup, &hub, &format!("replay cancel {id} --reason wrong -o json")).await.json();
    assert_eq!(cancelled["state"], "cancelled");
    let again = ask(&setup, &hub, &format!("replay cancel {id}")).await;
    assert_eq!(again.code, Some(1), "it has ended: {}", again.err);
}

#[tokio::test]
async fn json_has_the_fields_that_scripts_rely_on() {
    let (_sink, setup, hub) = hub_with_dead_letters(2).await;
    let job = ask(&setup, &hub, "replay create --event e1 --reason x --yes --wait -o json").await.json();
    let wanted: [(&str, &[&str]); 7] = [
        ("flow list", &["name", "connection", "state", "delivered", "pending", "held", "dead"]),
        ("connection list", &["name", "connector", "state"]),
        ("event list", &["id", "type", "key", "topic", "accepted_at"]),
        (
            "failures groups",
            &["id", "count", "state", "flow", "connection", "class", "status", "code", "first_at", "last_at"],
        ),
        ("failures list", &["id", "state", "group", "event", "flow", "class", "status", "failed_at"]),
        ("replay list", &["id", "state", "total", "delivered", "failed", "skipped", "rate", "created_at"]),
        ("event list --limit 1", &["id"]),
    ];
    for (command, fields) in wanted {
        let list = ask(&setup, &hub, &format!("{command} --output json")).await.json();
        assert_eq!(names(&list), ["items", "next"], "{command}");
        let item = &list["items"][0];
        for field in fields {
            assert!(item.get(field).is_some(), "{command} has {field}: {item}");
        }
    }
    assert!(names(&job).contains(&"finished_at"));
    let status = ask(&setup, &hub, "status -o json").await.json();
    for field in ["state", "version", "accepted", "delivered", "held", "dead", "problems"] {
        assert!(status.get(field).is_some(), "{field}: {status}");
    }
    let page = ask(&setup, &hub, "event list --limit 1 -o json").await.json();
    let next = page["next"].as_str().expect("there is another page");
    let rest = ask(&setup, &hub, &format!("event list --cursor {next} -o json")).await.json();
    assert_eq!(
        (&page["items"][0]["id"], &rest["items"][0]["id"], &rest["next"]),
        (&json!("e2"), &json!("e1"), &Value::Null)
    );
}

#[tokio::test]
async fn a_paused_connection_is_told_by_status_until_it_is_resumed() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    assert_eq!(ask(&setup, &hub, "status").await.code, Some(0));
    let paused = ask(&setup, &hub, "connection pause tracker --reason INC-482").await;
    assert_eq!(paused.code, Some(0), "{}", paused.err);
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
    let status = ask(&setup, &hub, "status").await;
    assert!(
        status.code == Some(1) && status.out.contains("crossdock connection resume tracker"),
        "{}",
        status.out
    );
    assert_eq!(sink.ledger().counts().accepted, 0);
    assert_eq!(ask(&setup, &hub, "connection resume tracker").await.code, Some(0));
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("the event that waited arrives");
    let shown = ask(&setup, &hub, "connection show tracker -o json").await.json();
    assert_eq!((&shown["state"], &shown["connector"]), (&json!("ok"), &json!("http")));
}

#[tokio::test]
async fn what_is_not_there_is_three_and_names_what_is() {
    let (_sink, setup, hub) = hub_with_dead_letters(1).await;
    for line in ["event show x", "failures show x", "replay show x", "replay test x", "replay test --group x"]
    {
        let ended = ask(&setup, &hub, line).await;
        assert_eq!(ended.code, Some(3), "{line}: {}", ended.err);
    }
    let ended = ask(&setup, &hub, "connection show trackr").await;
    assert!(ended.code == Some(3) && ended.err.contains("did you mean `tracker`?"), "{}", ended.err);
    let ended = ask(&setup, &hub, "event list --cursor x").await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    let ended = ask(&setup, &hub, "event list --limit none -o json").await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
}

#[tokio::test]
async fn a_token_is_asked_for_and_never_shown() {
    let token = "t0ken-that-nobody-sees";
    let sink = sink().await;
    let text = format!("token: \"${{env.HUB_TOKEN}}\"\n{}", config(&sink, ""));
    let setup = Setup::new(&text).expect("a folder").variable("HUB_TOKEN", token);
    let hub = setup.start().await.expect("the hub starts");
    let without = ask(&setup, &hub, "status").await;
    assert!(without.code == Some(5) && without.err.contains("CROSSDOCK_TOKEN"), "{}", without.err);
    assert_eq!(ask(&setup, &hub, "status --token wrong").await.code, Some(5));
    let with = ask(&setup, &hub, &format!("status --token {token}")).await;
    assert_eq!(with.code, Some(0), "{}", with.err);
    let setup = setup.variable("CROSSDOCK_TOKEN", token).variable("CROSSDOCK_URL", &hub.url);
    let by_variables = run(&setup, &["flow", "list"]).await;
    let help = run(&setup, &["flow", "list", "--help"]).await;
    assert_eq!((by_variables.code, help.code), (Some(0), Some(0)));
    let said = [with.out, by_variables.out, by_variables.err, help.out, help.err, hub.log_lines().join("\n")]
        .concat();
    assert!(!said.contains(token), "{said}");
}

#[tokio::test]
async fn no_payload_drives_a_terminal() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    let wild = "a\u{1b}[2J\u{9b}31m\u{202e}z\u{7}";
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1, "note": wild }))]).await;
    for line in ["event show 1", "event show 1 -o json"] {
        let shown = ask(&setup, &hub, line).await;
        assert_eq!(shown.code, Some(0), "{}", shown.err);
        let obeyed =
            |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
        assert!(!shown.out.contains(obeyed), "{line}: {:?}", shown.out);
        assert!(shown.out.contains("\\u001b[2J\\u009b31m\\u202ez\\u0007"), "{line}: {}", shown.out);
    }
    let json = ask(&setup, &hub, "event show 1 -o json").await.json();
    assert_eq!(json["cloudevent"]["data"]["note"], wild, "to a program it is the same text");
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = Command::new(crossdock())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("it is read");
    let status = child.wait().expect("it ends");
    assert!(status.success() && said.is_empty(), "{status}: {said}");
}

#[tokio::test]
async fn the_starter_runs_as_it_stands_and_its_example_works() {
    let setup = Setup::new("").expect("a folder");
    let told = run(&setup, &["init", "hub"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(0), "wrote hub/crossdock.yaml\n"), "{}", told.err);
    assert_eq!(run(&setup, &["init", "hub"]).await.code, Some(1), "nothing is overwritten");
    let checked = run(&setup, &["check", "hub/crossdock.yaml"]).await;
    assert_eq!(checked.out, "hub/crossdock.yaml is right: 1 flow, 1 connection\n");
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));

    let starter = std::fs::read_to_string(setup.folder().join("hub/crossdock.yaml")).expect("it is there");
    let sink = sink().await;
    // Other tests have the ports; all the rest is as it stands.
    let here = starter
        .replace("listen: 127.0.0.1:8080", "listen: 127.0.0.1:0")
        .replace("http://127.0.0.1:9001", &sink.url());
    setup.rewrite(&here).expect("written");
    let hub = setup.start().await.expect("the hub starts");
    let lines: Vec<_> = starter.lines().skip_while(|line| !line.contains("curl ")).skip(1).take(2).collect();
    let body: String =
        lines.iter().map(|line| line.trim_start_matches('#').trim().trim_end_matches('\'')).collect();
    let event: Value = serde_json::from_str(&body).expect("the example is JSON");
    publish(&hub, "orders", &[event]).await;
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("it arrives");
    let entry = sink.ledger().entries().remove(0);
    assert_eq!(entry.path, "/orders/1");
    let shown = ask(&setup, &hub, "event show o-1").await;
    assert!(shown.code == Some(0) && shown.out.contains("orders-to-crm"), "{}", shown.out);
}

#[tokio::test]
async fn the_tutorials_file_is_right_and_each_missing_variable_is_told_with_its_place() {
    let text = std::fs::read_to_string(workspace().join("crates/crossdock/src/config/tests/tutorial.yaml"));
    let setup = Setup::new(&text.expect("it is there"))
        .expect("a folder")
        .variable("GITHUB_WEBHOOK_SECRET", "s3cret");
    let right = run(&setup, &["check"]).await;
    assert_eq!(right.out, "crossdock.yaml is right: 2 flows, 2 connections\n", "{}", right.err);

    let setup = setup.variable("TRACKER_SECRET", "").variable("GITHUB_WEBHOOK_SECRET", "");
    let wrong = run(&setup, &["run"]).await;
    assert_eq!(wrong.code, Some(1));
    for told in [
        "crossdock.yaml:6:",
        "`GITHUB_WEBHOOK_SECRET` is not set",
        "crossdock.yaml:11:",
        "`TRACKER_SECRET` is not set",
        "error: crossdock.yaml cannot be run",
    ] {
        assert!(wrong.err.contains(told), "{told} is in {}", wrong.err);
    }
    assert!(!wrong.err.contains(TRACKER_SECRET));
    let json = run(&setup, &["check", "-o", "json"]).await;
    let codes: Vec<_> =
        json.json()["items"].as_array().expect("items").iter().map(|item| item["code"].clone()).collect();
    assert_eq!((json.code, codes), (Some(1), vec![json!("missing_variable"), json!("missing_variable")]));
}

#[tokio::test]
async fn an_event_shows_its_tries_what_it_waits_for_and_what_the_filter_left_out() {
    let sink = sink().await;
    let extra = "    filter: .seq < 9\n    retry: { schedule: [1h] }\n";
    let setup = Setup::new(&config(&sink, extra)).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any(), Answer::status(503));
    let order = |id: &str, seq: u64| event(id, "k", &json!({ "key": "k", "seq": seq }));
    publish(&hub, "orders", &[order("head", 1), order("behind", 2), order("other", 9)]).await;
    for (id, state) in [("head", "held"), ("behind", "held"), ("other", "filtered")] {
        let is_so = |event: &Value| event["deliveries"][0]["state"] == state;
        hub.wait_until(&format!("/v1/events/{id}"), is_so).await.expect("it comes to that");
    }
    for (id, why) in [
        ("head", "1 try, last: transient 503"),
        ("behind", "waits behind the earlier events of its key"),
        ("other", "the flow's filter, as it is now, leaves it out"),
    ] {
        let shown = ask(&setup, &hub, &format!("event show {id}")).await;
        assert!(shown.out.contains(why), "{id}: {}{}", shown.out, shown.err);
    }
    let flows = ask(&setup, &hub, "flow list").await;
    assert!(flows.out.contains("FILTERED"), "{}", flows.out);
}
