//! What the tests themselves leave behind on the server that they share: nothing.

use crossdock_testkit::services;
use crossdock_tests::Database;
use sqlx::{Connection, PgConnection};

async fn server() -> PgConnection {
    PgConnection::connect(&services::postgres()).await.expect("it answers")
}

async fn is_there(name: &str) -> bool {
    let there = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
    there.bind(name).fetch_one(&mut server().await).await.expect("it answers")
}

#[tokio::test]
async fn a_database_goes_with_its_test_also_where_that_fails_with_somebody_connected() {
    let database = Database::create(&services::postgres(), "real").await.expect("it is made");
    let name = database.name().to_owned();
    let mut somebody = PgConnection::connect(database.url()).await.expect("it answers");
    assert!(is_there(&name).await);
    let failed = tokio::spawn(async move {
        let _database = database;
        panic!("as a test that fails");
    });
    assert!(failed.await.expect_err("it fails").is_panic());
    assert!(!is_there(&name).await);
    assert!(somebody.ping().await.is_err(), "the connection is cut");
}

#[tokio::test]
async fn what_a_killed_test_left_behind_goes_with_the_next_one() {
    const LONG_AGO: &str = "killed_1000000000_17_0";
    let make = sqlx::raw_sql("CREATE DATABASE killed_1000000000_17_0");
    // It may be there from a test that was killed itself.
    let _ = make.execute(&mut server().await).await;
    assert!(is_there(LONG_AGO).await);
    let next = Database::create(&services::postgres(), "killed").await.expect("it is made");
    assert!(!is_there(LONG_AGO).await && is_there(next.name()).await);
}
