//! Promises about leases. Their time is the store's, so these cases wait for real time: lives are short, and whatever must come
//! is polled for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossdock_core::{Holdings, Lease, Leases, WorkerId};
use tokio::time::{Instant, sleep};

use crate::{HasLeases, eventually::eventually, sample::setup};

/// How long a lease lives in a test that lets it run out, and how long in one that does not.
const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(300);

fn worker(name: &str) -> WorkerId {
    name.to_owned()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn take(leases: &dyn Leases, who: &str, what: &[&str], ttl: Duration) -> BTreeMap<String, u64> {
    let taken = leases.take("scope", &worker(who), &names(what), ttl).await.expect("the store answers");
    assert!(
        taken.iter().all(|lease| lease.holder == who && what.contains(&lease.name.as_str())),
        "{taken:?}"
    );
    taken.into_iter().map(|lease| (lease.name, lease.epoch)).collect()
}

async fn renew(leases: &dyn Leases, who: &str, ttl: Duration) -> Holdings {
    leases.renew("scope", &worker(who), ttl).await.expect("the store answers")
}

fn held_by(holdings: &Holdings, who: &str) -> Vec<String> {
    holdings.leases.iter().filter(|lease| lease.holder == who).map(|lease| lease.name.clone()).collect()
}

/// A lease is held by one worker, who may take it again and keeps its epoch.
pub async fn a_lease_has_one_holder<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    let first = take(&*leases, "one", &["a", "b"], LONG).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(first.values().all(|epoch| *epoch >= 1), "epochs begin at 1");
    let second = take(&*leases, "two", &["a", "b", "c"], LONG).await;
    assert_eq!(second.keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(take(&*leases, "one", &["b", "a", "c"], LONG).await, first);
    assert_eq!(take(&*leases, "one", &[], LONG).await, BTreeMap::new());
    let holdings = renew(&*leases, "two", LONG).await;
    let expected = ["a", "b", "c"].map(|name| {
        let (holder, epoch) = first.get(name).map_or(("two", second["c"]), |epoch| ("one", *epoch));
        Lease { name: name.to_owned(), holder: worker(holder), epoch }
    });
    assert_eq!(holdings.leases, expected, "by name, whoever asks");
}

/// Many that take everything at once get it once.
pub async fn leases_taken_at_once_are_given_once<S: HasLeases>() {
    let subject = Arc::new(S::create(&setup()).await);
    let all: Vec<_> = (0..24).map(|n| format!("shard-{n}")).collect();
    let rivals = (0..8).map(|n| {
        let (subject, mut wanted) = (subject.clone(), all.clone());
        // In different orders, as a store that locks row by row would not like it.
        wanted.rotate_left(n * 3);
        tokio::spawn(async move {
            let taken = subject.leases().take("scope", &format!("w{n}"), &wanted, LONG).await;
            taken.expect("the store answers")
        })
    });
    let mut given = Vec::new();
    for rival in rivals.collect::<Vec<_>>() {
        given.extend(rival.await.expect("the rival ends well").into_iter().map(|lease| lease.name));
    }
    given.sort();
    let mut all = all;
    all.sort();
    assert_eq!(given, all);
}

/// A lease that is renewed in time stays, however long that goes on.
pub async fn a_lease_that_is_renewed_stays<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    let life = 4 * SHORT;
    take(&*leases, "one", &["a"], life).await;
    let began = Instant::now();
    while began.elapsed() < 2 * life {
        assert_eq!(held_by(&renew(&*leases, "one", life).await, "one"), ["a"]);
        assert_eq!(take(&*leases, "two", &["a"], life).await, BTreeMap::new());
        sleep(SHORT / 4).await;
    }
}

/// A lease that is not renewed runs out: another one gets it, with a higher epoch, and the former holder learns of it.
pub async fn a_lease_that_is_not_renewed_goes_to_another<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    let mut epoch = take(&*leases, "one", &["a"], SHORT).await["a"];
    for (holder, next) in [("one", "two"), ("two", "one")] {
        let taken = eventually("it runs out", async || {
            let taken = take(&*leases, next, &["a"], SHORT).await;
            taken.get("a").copied().ok_or_else(|| format!("{holder} holds it"))
        })
        .await;
        assert!(taken > epoch, "{next} has the epoch {taken} after {epoch}");
        epoch = taken;
        assert_eq!(held_by(&renew(&*leases, holder, SHORT).await, holder), [""; 0]);
    }
}

/// A lease that ran out is not extended, although nobody has taken it.
pub async fn a_lease_that_ran_out_is_not_extended<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    let before = take(&*leases, "one", &["a"], SHORT).await["a"];
    eventually("it runs out", async || {
        let holdings = renew(&*leases, "two", SHORT).await;
        if holdings.leases.is_empty() { Ok(()) } else { Err(format!("{holdings:?}")) }
    })
    .await;
    assert_eq!(renew(&*leases, "one", SHORT).await.leases, []);
    let again = take(&*leases, "one", &["a"], LONG).await["a"];
    assert!(again > before, "somebody may have held it in between: {again} after {before}");
}

/// A lease that its holder lets go is free at once; nobody else can let it go.
pub async fn a_lease_that_is_let_go_is_free<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    let before = take(&*leases, "one", &["a", "b"], LONG).await;
    leases.release("scope", &worker("two"), &names(&["a", "b", "nothing"])).await.expect("the store answers");
    assert_eq!(take(&*leases, "two", &["a", "b"], LONG).await, BTreeMap::new());
    leases.release("scope", &worker("one"), &names(&["a"])).await.expect("the store answers");
    let after = take(&*leases, "two", &["a", "b"], LONG).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), ["a"]);
    assert!(after["a"] > before["a"]);
    leases.release("scope", &worker("one"), &names(&["a"])).await.expect("the store answers");
    assert_eq!(
        held_by(&renew(&*leases, "two", LONG).await, "two"),
        ["a"],
        "it is not the first one's any more"
    );
}

/// Workers count while they renew, by ascending id, and the one that asks is among them.
pub async fn workers_count_while_they_renew<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    assert_eq!(renew(&*leases, "b", LONG).await.workers, ["b"]);
    assert_eq!(renew(&*leases, "c", SHORT).await.workers, ["b", "c"]);
    assert_eq!(renew(&*leases, "a", LONG).await.workers, ["a", "b", "c"]);
    eventually("the silent one counts no more", async || {
        let workers = renew(&*leases, "a", LONG).await.workers;
        if workers == ["a", "b"] { Ok(()) } else { Err(format!("{workers:?}")) }
    })
    .await;
}

/// Who leaves counts no more and holds nothing.
pub async fn who_leaves_holds_nothing<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    renew(&*leases, "one", LONG).await;
    renew(&*leases, "two", LONG).await;
    let before = take(&*leases, "one", &["a", "b"], LONG).await;
    take(&*leases, "two", &["c"], LONG).await;
    leases.leave("scope", &worker("one")).await.expect("the store answers");
    leases.leave("scope", &worker("nobody")).await.expect("the store answers");
    let holdings = renew(&*leases, "two", LONG).await;
    assert_eq!(
        (holdings.workers.as_slice(), held_by(&holdings, "two")),
        (&[worker("two")][..], names(&["c"]))
    );
    assert_eq!(holdings.leases.len(), 1);
    let after = take(&*leases, "two", &["a", "b"], LONG).await;
    assert!(after["a"] > before["a"] && after["b"] > before["b"]);
}

/// Scopes know nothing of each other.
pub async fn scopes_are_apart<S: HasLeases>() {
    let subject = S::create(&setup()).await;
    let leases = subject.leases();
    take(&*leases, "one", &["a"], LONG).await;
    let other = leases.take("other", &worker("two"), &names(&["a"]), LONG).await.expect("the store answers");
    assert_eq!(other.len(), 1);
    leases.leave("other", &worker("one")).await.expect("the store answers");
    let holdings = leases.renew("other", &worker("two"), LONG).await.expect("the store answers");
    assert_eq!((holdings.workers.len(), holdings.leases.len()), (1, 1));
    assert_eq!(held_by(&renew(&*leases, "one", LONG).await, "one"), ["a"]);
}

/// Epochs go on ascending over restarts, also of leases that nobody holds.
pub async fn epochs_outlive_a_restart<S: HasLeases>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    let mut last = 0;
    for life in 0..4 {
        let leases = subject.leases();
        let epoch = take(&*leases, "one", &["a"], LONG).await["a"];
        assert!(epoch > last, "life {life}: {epoch} after {last}");
        last = epoch;
        leases.release("scope", &worker("one"), &names(&["a"])).await.expect("the store answers");
        drop(leases);
        subject = if life % 2 == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
}
