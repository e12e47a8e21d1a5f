//! Whether there is room for new events, and if not, why.
//!
//! New events are refused before the file or the disk is quite full: what was accepted still has to be delivered, held,
//! dead-lettered and dropped in the end, and all of that writes.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use sqlx::SqliteConnection;

/// The most that is kept free, of the disk and of a limited file.
const RESERVE_BYTES_MAX: u64 = 64 << 20;

/// What is known about room. Each reason is set and cleared by whoever observes it.
pub(crate) struct Room {
    folder: PathBuf,
    file_bytes_max: Option<u64>,
    reasons: Mutex<Reasons>,
}

#[derive(Default)]
struct Reasons {
    /// The last commit failed.
    write: Option<String>,
    disk: Option<String>,
    file: Option<String>,
}

impl Room {
    pub(crate) fn new(folder: &Path, file_bytes_max: Option<u64>) -> Self {
        Self { folder: folder.to_owned(), file_bytes_max, reasons: Mutex::default() }
    }

    /// Why no new events are taken; none if they are.
    pub(crate) fn refusal(&self) -> Option<String> {
        let reasons = self.lock();
        let reasons = [&reasons.write, &reasons.disk, &reasons.file];
        reasons.into_iter().flatten().next().cloned()
    }

    /// Why there is no room; none if there is, or if nobody has looked.
    pub(crate) fn full(&self) -> Option<String> {
        let reasons = self.lock();
        reasons.disk.as_ref().or(reasons.file.as_ref()).cloned()
    }

    /// What the last commit failed with, or that it did not.
    pub(crate) fn set_write(&self, why: Option<String>) {
        self.lock().write = why;
    }

    /// Looks how much of the disk is free. Blocks for as long as the file system takes to answer.
    pub(crate) fn look_at_disk(&self) {
        // A file system that cannot tell is written to until it refuses.
        let why = rustix::fs::statvfs(&self.folder).ok().and_then(|disk| {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            let (free, all) = (bytes(disk.f_bavail), bytes(disk.f_blocks));
            let reserve = (all / 20).min(RESERVE_BYTES_MAX);
            (free < reserve).then(|| {
                let (free, reserve) = (mebibytes(free), mebibytes(reserve));
                format!(
                    "the disk of {} is full: {free} are free, and the last {reserve} are kept for what was accepted",
                    self.folder.display()
                )
            })
        });
        self.lock().disk = why;
    }

    /// Whether the file had no room for events when it was looked at last.
    pub(crate) fn is_file_full(&self) -> bool {
        self.lock().file.is_some()
    }

    /// Looks whether `more` bytes fit into the file, if it has a limit. Inside the transaction that will write them.
    pub(crate) async fn look_at_file(
        &self,
        connection: &mut SqliteConnection,
        more: usize,
    ) -> Result<(), sqlx::Error> {
        let Some(bytes_max) = self.file_bytes_max else { return Ok(()) };
        let used: i64 = sqlx::query_scalar(
            "SELECT (page_count - freelist_count) * page_size
             FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        )
        .fetch_one(connection)
        .await?;
        let (used, room) = (used.max(0) as u64, bytes_max - (bytes_max / 8).min(RESERVE_BYTES_MAX));
        self.lock().file = (used + more as u64 > room).then(|| {
            let (used, bytes_max) = (mebibytes(used), mebibytes(bytes_max));
            format!(
                "{used} of the data limit of {bytes_max} are in use, and the rest is kept for what was accepted: raise the limit, \
                 or wait until finished events have been kept for their time"
            )
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().expect("no holder of this lock panics")
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
