//! What `check --online` says, and what `open` refuses.

use crossdock_core::{OutboxLog, Severity};
use crossdock_postgres::{Postgres, PostgresOptions};
use crossdock_testkit::services::{self, private};
use sqlx::{AssertSqlSafe, Executor};

use crate::database::Database;

/// The worst findings, with what to do.
async fn errors(url: &str) -> Vec<String> {
    let options = PostgresOptions::parse(url, []).unwrap();
    let findings = Postgres::findings(&options).await;
    let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors
        .map(|found| format!("{}: {} → {}", found.subject, found.detail, found.remedy.expect("a remedy")))
        .collect()
}

fn with_user(url: &str, user: &str) -> String {
    let (_, place) = url.split_once('@').expect("a user");
    format!("postgres://{user}@{place}")
}

async fn role(database: &Database, name: &str) -> String {
    let role = format!("{name}_{}", std::process::id());
    let make = format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN");
    database.connect().await.execute(AssertSqlSafe(make)).await.unwrap();
    role
}

#[tokio::test]
async fn a_new_database_lacks_its_tables_and_nothing_else() {
    let database = Database::create().await;
    let findings = Postgres::findings(&database.options()).await;
    let missing: Vec<_> = findings.iter().filter(|found| found.severity != Severity::Ok).collect();
    assert!(
        matches!(missing[..], [found] if found.severity == Severity::Missing && found.subject == "schema"),
        "{findings:?}"
    );
    database.open(database.options()).await;
    let findings = Postgres::findings(&database.options()).await;
    assert!(findings.iter().all(|found| found.severity == Severity::Ok), "{findings:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_away_and_named() {
    let port = private::free_port();
    let url = format!("postgres://hub@127.0.0.1:{port}/shop");
    let found = errors(&url).await;
    assert!(matches!(&found[..], [one] if one.contains(&format!("127.0.0.1:{port}/shop"))), "{found:?}");
    let error =
        Postgres::open(PostgresOptions::parse(&url, []).unwrap()).await.err().expect("nobody listens");
    assert!(!error.is_final(), "{error}");
}

#[tokio::test]
async fn a_missing_database_comes_with_its_statement() {
    let (server, _) =
        services::postgres().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let url = format!("{server}/nobody_made_this");
    let found = errors(&url).await;
    assert!(
        matches!(&found[..], [one] if one.contains("CREATE DATABASE \"nobody_made_this\" OWNER")),
        "{found:?}"
    );
    let error =
        Postgres::open(PostgresOptions::parse(&url, []).unwrap()).await.err().expect("it is not there");
    assert!(error.is_final(), "{error}");
}

#[tokio::test]
async fn a_missing_right_comes_with_its_grant() {
    let database = Database::create().await;
    let role = role(&database, "crossdock_test_poor").await;
    let url = with_user(&database.url(), &role);
    let found = errors(&url).await;
    let grant = format!("GRANT CREATE ON DATABASE {} TO \"{role}\";", database.quoted());
    assert!(matches!(&found[..], [one] if one.contains(&grant)), "{found:?} has no {grant}");
    let postgres = Postgres::open(PostgresOptions::parse(&url, []).unwrap()).await.unwrap();
    let refused = postgres.migrate().await.expect_err("it may not").to_string();
    assert!(refused.contains(&grant), "{refused}");
    database.connect().await.execute(AssertSqlSafe(grant)).await.unwrap();
    postgres.migrate().await.expect("the grant is enough");
    assert_eq!(errors(&url).await, [""; 0]);
    postgres.close().await;
    let drop = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
    database.connect().await.execute(AssertSqlSafe(drop)).await.unwrap();
}

#[tokio::test]
async fn tables_of_another_user_come_with_the_grant_that_opens_them() {
    let database = Database::create().await;
    database.open(database.options()).await.close().await;
    let role = role(&database, "crossdock_test_guest").await;
    let url = with_user(&database.url(), &role);
    let options = || PostgresOptions::parse(&url, []).unwrap();
    let grant = |found: &[String]| match found {
        [one] => one.split_once("type as a superuser: ").expect("a statement").1.to_owned(),
        several => panic!("one thing is wrong: {several:?}"),
    };
    let all = format!("GRANT \"crossdock\" TO \"{role}\";");
    // Closed altogether, then open to look at, as somebody may have tried.
    assert_eq!(grant(&errors(&url).await), all);
    let look = format!(
        "GRANT USAGE ON SCHEMA crossdock TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA crossdock TO {role}"
    );
    database.connect().await.execute(AssertSqlSafe(look)).await.unwrap();
    let found = errors(&url).await;
    assert!(found[0].contains("does not own these tables"), "{found:?}");
    assert_eq!(grant(&found), all);
    let postgres = Postgres::open(options()).await.unwrap();
    let told = crossdock_core::chain(&postgres.claim().await.err().expect("it may not"));
    assert!(told.contains("`crossdock check --online` names the GRANT"), "{told}");
    postgres.close().await;
    database.connect().await.execute(AssertSqlSafe(all)).await.unwrap();
    assert_eq!(errors(&url).await, [""; 0]);
    let postgres = Postgres::open(options()).await.unwrap();
    postgres.migrate().await.expect("there is nothing to do");
    assert!(postgres.claim().await.expect("it may").is_some());
    postgres.close().await;
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    database.connect().await.execute(AssertSqlSafe(drop)).await.unwrap();
}

#[tokio::test]
async fn an_outbox_that_gives_numbers_out_ahead_is_found() {
    let database = Database::create().await;
    database.open(database.options()).await;
    database.connect().await.execute("ALTER SEQUENCE crossdock.outbox_seq_seq CACHE 20").await.unwrap();
    let found = errors(&database.url()).await;
    assert!(matches!(&found[..], [one] if one.contains("CACHE 1;")), "{found:?}");
}

#[tokio::test]
async fn a_wrong_password_and_little_room_are_named() {
    let server = private::Postgres::options()
        .setting("max_connections=20")
        .access("host all guarded 127.0.0.1/32 scram-sha-256")
        .start()
        .await;
    server.psql("CREATE ROLE guarded LOGIN PASSWORD 'right'").await;
    let url = with_user(&server.url(), "guarded:wrong");
    let found = errors(&url).await;
    assert!(matches!(&found[..], [one] if one.contains("password")), "{found:?}");
    let error = Postgres::open(PostgresOptions::parse(&url, []).unwrap()).await.err().expect("it is wrong");
    assert!(error.is_final() && !error.to_string().contains("wrong;"), "{error}");
    let options = PostgresOptions::parse(&server.url(), [("pool", "50")]).unwrap();
    let findings = Postgres::findings(&options).await;
    let room = findings.iter().find(|found| found.subject == "connections").expect("it is too small");
    assert_eq!(room.severity, Severity::Error);
}
