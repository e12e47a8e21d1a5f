//! Starting, stopping, and what the disk can do to a hub.

use std::time::{Duration, Instant};

use crossdock_sim::{Answer, Rule};
use crossdock_tests::{Setup, Terminal, Writer};
use serde_json::json;

use crate::common::{PATIENCE, check_nothing_lost, config, duplicates, event, publish, sink};

#[tokio::test]
async fn sigterm_finishes_what_is_out_and_repeats_nothing() {
    let sink = sink().await;
    sink.script().push(Rule::any(), Answer::status(200).delay(Duration::from_millis(100)));
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let mut hub = setup.start().await.expect("the hub starts");
    let writer = Writer::start(&hub.url, "orders", 16, Duration::from_millis(2));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        hub.terminate().await.expect("it is told");
        let status = hub.wait_end().await.expect("it ends");
        assert!(status.success(), "{status}: {}", hub.log_lines().join("\n"));
        hub.wait_line("\"message\":\"stopped\"").await.expect("what was out has finished");
        hub = setup.start().await.expect("the hub starts");
        writer.moved_to(&hub.url);
    }
    let accepted = writer.finish().await;
    check_nothing_lost(&accepted, sink.ledger()).await;
    assert_eq!(duplicates(sink.ledger()), 0, "a graceful stop repeats nothing");
}

#[tokio::test]
async fn a_call_that_never_ends_is_cut_off_and_made_again_after_the_next_start() {
    let sink = sink().await;
    sink.script().push(Rule::any().times(1), Answer::hang());
    let setup = Setup::new(&config(&sink, "").replace("timeout: 5s", "timeout: 60s")).expect("a folder");
    let mut hub = setup.start().await.expect("the hub starts");
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
    sink.ledger().wait_for(1, PATIENCE).await.expect("the call is out");
    let began = Instant::now();
    hub.terminate().await.expect("it is told");
    let status = hub.wait_end().await.expect("it ends, though the call does not");
    assert!(status.success(), "{status}: {}", hub.log_lines().join("\n"));
    assert!(began.elapsed() >= Duration::from_secs(20), "the call had its time: {:?}", began.elapsed());
    hub.wait_line("what was still out comes again").await.expect("it says so");

    let _hub = setup.start().await.expect("the hub starts");
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("it is made again");
    let entries = sink.ledger().entries();
    assert_eq!(entries.len(), 2);
    assert!(entries[0].webhook_id.is_some() && entries[0].webhook_id == entries[1].webhook_id, "with its id");
}

/// A hub at a terminal that has taken one event in.
async fn at_a_terminal(setup: &Setup) -> Terminal {
    let mut terminal = Terminal::start(setup.folder(), "run").expect("a terminal");
    let ready = terminal.line("ready").await.expect("the hub starts");
    let (_, url) = ready.split_once("\"http").expect("it says where");
    let (url, _) = url.split_once('"').expect("it says where");
    let url = format!("http{url}/v1/topics/orders/events");
    let one = event("1", "k", &json!({ "key": "k", "seq": 1 })).to_string();
    let client = reqwest::Client::new().post(url).header("content-type", "application/cloudevents+json");
    assert_eq!(client.body(one).send().await.expect("an answer").status(), 202);
    terminal
}

#[tokio::test]
async fn at_a_terminal_the_log_is_text_and_ctrl_c_ends_the_hub() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let mut terminal = at_a_terminal(&setup).await;
    terminal.wait_for("delivery attempted").await.expect("an attempt is a line");
    terminal.press("\u{3}").await.expect("Ctrl-C");
    let (status, seen) = terminal.end().await.expect("it ends");
    assert!(status.success(), "{status}: {seen}");
    assert!(seen.contains("INFO") && !seen.contains("{\""), "text, and no JSON: {seen}");
    assert!(seen.contains("\u{1b}["), "with colours: {seen}");
}

#[tokio::test]
async fn at_a_terminal_the_end_shows_how_many_calls_are_still_out() {
    let sink = sink().await;
    sink.script().push(Rule::any(), Answer::status(200).delay(Duration::from_secs(3)));
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let mut terminal = at_a_terminal(&setup).await;
    sink.ledger().wait_for(1, PATIENCE).await.expect("the call is out");
    terminal.press("\u{3}").await.expect("Ctrl-C");
    terminal.wait_for("0/1 calls finished").await.expect("it is shown");
    let (status, seen) = terminal.end().await.expect("it ends");
    assert!(status.success(), "{status}: {seen}");
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let first = setup.start().await.expect("the hub starts");
    let output = setup.command(&["run"]).await.expect("the second one ends");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    let pid = first.pid().expect("it runs").to_string();
    assert!(message.contains("in use") && message.contains(&pid), "it says who has it: {message}");
    publish(&first, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("the first one still delivers");
}

#[tokio::test]
async fn a_damaged_data_file_is_named_and_left_as_it_is() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let mut hub = setup.start().await.expect("the hub starts");
    hub.terminate().await.expect("it is told");
    hub.wait_end().await.expect("it ends");
    let file = setup.folder().join("data").join("crossdock.db");
    let mut bytes = std::fs::read(&file).expect("the file is there");
    bytes[..64].fill(0x5a);
    std::fs::write(&file, &bytes).expect("damaged");
    let output = setup.command(&["run"]).await.expect("it ends");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("crossdock.db"), "it names the file: {message}");
    assert_eq!(std::fs::read(&file).expect("the file is there"), bytes, "and overwrites nothing");
}

#[tokio::test]
async fn an_unknown_topic_is_told_with_the_one_that_was_meant() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    let event = event("1", "k", &json!({}));
    let (status, problem) =
        hub.call(reqwest::Method::POST, "/v1/topics/ordres/events", Some(&event)).await.expect("an answer");
    assert_eq!(status, 404);
    assert_eq!(problem["nearest"], "orders", "{problem}");
}
