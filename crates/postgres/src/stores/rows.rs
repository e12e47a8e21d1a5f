//! Columns of rows, and values as they are stored.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_core::{Attempt, Event, Position, StoreError, Topic};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{ColumnIndex, Decode, Postgres, Row, Type, postgres::PgRow};

use crate::errors;

/// The bytes after which a page ends, however many rows were asked for.
pub(super) const PAGE_BYTES: i64 = 1 << 20;

/// A moment as it is stored, in microseconds.
pub(super) type At = jiff_sqlx::Timestamp;

/// A moment as it is stored.
pub(super) fn at(moment: Timestamp) -> At {
    moment.to_sqlx()
}

/// The columns of a row.
pub(super) trait Columns {
    /// The value of a column. One of another type than it should have is damage.
    fn at<'r, T, I>(&'r self, index: I) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<PgRow>;

    /// Text that is stored as bytes.
    fn text<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<String, StoreError>;

    /// Text that is stored as bytes, or none.
    fn text_or_none<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<Option<String>, StoreError>;

    /// A number that is never negative.
    fn number<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<u64, StoreError>;

    /// A moment.
    fn moment<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<Timestamp, StoreError>;

    /// A moment, or none.
    fn moment_or_none<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<Option<Timestamp>, StoreError>;
}

impl Columns for PgRow {
    fn at<'r, T, I>(&'r self, index: I) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<PgRow>,
    {
        self.try_get(index).map_err(|error| StoreError::Damaged(errors::text(&error)))
    }

    fn text<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<String, StoreError> {
        utf8(self.at(index)?)
    }

    fn text_or_none<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<Option<String>, StoreError> {
        self.at::<Option<&[u8]>, _>(index)?.map(utf8).transpose()
    }

    fn number<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<u64, StoreError> {
        let number: i64 = self.at(index)?;
        u64::try_from(number).map_err(|_| StoreError::Damaged(format!("{number} where nothing is negative")))
    }

    fn moment<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<Timestamp, StoreError> {
        Ok(self.at::<At, _>(index)?.to_jiff())
    }

    fn moment_or_none<I: ColumnIndex<PgRow>>(&self, index: I) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.at::<Option<At>, _>(index)?.map(At::to_jiff))
    }
}

fn utf8(bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::Damaged("a text is not UTF-8".to_owned()))
}

/// A number of 32 bits.
pub(super) fn small(number: u64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Damaged(format!("{number} where a small number should be")))
}

/// A position, from the columns of a topic, a partition and an offset.
pub(super) fn position(
    row: &PgRow,
    topic: usize,
    partition: usize,
    offset: usize,
) -> Result<Position, StoreError> {
    Ok(Position {
        topic: Topic::new(row.at(topic)?).map_err(|error| StoreError::Damaged(error.to_string()))?,
        partition: small(row.number(partition)?)?,
        offset: row.at::<i64, _>(offset)? as u64,
    })
}

/// The attributes of an event, without its data.
pub(super) fn attributes_json(event: &Event) -> Vec<u8> {
    serde_json::to_vec(event).expect("an event's attributes are text and times")
}

/// An event from its attributes and its data.
pub(super) fn event(attributes: &[u8], data: &[u8]) -> Result<Arc<Event>, StoreError> {
    let event: Event = serde_json::from_slice(attributes)
        .map_err(|_| StoreError::Damaged("the attributes of an event are not readable".to_owned()))?;
    Ok(Arc::new(Event { data: Bytes::copy_from_slice(data), ..event }))
}

/// Attempts as they are stored.
pub(super) fn attempts_json(attempts: &[Attempt]) -> Vec<u8> {
    serde_json::to_vec(attempts).expect("attempts are texts and numbers")
}

/// Stored attempts.
pub(super) fn attempts(json: &[u8]) -> Result<Vec<Attempt>, StoreError> {
    serde_json::from_slice(json)
        .map_err(|_| StoreError::Damaged("the attempts of a delivery are not readable".to_owned()))
}

/// Texts as an array of bytes.
pub(super) fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Vec<&'t [u8]> {
    texts.into_iter().map(str::as_bytes).collect()
}
