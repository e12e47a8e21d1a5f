//! Looks for damage before anything is opened for writing.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::{open::OpenError, wal};

/// Files up to this size are checked whole, which takes some 10 ms; of larger ones, the header and the schema.
/// Damage further inside is found by the read that meets it.
const CHECKED_WHOLE_BYTES_MAX: u64 = 8 << 20;

/// Refuses a damaged database or log of it, and leaves both as they are.
pub(crate) async fn inspect(file: &Path) -> Result<(), OpenError> {
    let damaged = |file: &Path, why: &str| OpenError::Damaged { file: file.to_owned(), why: why.to_owned() };
    let wal_file = file.with_extension("db-wal");
    let path = wal_file.clone();
    // A log of some ten MiB takes some ten ms.
    let looked = tokio::task::spawn_blocking(move || wal::damage(&path)).await.map_err(io::Error::other);
    let unusable = |source| OpenError::unusable(&wal_file, source);
    if let Some(why) = looked.map_err(unusable)?.map_err(unusable)? {
        return Err(damaged(&wal_file, why));
    }
    let header = beginning(file).map_err(|source| OpenError::unusable(file, source))?;
    let Some((bytes, length)) = header else { return Ok(()) };
    if length == 0 {
        return Ok(());
    }
    if let Some(why) = wrong_database(&bytes, length) {
        return Err(damaged(file, why));
    }
    check(file, length).await
}

fn beginning(path: &Path) -> io::Result<Option<(Vec<u8>, u64)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(100).read_to_end(&mut bytes)?;
    Ok(Some((bytes, length)))
}

/// <https://www.sqlite.org/fileformat2.html#the_database_header>
fn wrong_database(bytes: &[u8], length: u64) -> Option<&'static str> {
    if bytes.len() < 100 || !bytes.starts_with(b"SQLite format 3\0") {
        return Some("it does not begin like a database");
    }
    let page = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    if page < 512 || !page.is_power_of_two() || !length.is_multiple_of(page) {
        return Some("it was cut, or its page size is wrong");
    }
    None
}

/// Lets SQLite look, read-only: such a connection writes nothing when it closes.
async fn check(file: &Path, length: u64) -> Result<(), OpenError> {
    let sql = if length <= CHECKED_WHOLE_BYTES_MAX {
        "PRAGMA quick_check(1)"
    } else {
        "SELECT 'ok' FROM (SELECT count(*) FROM sqlite_schema)"
    };
    let looked = async {
        let options = SqliteConnectOptions::new().filename(file).read_only(true).disable_statement_logging();
        let mut connection = options.connect().await?;
        let answer: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    };
    match looked.await {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(answer) => Err(OpenError::Damaged { file: file.to_owned(), why: answer }),
        Err(error) => Err(OpenError::database(file, "checking it", error)),
    }
}
