//! What arrived and what was answered: the evidence that stands outside the hub.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

use crate::{Place, Received, Tally, order_check::OrderCheck};

/// One request. In a ledger file it is one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The place in the order of arrival, from 1.
    pub n: u64,
    /// When its last byte had arrived.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `webhook-id`: the delivery's stable id.
    pub webhook_id: Option<String>,
    /// Headers that tell deliveries apart, names in lower case. No credential and no signature is among them, unless the
    /// ledger keeps every header.
    pub headers: Vec<(String, String)>,
    /// SHA-256 of the body, in hex.
    pub body_sha256: String,
    /// The length of the body.
    pub body_bytes: u64,
    /// The body, where bodies are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The key whose order is kept.
    pub key: Option<String>,
    /// The sequence within the key.
    pub seq: Option<u64>,
    /// The status that was decided on before answering; 0 if the connection was cut or left hanging.
    pub status: u16,
}

impl Entry {
    /// Whether the sender was told that all is well.
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What a ledger keeps.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Whether entries are kept at all; without, requests are only counted (for benchmarks).
    pub entries: bool,
    /// The most entries in memory; the oldest go first. A file gets every one.
    pub capacity: usize,
    /// Whether bodies are kept, to 64 KiB each.
    pub bodies: bool,
    /// Whether every header is kept, credentials too: for tests that plant secrets and look for them.
    pub every_header: bool,
    /// Also written here, one JSON line per request, before the answer leaves. Appended to what is there.
    pub file: Option<PathBuf>,
    /// Where the key stands.
    pub key: Option<Place>,
    /// Where the sequence stands.
    pub seq: Option<Place>,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            entries: true,
            capacity: 500_000,
            bodies: false,
            every_header: false,
            file: None,
            key: None,
            seq: None,
        }
    }
}

impl LedgerOptions {
    /// Counters only.
    pub fn counts_only() -> Self {
        Self { entries: false, ..Self::default() }
    }

    /// With a file.
    pub fn to_file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }
}

/// How many requests there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub requests: u64,
    /// Answered 2xx.
    pub accepted: u64,
}

/// Something did not arrive in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {waited:?} in vain; so far {seen:?}")]
pub struct TimedOut {
    /// How long was waited.
    pub waited: Duration,
    /// What had arrived by then.
    pub seen: Counts,
}

/// The requests of one receiver, in order of arrival. Shared; every method may be called at any time.
pub struct Ledger {
    options: LedgerOptions,
    kept: Mutex<Kept>,
    counts: watch::Sender<Counts>,
}

#[derive(Default)]
struct Kept {
    entries: VecDeque<Entry>,
    last: u64,
    check: OrderCheck,
    file: Option<File>,
}

impl Ledger {
    pub(crate) fn open(options: LedgerOptions) -> std::io::Result<Self> {
        let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let file = options.file.as_deref().map(append).transpose()?;
        let kept = Mutex::new(Kept { file, ..Kept::default() });
        Ok(Self { options, kept, counts: watch::Sender::new(Counts::default()) })
    }

    /// Writes a request down with the status that it will be answered. Whoever waits is told.
    pub(crate) fn record(&self, request: &Received, status: u16) {
        let accepted = (200..300).contains(&status);
        if self.options.entries {
            let entry = self.entry(request, status);
            let mut kept = self.kept();
            kept.write(entry, accepted, self.options.capacity);
        }
        self.counts.send_modify(|counts| {
            counts.requests += 1;
            counts.accepted += u64::from(accepted);
        });
    }

    /// Where the key of a request stands, if the ledger was told.
    pub(crate) fn key_of(&self, request: &Received) -> Option<String> {
        self.options.key.as_ref()?.find(request)
    }

    fn entry(&self, request: &Received, status: u16) -> Entry {
        let body = &request.body;
        let seq = self.options.seq.as_ref().and_then(|place| place.find(request)?.parse().ok());
        let keep = self.options.bodies && body.len() <= 64 * 1024;
        Entry {
            n: 0,
            at: Timestamp::now(),
            method: request.method.to_string(),
            path: request.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            webhook_id: request.header("webhook-id").map(str::to_owned),
            headers: headers(request, self.options.every_header),
            body_sha256: hex::encode(digest::digest(&digest::SHA256, body)),
            body_bytes: body.len() as u64,
            body: keep.then(|| String::from_utf8_lossy(body).into_owned()),
            key: self.key_of(request),
            seq,
            status,
        }
    }

    /// How many there were so far.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Order and duplicates among what was accepted.
    pub fn tally(&self) -> Tally {
        self.kept().check.tally()
    }

    /// The entries that are kept, in order of arrival.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries_after(0)
    }

    /// The entries that are kept, from the one after number `n`.
    pub fn entries_after(&self, n: u64) -> Vec<Entry> {
        self.kept().entries.iter().filter(|entry| entry.n > n).cloned().collect()
    }

    /// Waits until so many requests have come, whatever they were answered.
    pub async fn wait_for(&self, requests: u64, within: Duration) -> Result<Counts, TimedOut> {
        self.wait_until(within, |counts| counts.requests >= requests).await
    }

    /// Waits until so many requests were accepted.
    pub async fn wait_for_accepted(&self, accepted: u64, within: Duration) -> Result<Counts, TimedOut> {
        self.wait_until(within, |counts| counts.accepted >= accepted).await
    }

    /// Waits until the counts are as asked for.
    pub async fn wait_until(
        &self,
        within: Duration,
        enough: impl Fn(&Counts) -> bool,
    ) -> Result<Counts, TimedOut> {
        let mut counts = self.counts.subscribe();
        match tokio::time::timeout(within, counts.wait_for(|counts| enough(counts))).await {
            Ok(Ok(counts)) => Ok(*counts),
            _ => Err(TimedOut { waited: within, seen: self.counts() }),
        }
    }

    /// Reads a ledger file. A last line that was cut off while it was written is left out.
    pub fn read(path: &Path) -> std::io::Result<Vec<Entry>> {
        let text = std::fs::read_to_string(path)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).map_err(Into::into)).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn write(&mut self, mut entry: Entry, accepted: bool, capacity: usize) {
        self.last += 1;
        entry.n = self.last;
        if accepted {
            self.check.accept(entry.key.as_deref(), entry.seq);
        }
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&entry).expect("an entry is plain data");
            line.push(b'\n');
            file.write_all(&line)
                .expect("the disk of a ledger file must not be full: the evidence would be gone");
        }
        if self.entries.len() >= capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

fn headers(request: &Received, every: bool) -> Vec<(String, String)> {
    const NAMES: [&str; 5] =
        ["content-type", "idempotency-key", "traceparent", "webhook-timestamp", "user-agent"];
    let matters = |name: &str| NAMES.contains(&name) || name.starts_with("ce-") || name.starts_with("x-");
    let secret =
        |name: &str| ["signature", "hmac", "token", "secret", "key"].iter().any(|s| name.contains(s));
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value));
    headers
        .filter(|(name, _)| every || (matters(name) && (*name == "idempotency-key" || !secret(name))))
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
