//! Postgres with the embedded broker: one worker, with everything that a hub does, over its death and its restarts.

use std::time::Duration;

use crossdock_sim::{Answer, Rule};
use crossdock_tests::Setup;
use serde_json::{Value, json};

use crate::{
    application::{Application, Habits},
    checker::{Verdict, check},
    cluster::{Broker, Cluster, PATIENCE, seed, set_tracker},
};

/// The first retry in the lane, the others in the store.
const RETRY: &str = "    retry: { schedule: [20ms, 2500ms, 2500ms, 2500ms, 5s, 5s], jitter: 0.1 }\n";
/// Keys of the application; what may come twice after a death is what was under way for each, and answered a moment before.
const KEYS: u64 = 20;
const TWICE: usize = 300;

/// An outage of the receiver, events that it will never take, the death of the worker in the middle of it, and a replay.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_a_death_and_a_replay_lose_nothing_and_keep_every_order() {
    let cluster = Cluster::new(Broker::Embedded, RETRY).await;
    let worker = cluster.worker().await;
    let habits = Habits { writers: 4, keys: KEYS, seed: seed(), pause: Duration::from_millis(5), slow: 1 };
    let application = Application::start(&cluster.database, habits).await;
    application.wait_for(100).await;
    cluster.sink.script().push(Rule::any(), Answer::status(503));
    worker
        .wait_until("/v1/status", |status| status["held"].as_u64() > Some(5))
        .await
        .expect("events are held");
    worker.kill().await.expect("it dies");
    // Its lease has to run out first: nobody knows that it is dead.
    let mut worker = cluster.worker().await;
    cluster.sink.script().clear();
    application.wait_for(400).await;
    cluster.end(&mut worker).await;
    let worker = cluster.worker().await;
    application.wait_for(500).await;
    let written = application.finish().await;
    let verdict = check(&written, &cluster.sink, &worker, PATIENCE).await;
    assert_eq!(Verdict { twice: 0, ..verdict }, Verdict::default());
    assert!(verdict.twice <= TWICE, "{} came twice", verdict.twice);
}

/// What the receiver will never take is dead over a restart, and replayed once it is mended.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_outlive_a_restart_and_are_replayed() {
    let cluster = Cluster::new(Broker::Embedded, "").await;
    let mut worker = cluster.worker().await;
    cluster.sink.script().push(Rule::any(), Answer::status(422));
    cluster.write(KEYS, 1).await;
    worker.wait_until("/v1/status", |status| status["dead"] == KEYS).await.expect("all die");
    cluster.end(&mut worker).await;
    cluster.sink.script().clear();
    let worker = cluster.worker().await;
    let replay = worker.post("/v1/replays", &json!({ "selection": {}, "reason": "mended" })).await;
    let replay = replay.expect("a replay is made");
    let path = format!("/v1/replays/{}", replay["id"].as_str().expect("an id"));
    let succeeded = |replay: &Value| replay["state"] == "succeeded";
    let done = worker.wait_until(&path, succeeded).await.expect("it comes to its end");
    assert_eq!(done["delivered"], KEYS, "{done}");
    assert_eq!(cluster.sink.ledger().counts().accepted, KEYS, "each once");
}

/// The same configuration in another folder.
fn elsewhere(cluster: &Cluster) -> Setup {
    let config = std::fs::read_to_string(cluster.setup.folder().join("crossdock.yaml")).expect("it is there");
    Setup::new(&config).expect("a folder")
}

/// A second worker could not see the events of the first one's log: it is refused, whatever its folder, and the first one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_is_refused_and_the_first_goes_on() {
    let cluster = Cluster::new(Broker::Embedded, "").await;
    let mut worker = cluster.worker().await;
    let elsewhere = elsewhere(&cluster);
    let mut second = elsewhere.spawn(&[]).expect("it starts");
    second.wait_line("waiting whether it is still there").await.expect("the other one may be dead");
    let ended = second.wait_end().await.expect("it ends");
    assert!(!ended.success());
    second.wait_line("another worker uses this store with an embedded broker").await.expect("it says why");
    cluster.write(KEYS, 1).await;
    cluster.sink.ledger().wait_for_accepted(KEYS, PATIENCE).await.expect("the first one delivers");
    cluster.end(&mut worker).await;
}

/// A worker that stood still for longer than its lease finds another one in its place, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_silent_for_too_long_leaves_the_place_to_the_other() {
    let cluster = Cluster::new(Broker::Embedded, "").await;
    let mut first = cluster.worker().await;
    first.signal("STOP").await.expect("it stands still");
    let elsewhere = elsewhere(&cluster);
    let mut second = elsewhere.start().await.expect("it waits for the lease, then starts");
    first.signal("CONT").await.expect("it goes on");
    let ended = first.wait_end().await.expect("it ends");
    assert!(!ended.success());
    first.wait_line("another worker has begun to use this store").await.expect("it says why");
    cluster.write(KEYS, 1).await;
    cluster.sink.ledger().wait_for_accepted(KEYS, PATIENCE).await.expect("the second one delivers");
    cluster.end(&mut second).await;
}

/// The folder with the broker's log is lost: that is told, held events go on in their order before anything that comes later,
/// although positions are given a second time, and what was in the log alone is published once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_data_folder_is_told_of_and_nothing_is_lost_with_it() {
    let cluster = Cluster::new(Broker::Embedded, RETRY).await;
    let mut worker = cluster.worker().await;
    cluster.sink.script().push(Rule::any(), Answer::status(503));
    cluster.write(KEYS, 1).await;
    worker.wait_until("/v1/status", |status| status["held"] == KEYS).await.expect("all are held");
    set_tracker(&worker, "paused").await;
    // These wait behind those of their keys, and the last two of other keys in the log alone.
    cluster.write(KEYS + 2, 2).await;
    let behind = |status: &Value| status["held"] == 2 * KEYS && status["pending"] == 2;
    worker.wait_until("/v1/status", behind).await.expect("they wait");
    cluster.end(&mut worker).await;
    let folder = cluster.setup.folder().join("data");
    std::fs::remove_dir_all(&folder).expect("it is lost");

    let worker = cluster.worker().await;
    worker.wait_line("the log of the embedded broker is new").await.expect("it is told");
    cluster.write(KEYS + 2, 3).await;
    let behind = |status: &Value| status["held"] == 3 * KEYS && status["pending"] == 2;
    worker.wait_until("/v1/status", behind).await.expect("they wait, each at a place that another one had");
    let lost = (2 * KEYS + 1).to_string();
    let (code, said) = cluster.command(&["outbox", "rewind", &lost, "--reason", "its log is lost"]).await;
    assert_eq!(code, Some(0), "{said}");
    cluster.sink.script().clear();
    set_tracker(&worker, "ok").await;
    cluster.sink.ledger().wait_for_accepted(3 * KEYS + 4, PATIENCE).await.expect("all arrive");
    let tally = cluster.sink.ledger().tally();
    let of_the_log_alone = 2;
    assert!(tally.out_of_order <= of_the_log_alone, "what was held kept its order: {tally:?}");
}
