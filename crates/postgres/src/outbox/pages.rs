//! One page after the other, on a connection of the reader's own.

use std::sync::Arc;

use crossdock_core::{OutboxPage, PageMark, StoreError};
use sqlx::{Postgres as Sql, pool::PoolConnection, raw_sql};
use uuid::Uuid;

use super::{
    copy::{self, Answer, Question},
    cursor::{self, Progress},
    holders::holders,
    office::Office,
    reader,
    row::{Decoder, OutboxRow},
    scan::Scan,
};
use crate::{
    errors::{Failure, within},
    pool::{self, Purpose},
};

/// What reads pages.
pub(crate) struct Pages {
    office: Arc<Office>,
    scan: Scan,
    decoder: Decoder,
    connection: Option<PoolConnection<Sql>>,
    mark: PageMark,
    anchor: Option<(i64, Uuid)>,
    /// How large the data of a row is, lately.
    row_bytes: usize,
    /// Whether the last page was full: then there is more, most likely close by.
    full: bool,
    /// Whether somebody was told that the holders of the lock cannot be seen.
    told: bool,
}

/// The primary key serves every statement of the reader; a planner that has not heard yet of many new rows may think otherwise.
const SESSION: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0; SET jit = off";
/// How far to look in a backlog at first. With many partitions behind it, opening all of them takes longer than reading.
const NEAR: i64 = 20_000;

impl Pages {
    pub(crate) fn new(office: Arc<Office>, progress: Progress) -> Self {
        let options = office.options.clone();
        Self {
            scan: Scan::new(options.reading, progress.position, &progress.gaps),
            decoder: Decoder::new(&options.source),
            connection: None,
            mark: 0,
            anchor: progress.anchor,
            row_bytes: 1,
            full: false,
            told: false,
            office,
        }
    }

    /// Reads the next page. After an error nothing is lost: the next one begins where the last one ended.
    pub(crate) async fn next(&mut self) -> Result<OutboxPage, StoreError> {
        let near = self.full.then(|| self.scan.position() + NEAR);
        let page = self.read(near).await?;
        let nothing_near = near.is_some() && page.events.is_empty() && page.malformed.is_empty();
        if nothing_near { self.read(None).await } else { Ok(page) }
    }

    async fn read(&mut self, end: Option<i64>) -> Result<OutboxPage, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let rows_max = (OutboxPage::BYTES_MAX / self.row_bytes.max(1)).clamp(1, OutboxPage::EVENTS_MAX);
        let (position, gaps) = (self.scan.position(), self.scan.asked());
        let question = Question { position, end, gaps: &gaps, rows_max, bytes_max: OutboxPage::BYTES_MAX };
        let asked = copy::ask(&mut connection, &question, &mut self.decoder);
        let answer = match within(self.office.options.call_timeout, asked).await {
            Ok(answer) => answer,
            Err(error) => {
                pool::discard(connection);
                return Err(Failure::Sql(error).into_store_error("reading the outbox"));
            }
        };
        if answer.unfinished {
            pool::discard(connection);
        } else {
            self.connection = Some(connection);
        }
        Ok(self.turn(answer, rows_max, end.is_some()).await)
    }

    /// Makes a page of what came. `near`: there may be more rows farther off.
    async fn turn(&mut self, answer: Answer, rows_max: usize, near: bool) -> OutboxPage {
        let Answer { mut rows, mut cut, .. } = answer;
        let position = self.scan.position();
        let filled = rows.partition_point(|row| row.seq <= position);
        let more = rows.len() - filled == rows_max;
        if filled == rows_max || rows.len() > rows_max {
            rows.truncate(rows_max);
            cut = true;
        }
        // Rows ascend: of a gap behind the last row nothing is known, unless that row itself is behind all gaps.
        let last = rows.last().map_or(position, |row| row.seq);
        let known_to = if cut && last <= position { last } else { i64::MAX };
        let found: Vec<_> = rows.iter().map(|row| row.seq).collect();
        let counted = self.scan.take(&found, known_to);
        self.full = (more || cut) && counted == rows.len();
        let more = self.full || (near && counted > 0);
        rows.truncate(counted);
        self.weigh(rows.iter().map(OutboxRow::bytes).sum(), rows.len());
        if let Some(last) = rows.last().filter(|row| row.seq > position) {
            self.anchor = Some((last.seq, last.id));
        }
        if self.scan.waits() {
            self.look().await;
        }
        self.mark += 1;
        let progress =
            Progress { position: self.scan.position(), gaps: self.scan.gaps(), anchor: self.anchor };
        self.office.read(self.mark, progress);
        reader::page(self.mark, rows, more)
    }

    /// Follows the size of rows: up at once, down slowly.
    fn weigh(&mut self, bytes: usize, rows: usize) {
        if let Some(average) = bytes.checked_div(rows) {
            self.row_bytes = average.max((self.row_bytes * 3 + average) / 4) + 1;
        }
    }

    /// Looks at who may still commit a missing number. If that cannot be seen, the numbers are asked for until it can.
    async fn look(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match within(self.office.options.call_timeout, holders(&mut connection)).await {
            Ok(holders) => {
                self.scan.look(&holders);
                self.connection = Some(connection);
            }
            Err(error) => {
                pool::discard(connection);
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        error = crate::errors::text(&error),
                        "pg_locks cannot be read: numbers that are missing in the outbox are asked for until it can"
                    );
                }
            }
        }
    }

    /// A connection of the reader's own. The database may be another one than before: a standby that took over, a backup.
    async fn connect(&self) -> Result<PoolConnection<Sql>, StoreError> {
        let doing = "reading the outbox";
        let failed = |error| Failure::Sql(error).into_store_error(doing);
        let mut connection = self.office.pools.of(Purpose::Relay).acquire().await.map_err(failed)?;
        let progress = Progress {
            position: self.scan.position(),
            gaps: Vec::new(),
            anchor: self.office.anchor(self.anchor),
        };
        let prepare = async {
            raw_sql(SESSION).execute(&mut *connection).await?;
            cursor::set_back(&mut connection, &progress).await
        };
        match within(self.office.options.call_timeout, prepare).await {
            Ok(None) => Ok(connection),
            Ok(Some(why)) => {
                pool::discard(connection);
                self.office.resign();
                tracing::error!(
                    why,
                    "the outbox is not the one that was read before; the relay begins anew at its cursor"
                );
                Err(cursor::fenced())
            }
            Err(error) => {
                pool::discard(connection);
                Err(failed(error))
            }
        }
    }
}

impl Drop for Pages {
    /// Its settings are its own.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            pool::discard(connection);
        }
    }
}
