//! What each command writes: at a terminal of 80 columns, in a pipe, and as JSON.

use super::{Code, Eyes, ask, hub::Recorded};

/// Runs a command for three readers.
async fn for_all(recorded: &[Recorded], arguments: &[&str]) -> String {
    let json = [arguments, &["--output", "json"]].concat();
    let readers = [
        ("terminal", Eyes::Terminal(80), arguments),
        ("pipe", Eyes::Pipe, arguments),
        ("json", Eyes::Pipe, &json),
    ];
    let mut page = format!("$ crossdock {}\n", arguments.join(" "));
    for (name, eyes, arguments) in readers {
        let (mut told, hub) = ask(recorded, arguments, eyes, "").await;
        told.aside = told.aside.replace(&hub.url, "http://hub");
        page.push_str(&format!("--- {name}, exit {}\n{}", told.code as u8, told.out));
        if !told.aside.is_empty() {
            page.push_str(&format!("--- {name}, aside\n{}", told.aside));
        }
        let obeyed = page.chars().find(|character| *character != '\n' && crate::safe::is_obeyed(*character));
        assert_eq!(obeyed, None, "{page}");
        if name == "json" && told.code == Code::Ok {
            serde_json::from_str::<serde_json::Value>(&told.out).unwrap();
        }
    }
    page
}

macro_rules! answers {
    ($name:literal) => {
        include_str!(concat!("answers/", $name, ".json"))
    };
}
pub(super) use answers;

macro_rules! shows {
    ($($name:ident: [$($recorded:expr),*], $arguments:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let page = for_all(&[$($recorded),*], &$arguments.split(' ').collect::<Vec<_>>()).await;
            insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
                insta::assert_snapshot!(stringify!($name), page);
            });
        })*
    };
}

shows! {
    status_of_a_hub_that_needs_a_person: [("GET /v1/status", 200, answers!("status"))], "status";
    status_of_a_hub_that_is_well: [("GET /v1/status", 200, answers!("status_ok"))], "status";
    flow_list: [("GET /v1/flows", 200, answers!("flows"))], "flow list";
    flow_list_of_none: [("GET /v1/flows", 200, answers!("nothing"))], "flow list";
    connection_list: [("GET /v1/connections", 200, answers!("connections"))], "connection list";
    connection_list_of_none: [("GET /v1/connections", 200, answers!("nothing"))], "connection list";
    connection_show: [("GET /v1/connections/crm", 200, answers!("connection"))], "connection show crm";
    connection_pause: [("PATCH /v1/connections/crm", 200, answers!("connection"))],
        "connection pause crm --reason INC-482";
    connection_resume: [("PATCH /v1/connections/crm", 200, answers!("connection"))], "connection resume crm";
    event_list: [("GET /v1/events?limit=2", 200, answers!("events"))], "event list --limit 2";
    event_list_of_none: [("GET /v1/events?topic=orders&limit=50", 200, answers!("nothing"))],
        "event list --topic orders";
    event_show: [("GET /v1/events/o-1", 200, answers!("event"))], "event show o-1";
    event_show_where_no_flow_reads: [("GET /v1/events/o-1", 200, r#"{"id":"o-1","topic":"orders","deliveries":[],"others":[]}"#)],
        "event show o-1";
    failures_groups: [("GET /v1/failure-groups?limit=50", 200, answers!("groups"))], "failures groups";
    failures_groups_of_none: [("GET /v1/failure-groups?flow=a&class=bug&state=replayed&limit=50", 200, answers!("nothing"))],
        "failures groups --flow a --class bug --state replayed";
    failures_list: [("GET /v1/dead-letters?since=2026-11-23T12%3A00%3A00Z&group=g7k2m4qz&limit=1&cursor=x", 200, answers!("letters"))],
        "failures list --group g7k2m4qz --since 24h --limit 1 --cursor x";
    failures_show_a_dead_letter: [("GET /v1/dead-letters/o-1", 200, answers!("letter"))], "failures show o-1";
    failures_show_a_group: [("GET /v1/failure-groups/p0d4x1aa", 200, answers!("group"))], "failures show p0d4x1aa";
    failures_show_nothing: [], "failures show x";
    failures_discard: [
        ("POST /v1/replay-plans", 200, answers!("plan")),
        ("POST /v1/dead-letters/discards", 200, answers!("discarded"))
    ], "failures discard --group g7k2m4qz --reason old --yes";
    failures_discard_dry_run: [("POST /v1/replay-plans", 200, answers!("plan"))], "failures discard --all --dry-run";
    replay_test_that_is_delivered: [("POST /v1/replay-tests", 200, answers!("test_delivered"))], "replay test o-1";
    replay_test_that_fails: [("POST /v1/replay-tests", 200, answers!("test_failed"))], "replay test --group h3m8c2vv";
    replay_test_of_a_group_that_is_done: [
        ("POST /v1/replay-tests", 404, r#"{"status":404,"detail":"no open dead letter in the failure group `g1`"}"#),
        ("GET /v1/failure-groups/g1", 200, r#"{"id":"g1","count":2,"state":"replayed"}"#)
    ], "replay test --group g1";
    replay_create_of_a_group_that_is_done: [
        ("POST /v1/replay-plans", 200, answers!("plan_empty")),
        ("GET /v1/failure-groups/g1", 200, r#"{"id":"g1","count":2,"state":"replayed"}"#)
    ], "replay create --group g1 --reason renewed --yes";
    replay_create_of_no_group: [("POST /v1/replay-plans", 200, answers!("plan_empty"))],
        "replay create --group g1 --reason renewed --yes";
    replay_create: [("POST /v1/replay-plans", 200, answers!("plan")), ("POST /v1/replays", 202, answers!("replay"))],
        "replay create --group g7k2m4qz --rate 2000/s --reason renewed --yes --detach";
    replay_create_and_wait: [
        ("POST /v1/replay-plans", 200, answers!("plan")),
        ("POST /v1/replays", 202, answers!("replay")),
        ("GET /v1/replays/r01jdf9qk7m3w8x2c5v6b4n1zqa", 200, answers!("replay_failed"))
    ], "replay create --group g7k2m4qz --reason renewed --yes --wait";
    replay_create_dry_run: [("POST /v1/replay-plans", 200, answers!("plan"))],
        "replay create --group g7k2m4qz --rate 2000/s --dry-run";
    replay_list: [("GET /v1/replays?limit=50", 200, answers!("replays"))], "replay list";
    replay_list_of_none: [("GET /v1/replays?limit=50", 200, answers!("nothing"))], "replay list";
    replay_show: [("GET /v1/replays/r1", 200, answers!("replay"))], "replay show r1";
    replay_pause: [("PATCH /v1/replays/r1", 200, answers!("replay"))], "replay pause r1";
    replay_resume: [("PATCH /v1/replays/r1", 200, answers!("replay"))], "replay resume r1";
    replay_set: [("PATCH /v1/replays/r1", 200, answers!("replay"))], "replay set r1 --rate 50/s";
    replay_cancel: [("PATCH /v1/replays/r1", 200, answers!("replay"))], "replay cancel r1 --reason enough";
    refused_without_a_token: [("GET /v1/status", 401,
        r#"{"type":"urn:crossdock:problem:unauthorized","title":"The request is not authorised","status":401,"detail":"the token is wrong"}"#)],
        "status";
    an_unknown_name_names_the_nearest: [("GET /v1/connections/cmr", 404,
        r#"{"title":"There is no such thing","status":404,"detail":"no connection `cmr`; did you mean `crm`?","nearest":"crm","known":["shop","crm"]}"#)],
        "connection show cmr";
    a_cursor_that_was_not_given_out: [("GET /v1/events?limit=50&cursor=x", 400,
        r#"{"title":"The request cannot be read","status":400,"detail":"the cursor is not one that was given out","pointer":"?cursor"}"#)],
        "event list --cursor x";
    a_hub_that_says_nothing: [("GET /v1/status", 502, "<html>")], "status";
    something_that_is_no_hub: [("GET /v1/status", 200, "<html>")], "status";
}
