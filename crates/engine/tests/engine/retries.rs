//! When a delivery is tried again, and when it is given up.

use std::time::Duration;

use crossdock_core::{Class, LetterState, RetryPolicy, Schedule};

use crate::rig::{Options, Rig, fault, fault_for, list, ok};

const HOUR: Duration = Duration::from_secs(3600);

fn options(retry: RetryPolicy) -> Options {
    Options { retry, ..Options::default() }
}

async fn one_event(options: Options) -> Rig {
    let rig = Rig::new(options).await;
    rig.publish([("e0".to_owned(), "k")]).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_stays_what_it_was_over_retries_restarts_and_replays() {
    let options = options(list(&[100, 60_000]));
    let rig = Rig::new(options.clone()).await;
    rig.remote.answers(|_| fault(Class::Transient));
    rig.publish([("e0".to_owned(), "k")]).await;
    rig.until_called(2).await;
    let rig = rig.restart(options).await;
    rig.until("it is dead", async || rig.letters(LetterState::Open).await == 1).await;
    rig.remote.answers(|_| ok());
    rig.replay_all(None).await;
    rig.until_called(4).await;
    let keys: Vec<_> = rig.remote.calls().into_iter().map(|call| call.idempotency_key).collect();
    // Of the flow, the topic, the event's source and its id. Another value makes receivers take every event anew.
    assert_eq!(keys, ["e0_c13efdb7bcdd0535"; 4]);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_on_over_a_restart() {
    let options = options(list(&[100, 60_000, 60_000]));
    let rig = Rig::new(options.clone()).await;
    rig.remote.answers(|_| fault(Class::Transient));
    rig.publish([("e0".to_owned(), "k")]).await;
    rig.until_called(2).await;
    let rig = rig.restart(options).await;
    rig.until("it is dead", async || rig.letters(LetterState::Open).await == 1).await;
    let letter = rig.open_letters().await.remove(0);
    assert_eq!((letter.attempts, rig.remote.calls().len()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_later_than_max_age() {
    let rig = one_event(options(RetryPolicy { max_age: Some(HOUR), ..list(&[600_000; 20]) })).await;
    rig.remote.answers(|_| fault(Class::Transient));
    rig.until("it is dead", async || rig.letters(LetterState::Open).await == 1).await;
    let last = rig.remote.calls().pop().expect("it was tried").at;
    assert!(last <= HOUR + Duration::from_secs(1) && last > HOUR - Duration::from_secs(660), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_max_age_delays_and_does_not_kill() {
    let rig = Rig::new(options(RetryPolicy { max_age: Some(HOUR), ..list(&[1000, 1000]) })).await;
    rig.remote.answers(|call| if call.nth == 1 { fault_for(Class::Transient, 7200) } else { ok() });
    rig.publish([("e0".to_owned(), "k")]).await;
    rig.until_called(2).await;
    let waited = rig.remote.calls()[1].at;
    assert!(waited > HOUR - Duration::from_secs(2) && waited <= HOUR + Duration::from_secs(1), "{waited:?}");
    assert_eq!(rig.letters(LetterState::Open).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_clamped_to_what_the_flow_allows() {
    let policy = RetryPolicy { retry_after_max: Duration::from_secs(30), ..list(&[1000, 1000]) };
    let rig = Rig::new(options(policy)).await;
    rig.remote.answers(|call| if call.nth == 1 { fault_for(Class::Transient, 7200) } else { ok() });
    rig.publish([("e0".to_owned(), "k")]).await;
    rig.until_called(2).await;
    let waited = rig.remote.calls()[1].at.as_secs();
    assert!((30..=31).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn first_deliveries_of_a_key_keep_their_order_through_both_tiers() {
    let rig = Rig::new(options(list(&[100, 30_000, 100]))).await;
    rig.remote
        .answers(|call| if call.event == "e0" && call.nth < 4 { fault(Class::Transient) } else { ok() });
    rig.publish((0..200).map(|n| (format!("e{n}"), "k"))).await;
    rig.publish([("other".to_owned(), "another")]).await;
    rig.until_called(204).await;
    let calls: Vec<_> = rig.remote.calls().into_iter().map(|call| call.event).collect();
    let others = calls.iter().position(|event| event == "other").expect("it came");
    assert!(others <= 2, "another key does not wait: it was number {others}");
    let mine: Vec<_> = calls.into_iter().filter(|event| event != "other").collect();
    let expected: Vec<_> =
        ["e0"; 3].into_iter().map(str::to_owned).chain((0..200).map(|n| format!("e{n}"))).collect();
    assert_eq!(mine, expected);
}

#[tokio::test(start_paused = true)]
async fn answers_of_the_store_that_get_lost_strand_nothing_and_turn_no_order() {
    let rig = Rig::new(options(list(&[100, 30_000, 90_000, 100]))).await;
    rig.settlements.lose_answers();
    rig.remote.answers(|call| {
        let fails = call.event.ends_with('3') && call.nth < 4;
        if fails { fault(Class::Transient) } else { ok() }
    });
    for n in 0..60 {
        rig.publish([(format!("e{n}"), ["k", "l"][n % 2])]).await;
        rig.wait(Duration::from_secs(2)).await;
    }
    rig.until("all arrived", async || rig.hub.status().await.is_ok_and(|status| status.delivered >= 60))
        .await;
    let mut seen = Vec::new();
    rig.remote.calls().into_iter().for_each(|call| {
        if !seen.contains(&call.event) {
            seen.push(call.event);
        }
    });
    for parity in 0..2 {
        let of_key = |event: &&String| event[1..].parse::<usize>().expect("a number") % 2 == parity;
        let came: Vec<_> = seen.iter().filter(of_key).cloned().collect();
        let sent: Vec<_> = (0..60).filter(|n| n % 2 == parity).map(|n| format!("e{n}")).collect();
        assert_eq!(came, sent);
    }
    rig.until("nothing is left", async || {
        let status = rig.hub.status().await.expect("a status");
        (status.held, status.pending) == (0, 0)
    })
    .await;
    assert_eq!(rig.hub.status().await.expect("a status").delivered, 60);
}

#[tokio::test(start_paused = true)]
async fn keys_that_fail_for_hours_leave_room_for_the_others() {
    let retry = RetryPolicy { schedule: Schedule::Fixed(Duration::from_secs(1)), ..list(&[]) };
    let rig = Rig::new(options(retry)).await;
    rig.remote.answers(|call| if call.event == "good" { ok() } else { fault(Class::Transient) });
    let keys: Vec<_> = (0..3000).map(|n| format!("k{n}")).collect();
    rig.publish(keys.iter().enumerate().map(|(n, key)| (format!("e{n}"), key.as_str()))).await;
    rig.wait(Duration::from_secs(60)).await;
    rig.publish([("good".to_owned(), "good")]).await;
    rig.until("it arrived", async || rig.remote.counts().contains_key("good")).await;
    let waited = rig.remote.calls().pop().expect("it came").at;
    assert!(waited < Duration::from_secs(120), "{waited:?}");
}
