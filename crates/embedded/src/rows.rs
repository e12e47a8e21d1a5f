//! Statements over several rows: one trip to SQLite's thread instead of many.

use crossdock_core::StoreError;
use futures::{Stream, TryStreamExt};
use sqlx::{
    AssertSqlSafe, ColumnIndex, Decode, Row, Sqlite, SqliteConnection, Type,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{errors, task::Failure};

/// Rows in one statement. Few sizes, so that each statement is prepared once and found again.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// A query with its arguments.
pub(crate) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// The columns of a row.
pub(crate) trait Columns {
    /// The value of a column. One of another type than it should have is damage; the file is not trusted enough to panic.
    fn at<'r, T, I>(&'r self, index: I) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
        I: ColumnIndex<SqliteRow>;
}

impl Columns for SqliteRow {
    fn at<'r, T, I>(&'r self, index: I) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
        I: ColumnIndex<SqliteRow>,
    {
        self.try_get(index).map_err(|error| errors::damaged(&errors::text(&error)))
    }
}

/// The bytes after which a page ends, however many rows were asked for.
pub(crate) const PAGE_BYTES: usize = 1 << 20;

/// Reads rows until there are no more or they weigh `bytes_max` or more; one row at least, if there is any.
pub(crate) async fn page<T>(
    mut rows: impl Stream<Item = Result<SqliteRow, sqlx::Error>> + Unpin,
    bytes_max: usize,
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    weight: impl Fn(&T) -> usize,
) -> Result<Vec<T>, Failure> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max
        && let Some(row) = rows.try_next().await?
    {
        let item = read(&row)?;
        bytes += weight(&item);
        page.push(item);
    }
    Ok(page)
}

/// `head VALUES (?,…),… tail`, in chunks. `bind` adds the `columns` values of one row.
pub(crate) async fn insert<T>(
    connection: &mut SqliteConnection,
    (head, columns, tail): (&str, usize, &str),
    mut rows: &[T],
    mut bind: impl FnMut(Bound, &T) -> Bound,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let mut returned = Vec::new();
    while !rows.is_empty() {
        let (chunk, rest) = rows.split_at(size(rows.len()));
        let query = sqlx::query(AssertSqlSafe(statement((head, columns, tail), chunk.len())));
        let query = chunk.iter().fold(query, &mut bind);
        returned.extend(query.fetch_all(&mut *connection).await?);
        rows = rest;
    }
    Ok(returned)
}

/// The same for rows whose large values are moved into the statement.
pub(crate) async fn insert_owned<T>(
    connection: &mut SqliteConnection,
    (head, columns): (&str, usize),
    rows: Vec<T>,
    mut bind: impl FnMut(Bound, T) -> Bound,
) -> Result<(), sqlx::Error> {
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        let size = size(rows.len());
        let query = sqlx::query(AssertSqlSafe(statement((head, columns, ""), size)));
        rows.by_ref().take(size).fold(query, &mut bind).execute(&mut *connection).await?;
    }
    Ok(())
}

fn size(rows: usize) -> usize {
    SIZES.into_iter().find(|size| *size <= rows).expect("one row is always there")
}

fn statement((head, columns, tail): (&str, usize, &str), rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("{head} VALUES {} {tail}", vec![row; rows].join(","))
}

/// Numbers as the JSON text that `json_each` reads: one bound value for a list of any length.
pub(crate) fn json_list(numbers: impl IntoIterator<Item = i64>) -> String {
    let mut text = String::from("[");
    for number in numbers {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&number.to_string());
    }
    text.push(']');
    text
}
