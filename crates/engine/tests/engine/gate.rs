//! What a connection that is not `ok` does to its events: they wait, nothing is counted, nothing dies.

use std::time::Duration;

use crossdock_core::{CircuitPolicy, Class, ConnectionState, LetterState, RetryPolicy};
use crossdock_engine::Order;

use crate::rig::{Options, Rig, act, fault, fault_for, list, ok};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// One attempt: whatever counts kills.
fn once() -> RetryPolicy {
    RetryPolicy { max_attempts: Some(1), ..list(&[]) }
}

async fn publish_keys(rig: &Rig, count: usize) {
    let keys: Vec<_> = (0..count).map(|n| format!("k{n}")).collect();
    rig.publish(keys.iter().enumerate().map(|(n, key)| (format!("e{n}"), key.as_str()))).await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_connection_waits_as_told_counts_nothing_and_lets_one_through_first() {
    let rig = Rig::new(Options { retry: once(), ..Options::default() }).await;
    rig.remote.answers(|call| if call.at < 7 * SECOND { fault_for(Class::Throttled, 7) } else { ok() });
    publish_keys(&rig, 20).await;
    rig.until("it is throttled", async || rig.connection() == ConnectionState::Throttled).await;
    rig.until("all arrived", async || rig.hub.status().await.is_ok_and(|status| status.delivered == 20))
        .await;
    let calls = rig.remote.calls();
    let later: Vec<_> = calls.iter().filter(|call| call.at > SECOND).collect();
    assert!(calls.len() - later.len() <= 8, "one round of the eight slots is out before the pause");
    assert!(later[0].at >= 7 * SECOND, "{later:?}");
    assert!(later[1].at > later[0].at, "the first one is answered before others follow: {later:?}");
    assert_eq!((rig.letters(LetterState::Open).await, rig.connection()), (0, ConnectionState::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_wait_zero_seconds_is_not_hammered() {
    let rig = Rig::new(Options { retry: once(), ..Options::default() }).await;
    rig.remote.answers(|call| if call.at < 600 * SECOND { fault_for(Class::Throttled, 0) } else { ok() });
    publish_keys(&rig, 20).await;
    rig.until("all arrived", async || rig.hub.status().await.is_ok_and(|status| status.delivered == 20))
        .await;
    let early = rig.remote.calls().iter().filter(|call| call.at < 600 * SECOND).count();
    assert!(early < 30, "{early} calls in ten minutes");
    assert_eq!(rig.letters(LetterState::Open).await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_slot_is_one_call_at_a_time_over_all_partitions() {
    let options = Options { concurrency: 1, partitions: 4, order: Order::None, ..Options::default() };
    let rig = Rig::new(options).await;
    rig.remote.answers(|call| if call.at < 9 * SECOND { fault_for(Class::Throttled, 10) } else { ok() });
    publish_keys(&rig, 20).await;
    rig.until("all arrived", async || rig.hub.status().await.is_ok_and(|status| status.delivered == 20))
        .await;
    let calls = rig.remote.calls();
    assert_eq!(calls.len(), 21, "one was throttled");
    assert!(calls.iter().all(|call| call.beside == 0));
}

fn quick_circuit() -> CircuitPolicy {
    CircuitPolicy { failures: 5, over: SECOND, pause: SECOND, pause_max: 30 * SECOND }
}

#[tokio::test(start_paused = true)]
async fn probes_of_an_outage_are_three_at_a_time_and_kill_nothing() {
    // Four attempts: without the rule, each fourth probe of the outage would be a dead letter.
    let retry = list(&[200, 1000, 5000]);
    let options = Options { retry, circuit: Some(quick_circuit()), ..Options::default() };
    let rig = Rig::new(options).await;
    rig.remote.answers(
        |call| {
            if call.at < 2 * HOUR { (20 * SECOND / 10, fault(Class::Transient).1) } else { ok() }
        },
    );
    publish_keys(&rig, 40).await;
    rig.until("it is open", async || rig.connection() == ConnectionState::CircuitOpen).await;
    let opened = rig.remote.calls().len();
    rig.until("it is over", async || rig.remote.calls().last().is_some_and(|call| call.at >= 2 * HOUR)).await;
    rig.until("all arrived", async || {
        rig.hub.status().await.is_ok_and(|status| status.delivered + status.dead == 40)
    })
    .await;
    assert_eq!(rig.letters(LetterState::Open).await, 0);
    let probes: Vec<_> =
        rig.remote.calls().into_iter().skip(opened).filter(|call| call.at < 2 * HOUR).collect();
    assert!(probes.len() > 200 && probes.len() < 1500, "{}", probes.len());
    assert!(probes.iter().skip(8).all(|call| call.beside < 3), "three at a time");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_pause_makes_no_event_older() {
    let retry = RetryPolicy { max_age: Some(HOUR), ..list(&[600_000, 600_000]) };
    let rig = Rig::new(Options { retry, ..Options::default() }).await;
    rig.remote.answers(|call| if call.nth < 3 { fault(Class::Transient) } else { ok() });
    publish_keys(&rig, 10).await;
    rig.until_called(10).await;
    rig.set_connection(ConnectionState::Paused).await;
    rig.wait(48 * HOUR).await;
    assert_eq!(rig.remote.calls().len(), 10, "nothing goes through a paused connection");
    rig.set_connection(ConnectionState::Ok).await;
    rig.until("all arrived", async || {
        rig.hub.status().await.is_ok_and(|status| status.delivered + status.dead == 10)
    })
    .await;
    assert_eq!(rig.letters(LetterState::Open).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_stops_the_connection_over_a_restart_until_it_works_again() {
    let options = Options { retry: once(), ..Options::default() };
    let rig = Rig::new(options.clone()).await;
    rig.remote.answers(|_| fault(Class::AuthBroken));
    publish_keys(&rig, 20).await;
    rig.until("it is kept", async || rig.kept().await == Some(ConnectionState::NeedsAuth)).await;
    let rig = rig.restart(options).await;
    assert_eq!(rig.connection(), ConnectionState::NeedsAuth);
    let before = rig.remote.calls().len();
    rig.wait(HOUR).await;
    let probes = rig.remote.calls().len() - before;
    assert!((10..30).contains(&probes), "{probes} probes in an hour");
    rig.remote.answers(|_| ok());
    rig.until("all arrived", async || rig.hub.status().await.is_ok_and(|status| status.delivered == 20))
        .await;
    rig.until("that is kept", async || rig.kept().await == Some(ConnectionState::Ok)).await;
    assert_eq!(rig.letters(LetterState::Open).await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_event_whose_credential_is_refused_does_not_stop_the_others() {
    let rig = Rig::new(Options { retry: once(), concurrency: 1, ..Options::default() }).await;
    rig.remote.answers(|call| if call.event == "e0" { fault(Class::AuthBroken) } else { ok() });
    publish_keys(&rig, 10).await;
    rig.until("the others arrived and it is dead", async || {
        rig.hub.status().await.is_ok_and(|status| (status.delivered, status.dead) == (9, 1))
    })
    .await;
    assert_ne!(rig.connection(), ConnectionState::NeedsAuth);
    assert_eq!(rig.remote.counts()["e0"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_a_restart_and_lets_everything_flow_when_it_ends() {
    let rig = Rig::new(Options::default()).await;
    rig.set_connection(ConnectionState::Paused).await;
    publish_keys(&rig, 10).await;
    let rig = rig.restart(Options::default()).await;
    rig.wait(HOUR).await;
    assert_eq!((rig.connection(), rig.remote.calls().len()), (ConnectionState::Paused, 0));
    rig.set_connection(ConnectionState::Ok).await;
    rig.until_called(10).await;
    assert_eq!(rig.kept().await, Some(ConnectionState::Ok));
}

#[tokio::test(start_paused = true)]
async fn what_the_store_does_not_take_does_not_take_effect() {
    let rig = Rig::new(Options::default()).await;
    rig.acts.refuse(true);
    let refused = rig.hub.set_connection("shop", ConnectionState::Paused, &act()).await;
    assert!(refused.is_err());
    publish_keys(&rig, 10).await;
    rig.until_called(10).await;
    assert_eq!(rig.connection(), ConnectionState::Ok);
    assert_eq!(rig.kept().await, None);
    rig.acts.refuse(false);
    rig.until("what holds is kept", async || rig.kept().await == Some(ConnectionState::Ok)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_does_not_leave_a_pause_half_done() {
    let rig = Rig::new(Options::default()).await;
    let act = act();
    let pausing = rig.hub.set_connection("shop", ConnectionState::Paused, &act);
    tokio::time::timeout(Duration::from_millis(1), pausing).await.expect_err("the store takes longer");
    rig.until("it is paused", async || rig.connection() == ConnectionState::Paused).await;
    assert_eq!(rig.kept().await, Some(ConnectionState::Paused));
}

#[tokio::test(start_paused = true)]
async fn a_pause_whose_answer_was_lost_holds() {
    let rig = Rig::new(Options::default()).await;
    rig.set_connection(ConnectionState::Paused).await;
    rig.acts.lose_answers(true);
    let unsure = rig.hub.set_connection("shop", ConnectionState::Ok, &act()).await;
    assert!(unsure.is_err());
    rig.acts.lose_answers(false);
    publish_keys(&rig, 10).await;
    rig.until_called(10).await;
    assert_eq!((rig.connection(), rig.kept().await), (ConnectionState::Ok, Some(ConnectionState::Ok)));
    rig.acts.lose_answers(true);
    let unsure = rig.hub.set_connection("shop", ConnectionState::Paused, &act()).await;
    assert!(unsure.is_err());
    rig.acts.lose_answers(false);
    rig.until("it is known", async || rig.connection() == ConnectionState::Paused).await;
    assert_eq!(rig.kept().await, Some(ConnectionState::Paused));
}
