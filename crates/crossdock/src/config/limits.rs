//! `limits:` how much is taken in.

use super::{
    duration::{self, RATE_HELP, SIZE_HELP},
    reader::{Fields, Reader},
};

/// The smallest limit of the data folder: some of the largest events, and room to hold them.
const DATA_BYTES_MIN: u64 = 16 << 20;
const DATA_HELP: &str = "a size of at least `16MiB`, for example `10GiB`";

/// The limits at the entrance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The largest body of a request, in bytes. Default 1 MiB.
    pub body_bytes_max: usize,
    /// The largest size of the database in the data folder, in bytes; none for the size of the disk, the default. New events
    /// are refused a little earlier; SQLite's log beside the database comes on top, usually some ten MiB.
    pub data_bytes_max: Option<u64>,
    /// The most events a second over all ways in; none for no limit, the default.
    pub rate: Option<f64>,
    /// The most events that may wait in the outbox; with more, nothing is taken in over HTTP; the store's own limit
    /// if it is not written, 10,000,000. Applications
    /// that write to the outbox themselves are not held up.
    pub outbox_events_max: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 1 << 20, data_bytes_max: None, rate: None, outbox_events_max: None }
    }
}

impl Reader<'_> {
    /// The limits of a file.
    pub fn limits(&mut self, fields: &Fields<'_>) -> Limits {
        let mut limits = Limits::default();
        let Some(entry) = fields.entry("limits") else { return limits };
        let Some(fields) =
            self.fields(&entry.node, "`limits`", &entry.at, &["body", "data", "rate", "outbox"])
        else {
            return limits;
        };
        if let Some(node) = fields.get("body") {
            let bytes = self.parsed(node, "`body`", SIZE_HELP, |text| {
                duration::size(text).and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0)
            });
            limits.body_bytes_max = bytes.unwrap_or(limits.body_bytes_max);
        }
        if let Some(node) = fields.get("data") {
            limits.data_bytes_max = self.parsed(node, "`data`", DATA_HELP, |text| {
                duration::size(text).filter(|bytes| *bytes >= DATA_BYTES_MIN)
            });
        }
        if let Some(node) = fields.get("rate") {
            limits.rate = self.parsed(node, "`rate`", RATE_HELP, duration::rate);
        }
        if let Some(node) = fields.get("outbox") {
            limits.outbox_events_max = self.integer(node, "`outbox`", 1, u64::MAX);
        }
        limits
    }
}
