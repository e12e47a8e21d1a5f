//! Promises about lag: what people read and alarms watch.

use std::collections::BTreeSet;

use crossdock_core::GroupLag;

use crate::{
    HasBroker,
    eventually::eventually,
    reader::{Reader, complete, publish},
    sample::{billing, event, events, flow, orders, setup, setup_of},
};

/// Every partition is listed once, and one without open work is level with its end.
pub async fn lag_lists_every_partition<S: HasBroker>() {
    let setup = setup_of(&[("billing", &["orders", "returns"])], &[]);
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    reader.until_assigned(4).await;
    let lag = subject.broker().lag(&billing()).await.expect("a group of the setup");
    let listed: BTreeSet<_> = lag.iter().map(|lag| lag.partition.clone()).collect();
    assert_eq!((lag.len(), listed), (4, reader.assigned));
    for lag in lag {
        assert_eq!((lag.pending, lag.committed), (0, lag.end), "{}", lag.partition);
    }
}

/// Pending counts what is not finished: what was not read yet, what is out, and gaps where they are kept.
pub async fn lag_counts_what_is_not_finished<S: HasBroker>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let mut reader = Reader::join(&subject, &setup, &billing()).await;
    publish(subject.broker().as_ref(), &orders(), events("k", 0..10)).await;
    let before = lag_with_pending(&subject, 10).await;
    assert!(before.end >= before.committed + 10, "{before:?}");
    let mut came = reader.take(10).await;
    let first = came[0].position.offset;
    assert_eq!(lag_with_pending(&subject, 10).await.committed, first);
    came.remove(5).complete();
    let gap = lag_with_pending(&subject, if S::KEEPS_GAPS { 9 } else { 10 }).await;
    assert_eq!(gap.committed, first, "the lowest unfinished offset has not moved");
    came.remove(0).complete();
    let second = lag_with_pending(&subject, if S::KEEPS_GAPS { 8 } else { 9 }).await;
    assert_eq!(second.committed, came[0].position.offset);
    complete(came);
    let after = lag_with_pending(&subject, 0).await;
    assert_eq!(after.committed, after.end);
}

/// The lag of the partition that has any, once the sum over all is so much.
async fn lag_with_pending<S: HasBroker>(subject: &S, pending: u64) -> GroupLag {
    eventually(&format!("a lag of {pending}"), async || {
        let lag = subject.broker().lag(&billing()).await.map_err(|error| error.to_string())?;
        let sum: u64 = lag.iter().map(|lag| lag.pending).sum();
        if sum != pending {
            return Err(format!("{lag:?}"));
        }
        Ok(lag.into_iter().max_by_key(|lag| (lag.pending, lag.end)).expect("two partitions"))
    })
    .await
}

/// Each group has a lag of its own; it is the same after a restart, before anybody has joined again.
pub async fn lag_is_the_groups_own_and_outlives_a_restart<S: HasBroker>() {
    let setup = setup_of(&[("billing", &["orders"]), ("audit", &["orders"])], &[]);
    let subject = S::create(&setup).await;
    let mut one = Reader::join(&subject, &setup, &billing()).await;
    let two = Reader::join(&subject, &setup, &flow("audit")).await;
    let many: Vec<_> = (0..12).map(|n| event(&format!("e{n}"), &format!("k{n}"))).collect();
    publish(subject.broker().as_ref(), &orders(), many).await;
    complete(one.take(12).await);
    drop((one, two));
    let subject = subject.reopen(&setup).await;
    for (group, expected) in [(billing(), 0), (flow("audit"), 12)] {
        eventually("the lag of each group", async || {
            let lag = subject.broker().lag(&group).await.map_err(|error| error.to_string())?;
            let sum: u64 = lag.iter().map(|lag| lag.pending).sum();
            if sum == expected { Ok(()) } else { Err(format!("{group}: {lag:?}")) }
        })
        .await;
    }
}
