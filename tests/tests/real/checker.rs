//! Compares what was delivered with what was committed.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crossdock_sim::{Entry, Sink};
use crossdock_tests::Hub;
use serde_json::Value;
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

/// What was accepted, by key: sequence and body in the order of arrival, without repetitions.
type Arrived<'a> = BTreeMap<&'a str, Vec<(u64, &'a str)>>;

/// What was accepted; and how many were accepted before.
fn arrived(entries: &[Entry]) -> (Arrived<'_>, usize) {
    let (mut keys, mut seen, mut twice) = (Arrived::new(), HashSet::new(), 0);
    for entry in entries.iter().filter(|entry| entry.accepted()) {
        let (key, seq) = (entry.key.as_deref().expect("a key"), entry.seq.expect("a sequence"));
        let body = entry.body.as_deref().expect("bodies are kept");
        if seen.insert((key, body)) {
            keys.entry(key).or_default().push((seq, body));
        } else {
            twice += 1;
        }
    }
    (keys, twice)
}

fn judge(written: &Written, entries: &[Entry]) -> Verdict {
    let (arrived, twice) = arrived(entries);
    let mut verdict = Verdict { twice, ..Verdict::default() };
    for (key, attempts) in written {
        let expected: HashSet<_> =
            (1..).zip(attempts).map(|(seq, attempt)| body(key, seq, attempt)).collect();
        let came = arrived.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let bodies: HashSet<_> = came.iter().map(|(_, body)| (*body).to_owned()).collect();
        verdict.lost += expected.difference(&bodies).count();
        verdict.ghosts += bodies.difference(&expected).count();
        verdict.inverted += came.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    }
    let foreign = arrived.iter().filter(|(key, _)| !written.contains_key(**key));
    verdict.ghosts += foreign.map(|(_, came)| came.len()).sum::<usize>();
    verdict
}

/// Waits until nothing is missing any more and judges; whatever is missing after `within` is lost. A hub that still has
/// something to do then, although everything has arrived, fails the test.
pub async fn check(written: &Written, sink: &Sink, worker: &Hub, within: Duration) -> Verdict {
    let until = Instant::now() + within;
    while judge(written, &sink.ledger().entries()).lost > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if judge(written, &sink.ledger().entries()).lost == 0 {
        worker.wait_until("/v1/status", has_nothing_left).await.expect("the hub comes to its end");
    }
    let entries = sink.ledger().entries();
    tell_inversions(&entries);
    judge(written, &entries)
}

fn has_nothing_left(status: &Value) -> bool {
    status["pending"] == 0 && status["held"] == 0 && status["relay"]["waiting"] == 0
}

/// For whoever looks into a failure: which first deliveries came after a later one of their key, and when.
fn tell_inversions(entries: &[Entry]) {
    let (mut latest, mut seen) = (BTreeMap::new(), HashSet::new());
    let firsts = entries.iter().filter(|entry| entry.accepted() && seen.insert((&entry.key, &entry.body)));
    for entry in firsts {
        let before = latest.entry(&entry.key).or_insert(entry);
        if before.seq > entry.seq {
            let event = |entry: &Entry| (entry.key.clone(), entry.seq, entry.webhook_id.clone(), entry.at);
            println!("{:?} came after {:?}", event(entry), event(before));
        } else {
            *before = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use crossdock_sim::Entry;

    use super::{Verdict, judge};
    use crate::application::{Written, body};

    fn written() -> Written {
        [("k1", ["1-0", "2-4"]), ("k2", ["1-1", "2-2"])]
            .map(|(key, attempts)| (key.to_owned(), attempts.map(str::to_owned).to_vec()))
            .into()
    }

    fn entry(status: u16, key: &str, seq: i64, attempt: &str) -> Entry {
        let entry = serde_json::json!({
            "n": 0, "at": "2026-01-01T00:00:00Z", "method": "POST", "path": "/", "headers": [], "body_sha256": "",
            "body_bytes": 0, "body": body(key, seq, attempt), "key": key, "seq": seq, "status": status,
        });
        serde_json::from_value(entry).expect("an entry")
    }

    /// Two events of two keys in between each other, the last one at the second try.
    fn history() -> Vec<Entry> {
        vec![
            entry(200, "k1", 1, "1-0"),
            entry(200, "k2", 1, "1-1"),
            entry(503, "k2", 2, "2-2"),
            entry(200, "k1", 2, "2-4"),
            entry(202, "k2", 2, "2-2"),
        ]
    }

    fn verdict(change: impl Fn(&mut Vec<Entry>)) -> Verdict {
        let mut history = history();
        change(&mut history);
        judge(&written(), &history)
    }

    #[test]
    fn a_good_history_is_good() {
        assert_eq!(verdict(|_| ()), Verdict::default());
    }

    #[test]
    fn each_planted_defect_is_found() {
        let lost = Verdict { lost: 1, ..Verdict::default() };
        assert_eq!(verdict(|history| drop(history.remove(0))), lost, "one is lost");
        assert_eq!(verdict(|history| drop(history.pop())), lost, "what was refused has not arrived");
        let ghost = Verdict { ghosts: 1, ..Verdict::default() };
        assert_eq!(verdict(|history| history.push(entry(200, "k1", 3, "9-9"))), ghost, "never committed");
        assert_eq!(
            verdict(|history| history.push(entry(200, "k1", 2, "9-9"))),
            ghost,
            "an attempt that was rolled back"
        );
        assert_eq!(
            verdict(|history| history.push(entry(200, "k9", 1, "9-9"))),
            ghost,
            "a key that was made up"
        );
        let inverted = Verdict { inverted: 1, ..Verdict::default() };
        assert_eq!(verdict(|history| history.swap(0, 3)), inverted, "the second before the first");
        let twice = Verdict { twice: 1, ..Verdict::default() };
        assert_eq!(
            verdict(|history| history.push(entry(200, "k1", 1, "1-0"))),
            twice,
            "once more, at the end"
        );
        let flip = |history: &mut Vec<Entry>| {
            history[0].body = history[0].body.take().map(|body| body.replace(' ', ""))
        };
        assert_eq!(verdict(flip), Verdict { lost: 1, ghosts: 1, ..Verdict::default() }, "other bytes");
    }
}
