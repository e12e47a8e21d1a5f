//! How commands act: what they ask a hub for, when they ask a person, how they end.

use std::io::{self, Write};

use super::{
    Client, Code, Command, Eyes, Output, Page, ask, finish,
    hub::{Asked, Hub},
    output::answers,
    parse, run, screen,
};

const PLAN: (&str, u16, &str) = ("POST /v1/replay-plans", 200, answers!("plan"));
const CREATE: &[&str] = &["replay", "create", "--group", "g7k2m4qz", "--rate", "90/m", "--reason", "renewed"];

fn asked(question: &str, body: &str) -> Asked {
    Asked {
        question: question.to_owned(),
        headers: ["Bearer t", "ana"].map(str::to_owned),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn a_replay_is_planned_and_made_in_the_name_of_a_person() {
    let recorded = [PLAN, ("POST /v1/replays", 202, answers!("replay"))];
    let (told, hub) = ask(&recorded, &[CREATE, &["--yes"]].concat(), Eyes::Pipe, "").await;
    assert_eq!(told.code, Code::Ok);
    assert_eq!(
        hub.asked(),
        [
            asked("POST /v1/replay-plans", r#"{"selection":{"groups":["g7k2m4qz"]},"rate":1.5}"#),
            asked(
                "POST /v1/replays",
                r#"{"selection":{"groups":["g7k2m4qz"]},"rate":1.5,"reason":"renewed"}"#
            ),
        ]
    );
}

#[tokio::test]
async fn every_way_to_select_reaches_the_hub() {
    let arguments = [
        "failures",
        "discard",
        "--dry-run",
        "--event",
        "e1",
        "--id",
        "d1",
        "--id",
        "d2",
        "--flow",
        "f",
        "--connection",
        "c",
        "--class",
        "bug",
        "--since",
        "2026-11-23T02:00:00Z",
    ];
    let (_, hub) = ask(&[PLAN], &arguments, Eyes::Pipe, "").await;
    let selection = r#"{"ids":["d1","d2"],"events":["e1"],"flow":"f","connection":"c","class":"bug","since":"2026-11-23T02:00:00Z"}"#;
    assert_eq!(
        hub.asked(),
        [asked("POST /v1/replay-plans", &format!(r#"{{"selection":{selection},"rate":null}}"#))]
    );
}

#[tokio::test]
async fn nobody_to_ask_means_no() {
    let (told, hub) = ask(&[PLAN], CREATE, Eyes::Pipe, "").await;
    assert_eq!(told.code, Code::NeedsConfirmation);
    assert_eq!(
        told.aside,
        "error: 38,112 open dead letters would be sent again, and nobody is here to say yes\n  next: add --yes if that is meant\n"
    );
    assert_eq!(hub.asked().len(), 1, "nothing but the plan was asked for");
}

#[tokio::test]
async fn a_person_sees_what_is_meant_and_says_yes_or_no() {
    let ended = ("GET /v1/replays/r01jdf9qk7m3w8x2c5v6b4n1zqa", 200, answers!("replay_failed"));
    let recorded = [PLAN, ("POST /v1/replays", 202, answers!("replay")), ended];
    let (told, hub) = ask(&recorded, CREATE, Eyes::Terminal(80), "Yes\n").await;
    assert_eq!((told.code, hub.asked().len()), (Code::Failed, 3), "a person watches it to its end");
    assert!(told.aside.starts_with(
        "38,112 open dead letters in 1 group, about 20s\n     38,112  g7k2m4qz  orders-to-crm > crm  auth_broken 401 EXPIRED_AUTH\nReplay them? [y/N] "
    ), "{}", told.aside);
    for no in ["n\n", "\n", "", "nyes\n"] {
        let (told, hub) = ask(&recorded, CREATE, Eyes::Terminal(80), no).await;
        assert_eq!((told.code, hub.asked().len()), (Code::NeedsConfirmation, 1), "{no:?}");
    }
}

#[tokio::test]
async fn nothing_to_do_is_nothing_found() {
    let empty = ("POST /v1/replay-plans", 200, answers!("plan_empty"));
    let discard = ["failures", "discard", "--all", "--reason", "x", "-y"];
    let (told, hub) = ask(&[empty], &discard, Eyes::Pipe, "").await;
    assert_eq!((told.code, hub.asked().len()), (Code::NotFound, 1));
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let page = |from: usize, next: &str| {
        let items: Vec<_> = (from..from + 1000).map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
        let page = format!(r#"{{"items":[{}],"next":{next}}}"#, items.join(","));
        &*Box::leak(page.into_boxed_str())
    };
    let recorded = [
        ("GET /v1/replays?limit=1000", 200, page(0, "\"a\"")),
        ("GET /v1/replays?limit=500&cursor=a", 200, page(1000, "\"b\"")),
    ];
    let (told, _) =
        ask(&recorded, &["replay", "list", "--limit", "1500", "-o", "json"], Eyes::Pipe, "").await;
    let list: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["next"]), (2000, &"b".into()));
    let (told, _) = ask(&recorded, &["replay", "list", "--limit", "1000"], Eyes::Pipe, "").await;
    assert_eq!(told.aside, "there is more: --cursor a\n");
}

#[tokio::test]
async fn following_a_replay_ends_with_it() {
    const SHOW: &str = "GET /v1/replays/r1";
    let recorded = [
        (SHOW, 200, answers!("replay")),
        (SHOW, 200, answers!("replay")),
        (SHOW, 200, r#"{"id":"r1","state":"succeeded","total":3,"delivered":3}"#),
    ];
    let (told, hub) = ask(&recorded, &["replay", "show", "r1", "--follow"], Eyes::Pipe, "").await;
    assert_eq!((told.code, hub.asked().len()), (Code::Ok, 3));
    assert_eq!(told.aside, "0/38,112\n");
    let (quiet, _) = ask(&recorded, &["replay", "show", "r1", "--follow", "--quiet"], Eyes::Pipe, "").await;
    assert_eq!((quiet.aside.as_str(), quiet.out), ("", told.out));
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let told = run(&["--url", &url, "status"], Eyes::Pipe, "").await;
    assert_eq!(told.code, Code::Failed);
    assert!(told.aside.starts_with(&format!("error: no hub answers at {url}\n  next: ")), "{}", told.aside);
}

#[tokio::test]
async fn what_is_no_address_is_wrong_usage() {
    for url in ["hub", "ftp://hub", "http://", "127.0.0.1:8080"] {
        let told = run(&["--url", url, "status"], Eyes::Pipe, "").await;
        assert_eq!(told.code, Code::Usage, "{url}");
    }
}

#[test]
fn what_the_grammar_does_not_know_is_wrong_usage() {
    use clap::Parser as _;
    let wrong = [
        "crossdock",
        "crossdock failure list",
        "crossdock replay create --reason x",
        "crossdock replay create --group g",
        "crossdock replay create --all --group g --reason x",
        "crossdock replay create --all --reason x --rate fast",
        "crossdock failures discard --all",
        "crossdock failures groups --class odd",
        "crossdock event list --limit 0",
        "crossdock replay test",
        "crossdock status --output xml",
    ];
    for line in wrong {
        let error = super::Cli::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(Code::Usage as u8), "{line}");
    }
}

#[tokio::test]
async fn lists_fit_a_narrow_terminal() {
    let recorded = [("GET /v1/failure-groups?limit=50", 200, answers!("groups"))];
    for width in [20, 40, 60, 80, 120, 200] {
        let (told, _) = ask(&recorded, &["failures", "groups"], Eyes::Terminal(width), "").await;
        let widest = told.out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(width).max(30), "{width}\n{}", told.out);
        assert!(told.out.contains("g7k2m4qz") && told.out.contains("38,112"), "{width}\n{}", told.out);
    }
}

/// A reader that has gone away.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_failure() {
    let hub = Hub::start(&[("GET /v1/flows", 200, answers!("flows"))]).await;
    let cli = parse(&["--url", &hub.url, "flow", "list"]);
    let mut screen = screen(&cli, Eyes::Pipe, Page::default(), Page::default(), "");
    (screen.out, screen.aside) = (Box::new(Gone), Box::new(Gone));
    let ended = super::super::command(cli, &mut screen).await;
    assert_eq!(finish(ended, &mut screen), Code::Ok);
}

#[tokio::test]
async fn init_writes_a_configuration_that_check_finds_right_and_never_overwrites_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new/hub");
    let dir = dir.to_str().unwrap();
    let told = run(&["init", dir], Eyes::Pipe, "").await;
    assert_eq!((told.code, told.out), (Code::Ok, format!("wrote {dir}/crossdock.yaml\n")));
    let told = run(&["check", &format!("{dir}/crossdock.yaml")], Eyes::Pipe, "").await;
    assert_eq!(
        (told.code, told.out),
        (Code::Ok, format!("{dir}/crossdock.yaml is right: 1 flow, 1 connection\n"))
    );
    std::fs::write(format!("{dir}/crossdock.yaml"), "mine").unwrap();
    let told = run(&["init", dir, "-o", "json"], Eyes::Pipe, "").await;
    assert_eq!(told.code, Code::Failed);
    let failure: serde_json::Value = serde_json::from_str(&told.aside).unwrap();
    assert_eq!(failure["code"], "failed");
    assert_eq!(std::fs::read_to_string(format!("{dir}/crossdock.yaml")).unwrap(), "mine");
}

#[tokio::test]
async fn check_tells_programs_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.yaml");
    std::fs::write(&file, "flws: {}\nlisten: 1\n").unwrap();
    let told = run(&["check", file.to_str().unwrap(), "-o", "json"], Eyes::Pipe, "").await;
    assert_eq!(told.code, Code::Failed);
    let problems: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let places: Vec<_> =
        problems["items"].as_array().unwrap().iter().map(|item| item["line"].as_u64()).collect();
    assert_eq!(places, [Some(1), Some(2)]);
}

#[tokio::test]
async fn run_tells_programs_every_problem_and_draws_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.yaml");
    std::fs::write(&file, "flws: {}\nlisten: 1\n").unwrap();
    let told = run(&["run", "-c", file.to_str().unwrap(), "-o", "json"], Eyes::Pipe, "").await;
    assert_eq!((told.code, told.out.as_str()), (Code::Failed, ""));
    let lines: Vec<serde_json::Value> =
        told.aside.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<_> = lines[0]["items"].as_array().unwrap().iter().map(|item| &item["code"]).collect();
    assert_eq!(codes, ["unknown_field", "wrong_value"]);
    assert_eq!((lines.len(), &lines[1]["code"]), (2, &serde_json::json!("failed")));
}

#[tokio::test]
async fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let told = run(&["completions", shell], Eyes::Pipe, "").await;
        assert!(told.code == Code::Ok && told.out.contains("failures"), "{shell}");
    }
}

#[test]
fn a_client_needs_no_hub_to_be_made() {
    let cli = parse(&["status"]);
    assert!(matches!(cli.command, Command::Status) && cli.global.output == Output::Table);
    assert!(Client::new(&cli.global).is_ok());
}
