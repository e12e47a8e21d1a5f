//! Reading a page: one statement, one snapshot, in the binary format of `COPY`.
//!
//! `COPY` is planned each time with the numbers in it, so no generic plan can go wrong, and its rows come without a
//! description of each.

use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use sqlx::PgConnection;

use super::row::{COLUMNS, DATA, Decoder, Fields, NAMES, OutboxRow};

/// Numbers from the first to the last, both included.
pub(crate) type Range = (i64, i64);

/// What is asked for.
pub(crate) struct Question<'a> {
    /// Rows behind this number.
    pub(crate) position: i64,
    /// And up to this one, if anything: then partitions behind it are not opened.
    pub(crate) end: Option<i64>,
    /// And rows with these numbers, which are not behind it. In ascending order.
    pub(crate) gaps: &'a [Range],
    /// At most so many of the former and of the latter.
    pub(crate) rows_max: usize,
    /// At most so many bytes of data, if it is more than one row.
    pub(crate) bytes_max: usize,
}

/// What came.
pub(crate) struct Answer {
    /// By ascending number.
    pub(crate) rows: Vec<OutboxRow>,
    /// Whether rows were left out for their bytes: then nothing is known of what comes after the last one.
    pub(crate) cut: bool,
    /// Whether the connection is still in the middle of the answer, which was too long to be read to its end.
    pub(crate) unfinished: bool,
}

/// Bytes of rows that are left out which are still read, so that the connection can be used again.
const DRAIN_BYTES_MAX: usize = 8 << 20;
/// Signature, flags, and the length of an extension that nobody has.
const HEAD_BYTES: usize = 19;
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Index scans, one loop over the gaps: the primary key serves both parts, and each is sorted by it, so they are merged.
pub(crate) fn statement(question: &Question<'_>) -> String {
    let Question { position, end, gaps, rows_max, .. } = question;
    let end = end.map_or(String::new(), |end| format!(" AND seq <= {end}"));
    let next = format!(
        "SELECT {NAMES} FROM crossdock.outbox WHERE seq > {position}{end} ORDER BY seq LIMIT {rows_max}"
    );
    let (Some((lowest, _)), Some((_, highest))) = (gaps.first(), gaps.last()) else {
        return format!("COPY ({next}) TO STDOUT (FORMAT binary)");
    };
    let (firsts, lasts) = (list(gaps.iter().map(|gap| gap.0)), list(gaps.iter().map(|gap| gap.1)));
    // The bounds of all gaps let the planner leave out partitions; those of each gap are only known when it runs.
    let rows = format!(
        "SELECT * FROM (\
           (SELECT filled.* FROM unnest('{{{firsts}}}'::int8[], '{{{lasts}}}'::int8[]) AS gap (first, last) \
            CROSS JOIN LATERAL (SELECT {NAMES} FROM crossdock.outbox \
              WHERE seq BETWEEN gap.first AND gap.last AND seq BETWEEN {lowest} AND {highest} \
              ORDER BY seq LIMIT {rows_max}) AS filled \
            ORDER BY filled.seq LIMIT {rows_max}) \
           UNION ALL ({next})) AS page ORDER BY seq"
    );
    format!("COPY ({rows}) TO STDOUT (FORMAT binary)")
}

fn list(numbers: impl Iterator<Item = i64>) -> String {
    let mut text = String::new();
    for number in numbers {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&number.to_string());
    }
    text
}

/// Asks. Drop the connection if this is an error or not finished.
pub(crate) async fn ask(
    connection: &mut PgConnection,
    question: &Question<'_>,
    decoder: &mut Decoder,
) -> Result<Answer, sqlx::Error> {
    let statement = statement(question);
    let mut stream = connection.copy_out_raw(&statement).await?;
    let mut answer =
        Answer { rows: Vec::with_capacity(question.rows_max.min(1024)), cut: false, unfinished: false };
    let (mut first, mut bytes, mut drained) = (true, 0, 0);
    while let Some(mut message) = stream.try_next().await? {
        if answer.cut {
            drained += message.len();
            if drained > DRAIN_BYTES_MAX {
                answer.unfinished = true;
                break;
            }
            continue;
        }
        if std::mem::take(&mut first) {
            head(&mut message)?;
        }
        let Some(fields) = fields(&message)? else { continue };
        let data = fields[DATA].map_or_else(Bytes::new, |data| message.slice_ref(data));
        let row = decoder.read(fields, data).map_err(strange)?;
        bytes += row.bytes();
        if bytes > question.bytes_max && !answer.rows.is_empty() {
            answer.cut = true;
        } else {
            answer.rows.push(row);
        }
    }
    Ok(answer)
}

fn head(message: &mut Bytes) -> Result<(), sqlx::Error> {
    if message.len() < HEAD_BYTES || !message.starts_with(SIGNATURE) {
        return Err(strange("the answer does not begin as COPY begins"));
    }
    message.advance(HEAD_BYTES);
    Ok(())
}

/// The fields of a row; none where the rows end.
fn fields(message: &[u8]) -> Result<Option<Fields<'_>>, sqlx::Error> {
    let short = || strange("a row is shorter than it says");
    let mut rest = message;
    let count = rest.try_get_i16().map_err(|_| short())?;
    if count == -1 {
        return Ok(None);
    }
    if usize::try_from(count) != Ok(COLUMNS) {
        return Err(strange("a row has another number of columns than was asked for"));
    }
    let mut fields: Fields<'_> = [None; COLUMNS];
    for field in &mut fields {
        let length = rest.try_get_i32().map_err(|_| short())?;
        // A negative length is a null.
        if let Ok(length) = usize::try_from(length) {
            let (value, behind) = rest.split_at_checked(length).ok_or_else(short)?;
            (*field, rest) = (Some(value), behind);
        }
    }
    Ok(Some(fields))
}

fn strange(what: &'static str) -> sqlx::Error {
    sqlx::Error::Protocol(what.to_owned())
}
