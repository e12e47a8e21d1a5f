//! Promises about who owns a partition, and what somebody who lost it can still do.

use std::sync::Arc;

use crossdock_core::{Owner, Partition, Selection, Settled, Settlement, StoreError};

use crate::{
    HasStore,
    held::{behind, delivered, hold_new, ids_and_dues, offsets},
    letters::count,
    sample::{billing, flow, head, held, letter, now, orders, partition, setup},
};

async fn own<S: HasStore>(subject: &S, number: u32) -> Owner {
    let partition = Partition { topic: orders(), number };
    subject.held().adopt(&billing(), &partition).await.expect("the store adopts").owner
}

/// Whoever lost a partition settles nothing any more: the whole call is refused, and nothing of it is done.
pub async fn adopting_anew_fences_the_former_owner<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let ids = hold_new(&subject, vec![head(1, "k", now(&setup)), held(2, "k")]).await;
    let (mut former, elsewhere) = (own(&subject, 0).await, own(&subject, 1).await);
    for life in 0..3u64 {
        let owner = own(&subject, 0).await;
        let batch = vec![
            delivered(ids[0]),
            Settlement::Hold(vec![held(10 + life, "k")]),
            Settlement::DeadLetter {
                letter: Arc::new(letter(2, 422, now(&setup))),
                held: Some(ids[1]),
                replay: None,
            },
        ];
        let refused = subject.settlements().settle(Some(&former), batch).await;
        assert!(matches!(refused, Err(StoreError::Fenced(_))), "life {life}: {refused:?}");
        assert_eq!(
            ids_and_dues(&behind(&subject, "k", 0).await)[..2],
            [(ids[0], Some(now(&setup))), (ids[1], None)]
        );
        let rows = subject.held().count(&billing()).await.expect("the store counts").0;
        assert_eq!(rows, 2 + life, "nothing of the call was done");
        assert_eq!(count(&subject, Selection::default()).await, 0);
        let batch = vec![Settlement::Hold(vec![held(20 + life, "k")])];
        let settled = subject.settlements().settle(Some(&owner), batch).await;
        assert!(matches!(settled.as_deref(), Ok([Settled::Held(_)])), "the owner settles: {settled:?}");
        former = owner;
        subject = if life == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
    let mine = own(&subject, 1).await;
    let late = subject.settlements().settle(Some(&elsewhere), vec![delivered(ids[0])]).await;
    assert!(matches!(late, Err(StoreError::Fenced(_))), "it is another owner's by now: {late:?}");
    let settled = subject.settlements().settle(Some(&mine), vec![Settlement::Hold(Vec::new())]).await;
    settled.expect("the owner settles");
}

/// Flows and partitions have owners of their own, and what is settled without one is not checked.
pub async fn owners_are_of_one_flow_and_partition<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let owner = own(&subject, 0).await;
    own(&subject, 1).await;
    subject.held().adopt(&flow("audit"), &partition()).await.expect("the store adopts");
    let batch = vec![Settlement::Hold(vec![head(1, "k", now(&setup))])];
    let settled = subject.settlements().settle(Some(&owner), batch).await;
    assert!(settled.is_ok(), "others were adopted, not this one: {settled:?}");
    own(&subject, 0).await;
    let batch = vec![Settlement::Hold(vec![held(2, "k")])];
    assert!(subject.settlements().settle(None, batch).await.is_ok(), "nobody is asked who owns it");
    assert_eq!(offsets(&behind(&subject, "k", 0).await), [1, 2]);
}
