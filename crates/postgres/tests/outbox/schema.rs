//! Migrations.

use crossdock_postgres::{MigrateError, Postgres};
use sqlx::Executor;

use crate::database::Database;

#[tokio::test]
async fn workers_that_start_together_migrate_once() {
    let database = Database::create().await;
    let workers = (0..4).map(|_| {
        let options = database.options();
        tokio::spawn(async move { Postgres::open(options).await.unwrap().migrate().await.unwrap() })
    });
    let mut ran = 0;
    for worker in workers.collect::<Vec<_>>() {
        ran += usize::from(!worker.await.unwrap().ran.is_empty());
    }
    assert_eq!(ran, 1);
}

#[tokio::test]
async fn a_schema_from_a_newer_version_is_refused_with_both_versions() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let newer = "INSERT INTO crossdock.migrations (number, name, checksum) VALUES (900, 'later', '')";
    database.connect().await.execute(newer).await.unwrap();
    match postgres.migrate().await {
        Err(error @ MigrateError::Newer { found: 900, .. }) => assert!(error.is_final(), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_ran_is_found() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    database
        .connect()
        .await
        .execute("UPDATE crossdock.migrations SET checksum = 'x' WHERE number = 1")
        .await
        .unwrap();
    assert!(matches!(postgres.migrate().await, Err(MigrateError::Changed { number: 1, .. })));
}

#[tokio::test]
async fn a_plain_insert_works_before_any_worker_runs() {
    let database = Database::create().await;
    database.open(database.options()).await.close().await;
    let mut application = database.connect().await;
    let insert = r#"INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
        VALUES ('orders', '17', 'order.paid', '{"total": 12.5}')"#;
    assert_eq!(application.execute(insert).await.unwrap().rows_affected(), 1);
}
