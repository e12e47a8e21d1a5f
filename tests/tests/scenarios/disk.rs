//! A disk without room, and a data folder that cannot be used.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path, process::Command, time::Duration};

use crossdock_tests::{Hub, Setup, Writer};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::common::{PATIENCE, check_nothing_lost, config, duplicates, event, sink};

/// Sends one event of `bytes` bytes; gives back the status, the media type and the body of the answer.
async fn send(hub: &Hub, seq: u64, bytes: usize) -> (StatusCode, String, Value) {
    let data = json!({ "key": "k", "seq": seq, "rest": "x".repeat(bytes) });
    let answer = Client::new()
        .post(format!("{}/v1/topics/orders/events", hub.url))
        .header("content-type", "application/cloudevents+json")
        .body(event(&seq.to_string(), "k", &data).to_string())
        .timeout(PATIENCE)
        .send()
        .await
        .expect("the hub answers");
    let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
    let kind = kind.and_then(|kind| kind.to_str().ok().map(str::to_owned)).unwrap_or_default();
    (status, kind, answer.json().await.expect("JSON"))
}

/// Waits until the hub says that it is ready, or that it is not; gives back the body.
async fn wait_ready(hub: &Hub, wanted: StatusCode) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, body) = hub.call(Method::GET, "/health/ready", None).await.expect("the hub answers");
        if status == wanted {
            return body;
        }
        assert!(Instant::now() < until, "not {wanted}: {status} {body}\n{}", hub.log_lines().join("\n"));
        sleep(Duration::from_millis(20)).await;
    }
}

async fn set_connection(hub: &Hub, state: &str) {
    let change = json!({ "state": state, "reason": "the test" });
    let changed = hub.call(Method::PATCH, "/v1/connections/tracker", Some(&change)).await;
    assert_eq!(changed.expect("an answer").0, 200);
}

#[tokio::test]
async fn a_full_data_folder_stops_the_intake_loses_nothing_and_recovers_by_itself() {
    let sink = sink().await;
    let limited = format!("limits: {{ data: 16MiB }}\nretention: 1s\n{}", config(&sink, ""));
    let setup = Setup::new(&limited).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    set_connection(&hub, "paused").await;
    let (mut accepted, mut refused) = (0, None);
    while refused.is_none() {
        assert!(accepted < 100, "the limit was never met");
        match send(&hub, accepted + 1, 500_000).await {
            (StatusCode::ACCEPTED, ..) => accepted += 1,
            answer => refused = Some(answer),
        }
    }
    let (status, kind, problem) = refused.expect("it was");
    assert_eq!((status.as_u16(), kind.as_str()), (503, "application/problem+json"), "{problem}");
    let detail = problem["detail"].as_str().expect("it says why");
    assert!(detail.contains("data limit of 16.0 MiB"), "{detail}");
    assert!(accepted >= 20, "{accepted} events were taken");
    let ready = wait_ready(&hub, StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(ready["detail"].as_str().is_some_and(|detail| detail.contains("data limit")), "{ready}");
    let status = hub.get("/v1/status").await.expect("the hub at a glance");
    assert!(status.to_string().contains("data limit"), "{status}");

    // What was accepted goes out, is dropped after its time, and then there is room.
    set_connection(&hub, "ok").await;
    sink.ledger().wait_for_accepted(accepted, PATIENCE).await.expect("everything accepted arrives");
    wait_ready(&hub, StatusCode::OK).await;
    let (status, _, body) = send(&hub, accepted + 1, 500_000).await;
    assert_eq!(status, 202, "{body}");
    check_nothing_lost(&BTreeMap::from([("k".to_owned(), accepted + 1)]), sink.ledger()).await;
    assert_eq!(duplicates(sink.ledger()), 0);
}

/// Mounts a small file system over the data folder, seen by this process alone, and becomes the hub.
const ON_A_SMALL_DISK: [&str; 5] =
    ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=40m none \"$PWD/data\" && exec \"$0\" \"$@\""];

fn may_mount() -> bool {
    let probe = "mount -t tmpfs -o size=1m none \"$PWD\"";
    let status = Command::new("unshare").args(["-rm", "sh", "-c", probe]).current_dir("/tmp").status();
    status.is_ok_and(|status| status.success())
}

/// Fills the disk of the hub to its last byte.
fn fill(filler: &Path) {
    let mut file = fs::File::create(filler).expect("the hub's disk can be reached");
    let mut block = vec![7; 1 << 20];
    while !block.is_empty() {
        match file.write(&block) {
            Ok(written) if written > 0 => {}
            _ => block.truncate(block.len() / 2),
        }
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_intake_loses_nothing_and_recovers_by_itself() {
    if !may_mount() {
        println!("skipped: this user may not mount a file system of its own");
        return;
    }
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder").through(&ON_A_SMALL_DISK);
    fs::create_dir(setup.folder().join("data")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    let writer = Writer::start(&hub.url, "orders", 8, Duration::from_millis(2));
    sink.ledger().wait_for_accepted(200, PATIENCE).await.expect("events flow");

    let root = format!("/proc/{}/root", hub.pid().expect("it runs"));
    let data = setup.folder().join("data");
    let filler = Path::new(&root).join(data.strip_prefix("/").expect("an absolute path")).join("filler");
    fill(&filler);
    let ready = wait_ready(&hub, StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(ready["detail"].as_str().is_some_and(|detail| detail.contains("full")), "{ready}");
    let (status, kind, problem) = send(&hub, 1, 100).await;
    assert_eq!((status.as_u16(), kind.as_str()), (503, "application/problem+json"), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("full")), "{problem}");
    let taken = writer.count();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(writer.count(), taken, "nothing is taken while the disk is full");

    fs::remove_file(&filler).expect("room is made");
    wait_ready(&hub, StatusCode::OK).await;
    let until = Instant::now() + PATIENCE;
    while writer.count() < taken + 200 {
        assert!(Instant::now() < until, "it does not go on: {}", hub.log_lines().join("\n"));
        sleep(Duration::from_millis(20)).await;
    }
    let accepted = writer.finish().await;
    check_nothing_lost(&accepted, sink.ledger()).await;
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_used_is_named_with_the_remedy() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    fs::write(setup.folder().join("data"), "no folder").expect("a file");
    let nowhere = Setup::new(&config(&sink, "").replace("./data", "/proc/nowhere/data")).expect("a folder");
    for (setup, path) in [(setup, "data"), (nowhere, "/proc/nowhere/data")] {
        let output = setup.command(&["run"]).await.expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(path), "it names the path: {message}");
        assert!(
            message.contains("`data` must name a folder that this process may create and write"),
            "{message}"
        );
    }
}
