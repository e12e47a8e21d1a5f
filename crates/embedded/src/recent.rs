//! Between the log and the runs: ids that are in memory only, as long as their events are in the log.

use sqlx::SqliteConnection;

use crate::{
    place::Place,
    seen::{self, Merged, Recent, Runs},
};

/// Moves the ids in memory to a run, and remembers for every partition, also of topics that are no longer in the
/// configuration, that its log is in runs up to its end.
pub(crate) async fn merge(
    connection: &mut SqliteConnection,
    runs: &Runs,
    recent: &Recent,
    now: i64,
) -> Result<Option<Merged>, sqlx::Error> {
    let ids = recent.lock().clone();
    if ids.is_empty() {
        return Ok(None);
    }
    let merged = runs.merge(connection, &ids, now).await?;
    // One seek to the last pack of each partition.
    sqlx::query(
        "UPDATE partitions SET merged_to = coalesce(
             (SELECT l.place + l.count - (partitions.id << 46) FROM log l
              WHERE l.place >= partitions.id << 46 AND l.place < (partitions.id + 1) << 46
              ORDER BY l.place DESC LIMIT 1),
             merged_to)",
    )
    .execute(connection)
    .await?;
    Ok(Some(merged))
}

/// Reads the ids that are in the log and in no run.
pub(crate) async fn load(connection: &mut SqliteConnection, recent: &Recent) -> Result<(), sqlx::Error> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT l.place, l.ids FROM partitions p JOIN log l
         ON l.place >= (p.id << 46) + p.merged_to AND l.place < (p.id + 1) << 46",
    )
    .fetch_all(connection)
    .await?;
    let mut recent = recent.lock();
    recent.clear();
    for (place, ids) in rows {
        recent.extend(seen::ids(&ids).zip(place..).map(|(id, place)| (id, Place(place))));
    }
    Ok(())
}
