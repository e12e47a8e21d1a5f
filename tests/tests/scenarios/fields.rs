//! The answers that the command line is tested with have the fields of a real hub's, command by command.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_sim::{Answer, Rule};
use crossdock_tests::{Hub, Setup, workspace};
use serde_json::{Value, json};

use crate::common::{config, event, publish, sink};

/// Fields that hold what people made: an event, a request, a choice. Their own fields are not the API's.
const FREE: [&str; 4] = ["cloudevent", "fields", "body", "selection"];

/// Every field by its place, with the types of its values besides null.
type Fields = BTreeMap<String, BTreeSet<&'static str>>;

fn fields(value: &Value) -> Fields {
    let mut found = Fields::new();
    collect(value, "", &mut found);
    found
}

fn collect(value: &Value, place: &str, found: &mut Fields) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let place = format!("{place}/{name}");
                found.entry(place.clone()).or_default().extend(kind(value));
                if !FREE.contains(&name.as_str()) {
                    collect(value, &place, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, &format!("{place}/-"), found)),
        _ => {}
    }
}

fn kind(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some("true or false"),
        Value::Number(_) => Some("a number"),
        Value::String(_) => Some("text"),
        Value::Array(_) => Some("a list"),
        Value::Object(_) => Some("an object"),
    }
}

/// What differs between two answers: names that only one has, types that have nothing in common.
fn differences(real: &Fields, recorded: &Fields) -> Vec<String> {
    let names: BTreeSet<_> = real.keys().chain(recorded.keys()).collect();
    let differs = |name: &&String| match (real.get(*name), recorded.get(*name)) {
        (Some(real), Some(recorded)) => {
            !real.is_empty() && !recorded.is_empty() && real.is_disjoint(recorded)
        }
        _ => true,
    };
    let tell =
        |name: &String| format!("{name}: the hub {:?}, recorded {:?}", real.get(name), recorded.get(name));
    names.into_iter().filter(differs).map(tell).collect()
}

/// Runs commands and compares what they print with the recordings.
struct Comparison {
    setup: Setup,
    hub: Hub,
    recordings: BTreeMap<String, Fields>,
    compared: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Comparison {
    /// Runs a command against the hub; what it prints must have the fields of the recording.
    async fn compare(&mut self, command: &str, recording: &str) -> Value {
        let line = format!("{command} -o json");
        let arguments: Vec<_> = ["--url", &self.hub.url].into_iter().chain(line.split(' ')).collect();
        let output = self.setup.command(&arguments).await.expect("it ends");
        let real: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{command}: {error}: {}", String::from_utf8_lossy(&output.stderr))
        });
        for difference in differences(&fields(&real), &self.recordings[recording]) {
            self.wrong.push(format!("`{command}` and {recording}.json: {difference}"));
        }
        self.compared.insert(recording.to_owned());
        real
    }
}

fn recordings() -> BTreeMap<String, Fields> {
    let folder = workspace().join("crates/crossdock/src/cli/tests/answers");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a recording");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, fields(&serde_json::from_str(&text).expect("JSON")))
    };
    std::fs::read_dir(folder).expect("the recordings").map(read).collect()
}

#[tokio::test]
async fn every_recording_has_the_fields_of_a_real_hubs_answer() {
    let sink = sink().await;
    let setup =
        Setup::new(&config(&sink, "    retry: { schedule: [10ms], max_attempts: 2 }\n")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    let mut hub =
        Comparison { setup, hub, recordings: recordings(), compared: BTreeSet::new(), wrong: Vec::new() };
    hub.compare("status", "status_ok").await;
    hub.compare("event list", "nothing").await;
    hub.compare("failures discard --group none --dry-run", "plan_empty").await;

    sink.script().push(Rule::any().times(1), Answer::status(503));
    sink.script().push(Rule::any(), Answer::error(422, "NO_EMAIL", "email is required"));
    let events: Vec<_> =
        (1..=9).map(|seq| event(&format!("e{seq}"), "k", &json!({ "key": "k", "seq": seq }))).collect();
    publish(&hub.hub, "orders", &events).await;
    hub.hub.wait_until("/v1/status", |status| status["dead"] == 9).await.expect("all are dead");
    hub.compare("connection pause tracker --reason x", "connection").await;
    hub.compare("status", "status").await;
    hub.compare("connection list", "connections").await;
    hub.compare("connection show tracker", "connection").await;
    hub.compare("connection resume tracker", "connection").await;
    hub.compare("flow list", "flows").await;
    hub.compare("event list --limit 2", "events").await;
    hub.compare("event show e1", "event").await;
    hub.compare("failures list --limit 1", "letters").await;
    hub.compare("failures show e1", "letter").await;
    let groups = hub.compare("failures groups", "groups").await;
    let group = groups["items"][0]["id"].as_str().expect("an id").to_owned();
    hub.compare(&format!("failures show {group}"), "group").await;
    hub.compare(&format!("replay create --group {group} --rate 9/s --dry-run"), "plan").await;
    hub.compare("failures discard --all --dry-run", "plan").await;
    hub.compare("failures discard --event e4 --reason x --yes", "discarded").await;

    hub.compare("replay test e1", "test_failed").await;
    hub.compare("replay create --event e1 --reason x --yes --wait", "replay_failed").await;
    sink.script().clear();
    hub.compare("replay test e1", "test_delivered").await;
    let job = hub.compare("replay create --all --rate 1/h --reason x --yes --detach", "replay").await;
    let job = job["id"].as_str().expect("an id");
    hub.compare("replay list", "replays").await;
    for change in ["show", "pause", "set --rate 2/h", "resume", "cancel"] {
        let (verb, rest) =
            change.split_once(' ').map_or((change, String::new()), |(verb, rest)| (verb, format!(" {rest}")));
        hub.compare(&format!("replay {verb} {job}{rest}"), "replay").await;
    }

    assert!(hub.wrong.is_empty(), "{}", hub.wrong.join("\n"));
    let recorded: BTreeSet<_> = hub.recordings.keys().cloned().collect();
    assert_eq!(hub.compared, recorded, "every recording was compared");
}
