//! Compares what was delivered with what was committed.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crossdock_sim::{Ledger, Sink};
use tokio::time::Instant;

use crate::application::{Written, body};

/// What the deliveries are like.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub lost: usize,
    /// Delivered, and never committed.
    pub ghosts: usize,
    /// First deliveries that came after a later one of their key.
    pub inverted: usize,
    /// Deliveries of an event that was accepted before.
    pub twice: usize,
}

/// What was accepted, by key: sequence and body in the order of arrival, without repetitions; and how many were repeated.
fn arrived(ledger: &Ledger) -> (BTreeMap<String, Vec<(u64, String)>>, usize) {
    let (mut keys, mut seen, mut twice) = (BTreeMap::<_, Vec<_>>::new(), HashSet::new(), 0);
    for entry in ledger.entries().into_iter().filter(crossdock_sim::Entry::accepted) {
        let (key, seq) = (entry.key.expect("a key"), entry.seq.expect("a sequence"));
        let body = entry.body.expect("bodies are kept");
        if seen.insert((key.clone(), body.clone())) {
            keys.entry(key).or_default().push((seq, body));
        } else {
            twice += 1;
        }
    }
    (keys, twice)
}

fn judge(written: &Written, ledger: &Ledger) -> Verdict {
    let (arrived, twice) = arrived(ledger);
    let mut verdict = Verdict { twice, ..Verdict::default() };
    for (key, attempts) in written {
        let expected: HashSet<_> =
            (1..).zip(attempts).map(|(seq, attempt)| body(key, seq, attempt)).collect();
        let came = arrived.get(key).map_or(&[][..], Vec::as_slice);
        let bodies: HashSet<_> = came.iter().map(|(_, body)| body.clone()).collect();
        verdict.lost += expected.difference(&bodies).count();
        verdict.ghosts += bodies.difference(&expected).count();
        verdict.inverted += came.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    }
    verdict.ghosts += arrived.keys().filter(|key| !written.contains_key(*key)).count();
    verdict
}

/// Waits until nothing is missing any more, for at most `within`, and judges. Whatever comes twice has come by then: a
/// repetition goes before the events that follow it.
pub async fn check(written: &Written, sink: &Sink, within: Duration) -> Verdict {
    let until = Instant::now() + within;
    loop {
        let verdict = judge(written, sink.ledger());
        if verdict.lost == 0 || Instant::now() > until {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
