//! Promises about what is remembered of groups.

use std::{collections::BTreeSet, sync::Arc};

use crossdock_core::{Group, Topic};

use crate::{
    HasCheckpoints,
    sample::{billing, flow, orders, setup, topic},
};

async fn begun<S: HasCheckpoints>(subject: &S, group: &Group) -> Vec<Topic> {
    let mut topics = subject.checkpoints().begun(group).await.expect("the store answers");
    topics.sort();
    topics
}

/// What a group has begun to read stays begun, over restarts, and is its own.
pub async fn what_a_group_has_begun_is_remembered<S: HasCheckpoints>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    assert_eq!(begun(&subject, &billing()).await, []);
    let begin = async |subject: &S, topics: &[Topic]| {
        subject.checkpoints().begin(&billing(), topics).await.expect("the store writes");
    };
    begin(&subject, &[orders()]).await;
    for life in 0..3 {
        assert_eq!(begun(&subject, &billing()).await, [orders()], "life {life}");
        begin(&subject, &[orders(), orders()]).await;
        begin(&subject, &[]).await;
        assert_eq!(begun(&subject, &flow("audit")).await, []);
        subject = if life == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
    begin(&subject, &[topic("returns"), orders()]).await;
    assert_eq!(begun(&subject, &billing()).await, [orders(), topic("returns")]);
}

/// Workers that begin at once get in nobody's way.
pub async fn groups_begin_at_once<S: HasCheckpoints>() {
    let subject = Arc::new(S::create(&setup()).await);
    let topics: Vec<_> = (0..6).map(|n| topic(&format!("t{n}"))).collect();
    let workers = (0..8).map(|n| {
        let (subject, mut topics) = (subject.clone(), topics.clone());
        topics.rotate_left(n % 6);
        tokio::spawn(async move {
            subject.checkpoints().begin(&billing(), &topics[..4]).await.expect("the store writes");
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("the worker ends well");
    }
    let all: BTreeSet<_> = begun(subject.as_ref(), &billing()).await.into_iter().collect();
    assert_eq!(all, topics.into_iter().collect());
}
