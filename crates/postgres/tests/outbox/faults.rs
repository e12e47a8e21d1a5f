//! Servers and networks that fail: replicas, backups, connections that lead nowhere (O10, O13, O14, O18).

use std::time::Duration;

use crossdock_core::{Act, Event, Outbox, OutboxLog, PublishError, Published, StoreError, Topic};
use crossdock_postgres::{Postgres, PostgresOptions, Purpose};
use crossdock_testkit::services::private;
use sqlx::{AssertSqlSafe, Executor};
use tokio::time::{Instant, sleep};

use crate::{
    database::Database,
    proxy::Proxy,
    reading::{SOON, claim, data, take},
};

async fn insert(database: &Database, names: &[&str]) {
    let mut connection = database.connect().await;
    for name in names {
        let insert = format!(
            "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', 'k', 't', '{name}')"
        );
        connection.execute(AssertSqlSafe(insert)).await.unwrap();
    }
}

fn event(id: &str) -> Event {
    let attributes = [("id", id), ("source", "/test"), ("type", "t"), ("partitionkey", "k")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Event::from_attributes(attributes, id.to_owned().into()).unwrap()
}

fn act() -> Act {
    Act { actor: "ada".to_owned(), reason: "a backup".to_owned() }
}

#[tokio::test]
async fn a_replica_is_refused_at_the_start_and_after_a_failover() {
    let mut server = private::Postgres::start().await;
    let database = Database::create_on(&server.url()).await;
    let postgres = database.open(database.options()).await;
    insert(&database, &["a"]).await;
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 1).await), ["a"]);
    // A primary server that comes back as a replica of nobody.
    server.stop().await;
    std::fs::write(server.folder().join("cluster/standby.signal"), "").unwrap();
    server.restart().await;
    let refused = Postgres::open(database.options()).await.err().expect("it is a replica");
    assert!(refused.is_final() && refused.to_string().contains("replica"), "{refused}");
    let read = reader.read().await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    assert!(postgres.claim().await.is_err(), "nobody reads a replica");
}

#[tokio::test]
async fn a_database_that_was_set_back_under_a_reader_ends_its_office() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    insert(&database, &["a", "b"]).await;
    let reader = claim(&postgres).await;
    take(&*reader, 2).await;
    // As after a restore: the second row and the number after it are as they never were, and the cursor is older.
    let back = "DELETE FROM crossdock.outbox WHERE seq > 1;
        ALTER TABLE crossdock.outbox ALTER COLUMN seq RESTART WITH 2;
        UPDATE crossdock.outbox_cursor SET position = 1, anchor_seq = NULL, held_until = NULL";
    database.connect().await.execute(sqlx::raw_sql(back)).await.unwrap();
    database.terminate("crossdock/relay").await;
    insert(&database, &["another b", "c"]).await;
    let until = Instant::now() + SOON;
    loop {
        match reader.read().await {
            Err(StoreError::Fenced(_)) => break,
            // The connection that was cut.
            Err(StoreError::Unavailable { .. }) => {}
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < until, "it is noticed");
    }
    let next = claim(&postgres).await;
    assert_eq!(data(&take(&*next, 2).await), ["another b", "c"]);
}

#[tokio::test]
async fn an_outbox_that_is_older_than_its_cursor_waits_for_a_person() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    insert(&database, &["a", "b", "c"]).await;
    let reader = claim(&postgres).await;
    take(&*reader, 3).await;
    reader.release().await.unwrap();
    let back = "DELETE FROM crossdock.outbox WHERE seq > 1; ALTER TABLE crossdock.outbox ALTER COLUMN seq RESTART WITH 2";
    database.connect().await.execute(sqlx::raw_sql(back)).await.unwrap();
    insert(&database, &["another b"]).await;
    for later in ["another c", "d"] {
        match postgres.claim().await {
            Err(StoreError::Conflict(why)) => assert!(why.contains("crossdock outbox rewind"), "{why}"),
            other => panic!("{:?}", other.map(|reader| reader.is_some())),
        }
        // Also when its numbers have caught up.
        insert(&database, &[later]).await;
    }
    let findings = Postgres::findings(&database.options()).await;
    assert!(findings.iter().any(|found| found.detail.contains("set back")), "{findings:?}");
    postgres.outbox_rewind(2, &act()).await.unwrap();
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 3).await), ["another b", "another c", "d"]);
}

#[tokio::test]
async fn whoever_sets_the_cursor_back_loses_nothing_that_is_still_open() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let mut late = database.connect().await;
    let insert_late =
        "BEGIN; INSERT INTO crossdock.outbox (aggregatetype, type, payload) VALUES ('orders', 't', 'late')";
    late.execute(sqlx::raw_sql(insert_late)).await.unwrap();
    insert(&database, &["b", "c"]).await;
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 2).await), ["b", "c"]);
    reader.release().await.unwrap();
    postgres.outbox_rewind(3, &act()).await.unwrap();
    late.execute(sqlx::raw_sql("COMMIT")).await.unwrap();
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 2).await), ["late", "c"]);
    reader.release().await.unwrap();
    postgres.outbox_rewind(99, &act()).await.unwrap();
    insert(&database, &["d"]).await;
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 1).await), ["d"], "and nothing is passed over");
}

#[tokio::test]
async fn connections_that_lead_nowhere_are_left_within_half_a_minute() {
    let database = Database::create().await;
    database.open(database.options()).await.close().await;
    let proxy = Proxy::before(&database.url()).await;
    let mut options = PostgresOptions::parse(&proxy.url(), []).unwrap();
    options.call_timeout = Duration::from_secs(2);
    let postgres = Postgres::open(options).await.unwrap();
    let reader = claim(&postgres).await;
    for round in 0..6 {
        let name = format!("round {round}");
        insert(&database, &[&name]).await;
        proxy.swallow();
        let began = Instant::now();
        assert_eq!(data(&take(&*reader, 1).await), [name.as_str()]);
        while postgres.status().await.is_err() {
            assert!(began.elapsed() < SOON, "every pool recovers");
        }
        let taken = postgres.append(&Topic::new("orders").unwrap(), vec![event(&name)]).await;
        if taken != [Ok(Published::New(None))] {
            // What became of it is not known: it is sent again, and the answer is one of these.
            let again = async || postgres.append(&Topic::new("orders").unwrap(), vec![event(&name)]).await;
            while !matches!(again().await[..], [Ok(_)]) {
                assert!(began.elapsed() < SOON, "intake recovers");
            }
        }
        assert_eq!(data(&take(&*reader, 1).await), [name.as_str()]);
        assert!(began.elapsed() < SOON, "round {round} took {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_is_killed_takes_nothing_and_loses_nothing() {
    let mut server = private::Postgres::start().await;
    let database = Database::create_on(&server.url()).await;
    let mut options = database.options();
    options.call_timeout = Duration::from_secs(2);
    let postgres = database.open(options).await;
    let orders = Topic::new("orders").unwrap();
    assert_eq!(postgres.append(&orders, vec![event("1")]).await, [Ok(Published::New(None))]);
    server.kill();
    let refused = postgres.append(&orders, vec![event("2")]).await;
    assert!(
        matches!(refused[..], [Err(PublishError::Unavailable(_) | PublishError::Unknown)]),
        "{refused:?}"
    );
    assert!(postgres.refusal().is_some(), "a probe is told");
    server.restart().await;
    let until = Instant::now() + SOON;
    while postgres.refusal().is_some() {
        assert!(Instant::now() < until, "it is over by itself: {:?}", postgres.refusal());
        sleep(Duration::from_millis(50)).await;
    }
    while !matches!(postgres.append(&orders, vec![event("2"), event("3")]).await[..], [Ok(_), Ok(_)]) {
        assert!(Instant::now() < until, "it takes events again");
    }
    assert_eq!(postgres.append(&orders, vec![event("1")]).await, [Ok(Published::Duplicate)]);
    let reader = claim(&postgres).await;
    assert_eq!(data(&take(&*reader, 3).await), ["1", "2", "3"]);
    drop(reader);
    postgres.close().await;
    let closed = postgres.append(&orders, vec![event("4")]).await;
    assert!(matches!(closed[..], [Err(PublishError::Unavailable(_))]), "{closed:?}");
    let closed = postgres.call(Purpose::Admin, "asking", |_| Box::pin(async { Ok(()) })).await;
    assert!(matches!(closed, Err(StoreError::Unavailable { .. })), "{closed:?}");
}
