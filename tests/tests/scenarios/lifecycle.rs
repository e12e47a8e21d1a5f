//! Starting, stopping, and what the disk can do to a hub.

use std::time::{Duration, Instant};

use crossdock_sim::{Answer, Rule};
use crossdock_tests::{Setup, Writer};
use serde_json::json;

use crate::common::{PATIENCE, check_nothing_lost, config, duplicates, event, publish, sink};

#[tokio::test]
async fn sigterm_finishes_what_is_out_and_repeats_nothing() {
    let sink = sink().await;
    sink.script().push(Rule::any(), Answer::ok().delay(Duration::from_millis(100)));
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let mut hub = setup.start().await.expect("the hub starts");
    let writer = Writer::start(&hub.url, "orders", 16, Duration::from_millis(2));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        hub.terminate().await.expect("it is told");
        let status = hub.wait_end().await.expect("it ends");
        assert!(status.success(), "{status}: {}", hub.log_lines().join("\n"));
        assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
        hub = setup.start().await.expect("the hub starts");
        writer.moved_to(&hub.url);
    }
    let accepted = writer.finish().await;
    check_nothing_lost(&accepted, sink.ledger()).await;
    assert_eq!(duplicates(sink.ledger()), 0, "a graceful stop repeats nothing");
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
async fn start_to_ready_is_quick_and_an_unknown_topic_is_told() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    let event = event("1", "k", &json!({}));
    let (status, problem) =
        hub.call(reqwest::Method::POST, "/v1/topics/ordres/events", Some(&event)).await.expect("an answer");
    assert_eq!(status, 404);
    assert!(problem.to_string().contains("orders"), "it gives the nearest name: {problem}");
}
