//! Transactions that commit late, never, or in two phases (O1, O3).

use crossdock_testkit::services::private;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{
    database::Database,
    reading::{claim, data, gaps_become, nothing_comes, take},
};

async fn insert(connection: &mut PgConnection, name: &str) {
    let insert = format!(
        "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', 'k', 't', '{name}')"
    );
    connection.execute(AssertSqlSafe(insert)).await.unwrap();
}

#[tokio::test]
async fn an_event_that_is_prepared_waits_for_its_second_phase() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let (mut late, mut quick) = (database.connect().await, database.connect().await);
    let name = format!("two_phases_{}", std::process::id());
    late.execute("BEGIN").await.unwrap();
    insert(&mut late, "late").await;
    insert(&mut quick, "quick").await;
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 1).await), ["quick"]);
    nothing_comes(&*reader, 3).await;
    // Between two looks the transaction changes its name.
    late.execute(AssertSqlSafe(format!("PREPARE TRANSACTION '{name}'"))).await.unwrap();
    late.close().await.unwrap();
    nothing_comes(&*reader, 10).await;
    gaps_become(&postgres, &*reader, 1).await;
    let seen = postgres.outbox_gaps().await.unwrap();
    assert_eq!(seen.gaps, [(1, 1)]);
    assert!(matches!(&seen.holders[..], [one] if one.prepared.as_deref() == Some(&name)), "{seen:?}");
    // Numbers that are given out after it was prepared are not its own.
    quick.execute("BEGIN").await.unwrap();
    insert(&mut quick, "never").await;
    quick.execute("ROLLBACK").await.unwrap();
    insert(&mut quick, "next").await;
    assert_eq!(data(&take(&*reader, 1).await), ["next"]);
    gaps_become(&postgres, &*reader, 1).await;
    quick.execute(AssertSqlSafe(format!("COMMIT PREPARED '{name}'"))).await.unwrap();
    assert_eq!(data(&take(&*reader, 1).await), ["late"]);
    gaps_become(&postgres, &*reader, 0).await;
}

#[tokio::test]
async fn an_event_that_is_prepared_outlives_a_restart_of_the_server() {
    let mut server = private::Postgres::options().setting("max_prepared_transactions=5").start().await;
    let database = Database::create_on(&server.url()).await;
    let postgres = database.open(database.options()).await;
    let (mut late, mut quick) = (database.connect().await, database.connect().await);
    late.execute("BEGIN").await.unwrap();
    insert(&mut late, "late").await;
    insert(&mut quick, "quick").await;
    late.execute("PREPARE TRANSACTION 'late'").await.unwrap();
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 1).await), ["quick"]);
    nothing_comes(&*reader, 2).await;
    // From here on the transaction has another name, and everybody else who held the lock is gone.
    server.restart().await;
    insert(&mut database.connect().await, "next").await;
    assert_eq!(data(&take(&*reader, 1).await), ["next"]);
    nothing_comes(&*reader, 10).await;
    gaps_become(&postgres, &*reader, 1).await;
    database.connect().await.execute("COMMIT PREPARED 'late'").await.unwrap();
    assert_eq!(data(&take(&*reader, 1).await), ["late"]);
}

#[tokio::test]
async fn whoever_holds_an_event_is_named_and_nobody_waits_for_him() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let (mut late, mut quick) = (database.connect().await, database.connect().await);
    late.execute("SET application_name = 'slow coach'").await.unwrap();
    late.execute("BEGIN").await.unwrap();
    insert(&mut late, "late").await;
    let reader = claim(&postgres).await;
    for n in 0..20 {
        insert(&mut quick, &n.to_string()).await;
        take(&*reader, 1).await;
    }
    gaps_become(&postgres, &*reader, 1).await;
    let seen = postgres.outbox_gaps().await.unwrap();
    let [holder] = &seen.holders[..] else { panic!("{seen:?}") };
    assert_eq!(holder.application.as_deref(), Some("slow coach"));
    assert_eq!(holder.state.as_deref(), Some("idle in transaction"));
    assert!(holder.pid.is_some() && holder.since.is_some());
    late.execute("COMMIT").await.unwrap();
    assert_eq!(data(&take(&*reader, 1).await), ["late"]);
}

#[tokio::test]
async fn a_gap_is_known_to_the_next_reader() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let (mut late, mut quick) = (database.connect().await, database.connect().await);
    late.execute("BEGIN").await.unwrap();
    insert(&mut late, "late").await;
    insert(&mut quick, "quick").await;
    let reader = claim(&postgres).await;
    take(&*reader, 1).await;
    reader.release().await.unwrap();
    let reader = claim(&postgres).await;
    nothing_comes(&*reader, 5).await;
    late.execute("COMMIT").await.unwrap();
    assert_eq!(data(&take(&*reader, 1).await), ["late"]);
}

#[tokio::test]
async fn a_large_rollback_costs_little() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let (mut bulk, mut quick) = (database.connect().await, database.connect().await);
    bulk.execute("BEGIN").await.unwrap();
    let many = "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
        SELECT 'orders', 'k', 't', 'never' FROM generate_series(1, 100000)";
    bulk.execute(many).await.unwrap();
    insert(&mut quick, "quick").await;
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 1).await), ["quick"]);
    gaps_become(&postgres, &*reader, 100_000).await;
    assert_eq!(postgres.outbox_gaps().await.unwrap().gaps, [(1, 100_000)]);
    bulk.execute("ROLLBACK").await.unwrap();
    gaps_become(&postgres, &*reader, 0).await;
}

#[tokio::test]
async fn a_large_transaction_that_commits_late_comes_in_pages_and_in_order() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let (mut bulk, mut quick) = (database.connect().await, database.connect().await);
    bulk.execute("BEGIN").await.unwrap();
    let many = "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
        SELECT 'orders', 'k', 't', n::text::bytea FROM generate_series(1, 12000) AS n";
    bulk.execute(many).await.unwrap();
    insert(&mut quick, "quick").await;
    let reader = claim(&postgres).await;
    take(&*reader, 1).await;
    bulk.execute("COMMIT").await.unwrap();
    for n in 0..3 {
        insert(&mut quick, &format!("more {n}")).await;
    }
    let came = take(&*reader, 12_003).await;
    let expected: Vec<_> =
        (1..=12_000).map(|n| n.to_string()).chain((0..3).map(|n| format!("more {n}"))).collect();
    assert_eq!(data(&came), expected);
    gaps_become(&postgres, &*reader, 0).await;
}

#[tokio::test]
async fn a_backlog_with_a_wide_gap_in_it_comes_whole() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let mut writer = database.connect().await;
    let many = "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
        SELECT 'orders', 'k', 't', n::text::bytea FROM generate_series(1, 5000) AS n";
    for jump in [0, 200_000, 900_000] {
        let next = format!(
            "SELECT setval('crossdock.outbox_seq_seq', (SELECT last_value FROM crossdock.outbox_seq_seq) + {jump})"
        );
        writer.execute(AssertSqlSafe(next)).await.unwrap();
        writer.execute(many).await.unwrap();
    }
    let reader = claim(&postgres).await;
    assert_eq!(take(&*reader, 15_000).await.len(), 15_000);
    gaps_become(&postgres, &*reader, 0).await;
}
