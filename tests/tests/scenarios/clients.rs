//! Many clients, and clients that ask for much.

use std::time::Duration;

use crossdock_tests::{Hub, Setup};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::common::{PATIENCE, config, event, publish, sink};

/// Gives the hub few descriptors, so that some clients are many.
const WITH_FEW_DESCRIPTORS: [&str; 4] = ["sh", "-c", "ulimit -n 128; exec \"$@\"", "sh"];

/// What the process has open.
fn descriptors(hub: &Hub) -> usize {
    let folder = format!("/proc/{}/fd", hub.pid().expect("it runs"));
    std::fs::read_dir(folder).expect("a process has a folder").count()
}

#[tokio::test]
async fn idle_clients_do_not_keep_deliveries_from_going_out() {
    let sink = sink().await;
    let text = config(&sink, "").replace("topics: [orders]", "topics: [orders, kept]");
    let setup = Setup::new(&text).expect("a folder").through(&WITH_FEW_DESCRIPTORS);
    let hub = setup.start().await.expect("the hub starts");
    // This client has its connection before the others come, and keeps it; the hub has none to the sink yet.
    let client = reqwest::Client::new();
    let send = async |topic: &str, seq: u64| {
        let one = event(&seq.to_string(), "k", &json!({ "key": "k", "seq": seq })).to_string();
        let request =
            client.post(format!("{}/v1/topics/{topic}/events", hub.url)).timeout(PATIENCE).body(one);
        let answer = request.header("content-type", "application/cloudevents+json").send().await;
        let answer = answer.expect("the hub answers");
        assert_eq!(answer.status(), 202);
        // Read to its end, or the connection would not be used again.
        answer.bytes().await.expect("the hub answers");
    };
    send("kept", 0).await;
    let before = descriptors(&hub);
    let mut idle = Vec::new();
    // More than there are descriptors, and not more than may wait to be accepted.
    for _ in 0..150 {
        idle.push(TcpStream::connect(hub.url.trim_start_matches("http://")).await.expect("a connection"));
    }
    // The hub lets 48 in, one of them ours, and others wait.
    let until = Instant::now() + PATIENCE;
    while descriptors(&hub) < before + 45 {
        assert!(Instant::now() < until, "it has {} descriptors", descriptors(&hub));
        sleep(Duration::from_millis(10)).await;
    }
    for seq in 1..=5 {
        send("orders", seq).await;
    }
    sink.ledger().wait_for_accepted(5, PATIENCE).await.expect("they arrive");
    let logs = hub.log_lines().join("\n");
    assert!(!logs.contains("os error 24"), "there was a descriptor for each connection: {logs}");
    drop(idle);
}

/// The most memory that the process has had, in MiB.
fn peak_mebibytes(hub: &Hub) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.pid().expect("it runs")));
    let status = status.expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

#[tokio::test]
async fn a_page_of_large_events_is_small() {
    const EVENTS: u64 = 300;
    let sink = sink().await;
    let idle = config(&sink, "").replace("topics: [orders]", "topics: [orders, kept]");
    let setup = Setup::new(&idle).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    let data = "x".repeat(900_000);
    for seq in 1..=EVENTS {
        publish(&hub, "kept", &[event(&seq.to_string(), "k", &Value::from(data.as_str()))]).await;
    }
    let before = peak_mebibytes(&hub);
    let listed = hub.get("/v1/events?topic=kept&limit=1000").await.expect("a list");
    let items = listed["items"].as_array().expect("items");
    assert_eq!((items.len() as u64, &listed["next"]), (EVENTS, &Value::Null));
    assert!(items.iter().all(|item| item["data_bytes"] == 900_002));
    let more = peak_mebibytes(&hub) - before;
    assert!(more < 64, "a list of 257 MiB of events took {more} MiB");
}
