//! Partitions: there is always room ahead, and what is done goes.

use std::time::Duration;

use crossdock_core::OutboxLog;
use sqlx::{AssertSqlSafe, Executor, Row};
use tokio::time::{Instant, sleep};

use crate::{
    database::Database,
    reading::{SOON, claim, data, nothing_comes, take},
};

/// New partitions are ten times as large, since so many numbers are behind them.
const ROWS: u64 = 100;

/// Names of partitions in order of their numbers, and rows outside of them.
async fn partitions(database: &Database) -> (Vec<String>, i64) {
    let mut connection = database.connect().await;
    let names = "SELECT relname::text FROM pg_inherits JOIN pg_class ON oid = inhrelid
        WHERE inhparent = 'crossdock.outbox'::regclass AND relname <> 'outbox_default'
        ORDER BY substr(relname, 8)::int8";
    let names = sqlx::query(names).fetch_all(&mut connection).await.unwrap();
    let astray = sqlx::query("SELECT count(*) FROM crossdock.outbox_default")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    (names.iter().map(|row| row.get(0)).collect(), astray.get(0))
}

async fn eventually(database: &Database, what: &str, is: impl Fn(&(Vec<String>, i64)) -> bool) {
    let until = Instant::now() + SOON;
    loop {
        let seen = partitions(database).await;
        if is(&seen) {
            return;
        }
        assert!(Instant::now() < until, "{what}: {seen:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn insert(database: &Database, count: i64) {
    let insert = format!(
        "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
         SELECT 'orders', 'k', 't', n::text::bytea FROM generate_series(1, {count}) AS n"
    );
    database.connect().await.execute(AssertSqlSafe(insert)).await.unwrap();
}

async fn next_number(database: &Database, number: i64) {
    let next = format!("ALTER TABLE crossdock.outbox ALTER COLUMN seq RESTART WITH {number}");
    database.connect().await.execute(AssertSqlSafe(next)).await.unwrap();
}

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_when_all_is_published_and_old() {
    let database = Database::create().await;
    let mut options = database.options();
    (options.partition_rows, options.retention) = (ROWS, Duration::ZERO);
    let postgres = database.open(options).await;
    // The last one that the migration makes begins with 3000001.
    next_number(&database, 3_999_901).await;
    let reader = claim(&postgres).await;
    insert(&database, 100).await;
    take(&*reader, 100).await;
    eventually(&database, "four are free", |(names, _)| names.iter().any(|name| name == "outbox_4003001"))
        .await;
    let mut late = database.connect().await;
    late.execute(
        "BEGIN; INSERT INTO crossdock.outbox (aggregatetype, type, payload) VALUES ('orders', 't', 'late')",
    )
    .await
    .unwrap();
    for _ in 0..4 {
        insert(&database, 500).await;
        take(&*reader, 500).await;
    }
    // Nothing can be taken off a table that somebody has written to and holds on.
    let until = Instant::now() + SOON;
    let rows = "SELECT count(*) FROM crossdock.outbox_3000001";
    while database.connect().await.fetch_one(rows).await.unwrap().get::<i64, _>(0) > 0 {
        assert!(Instant::now() < until, "those before the gap are emptied");
        sleep(Duration::from_millis(50)).await;
    }
    late.execute("COMMIT").await.unwrap();
    assert_eq!(data(&take(&*reader, 1).await), ["late"]);
    insert(&database, 10).await;
    take(&*reader, 10).await;
    eventually(&database, "the full ones go", |(names, _)| names[0] == "outbox_4002001").await;
    nothing_comes(&*reader, 5).await;
    // The next reader begins where rows are gone.
    reader.release().await.unwrap();
    let reader = claim(&postgres).await;
    insert(&database, 10).await;
    take(&*reader, 10).await;
    assert_eq!(postgres.status().await.unwrap().waiting, 0);
}

#[tokio::test]
async fn what_is_kept_is_not_dropped() {
    let database = Database::create().await;
    let mut options = database.options();
    options.partition_rows = ROWS;
    let postgres = database.open(options).await;
    next_number(&database, 999_901).await;
    let reader = claim(&postgres).await;
    insert(&database, 200).await;
    take(&*reader, 200).await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(partitions(&database).await.0[0], "outbox_1");
}

#[tokio::test]
async fn writers_that_outrun_the_partitions_never_fail() {
    let database = Database::create().await;
    let mut options = database.options();
    (options.partition_rows, options.retention) = (ROWS, Duration::ZERO);
    let postgres = database.open(options).await;
    next_number(&database, 3_999_991).await;
    // Nobody makes partitions: no worker runs.
    insert(&database, 100).await;
    assert_eq!(partitions(&database).await.1, 90);
    let reader = claim(&postgres).await;
    take(&*reader, 100).await;
    eventually(&database, "they have a way out", |(names, _)| {
        names.last().is_some_and(|name| name > &"outbox_4000001".to_owned())
    })
    .await;
    for _ in 0..4 {
        insert(&database, 400).await;
        take(&*reader, 400).await;
    }
    eventually(&database, "the way back", |(_, astray)| *astray == 0).await;
}
