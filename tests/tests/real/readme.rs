//! The chapters of the README about real servers, run as they stand: its shell, its configuration, its SQL, Rust and Python.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Output};

use crossdock_postgres::OutboxMessage;
use crossdock_sim::{LedgerOptions, Sink, SinkOptions};
use crossdock_testkit::services::{self, private};
use crossdock_tests::{Hub, Setup, crossdock, workspace};
use sqlx::PgPool;
use tokio::process::Command;

use crate::cluster::{Broker, PATIENCE};

/// The blocks of a chapter in one language.
fn blocks(chapter: &str, language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    let start = readme.find(&format!("\n## {chapter}\n")).unwrap_or_else(|| panic!("no chapter {chapter}"));
    let text = &readme[start + 1..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let fenced = text.split("\n```").skip(1).step_by(2);
    let of_language = |block: &str| block.strip_prefix(language)?.strip_prefix('\n').map(str::to_owned);
    fenced.filter_map(of_language).collect()
}

fn block(chapter: &str, language: &str, number: usize) -> String {
    let blocks = blocks(chapter, language);
    blocks
        .get(number)
        .cloned()
        .unwrap_or_else(|| panic!("{chapter} has {} blocks of {language}", blocks.len()))
}

/// Runs text as a person types it, with the program in the path; it must succeed.
async fn shell(folder: &Path, text: &str, variables: &[(&str, &str)]) -> String {
    let program = crossdock();
    let programs = program.parent().expect("a folder");
    let path = std::env::var("PATH").expect("a path");
    let mut command = Command::new("bash");
    command.args(["-euc", text]).current_dir(folder).envs(variables.iter().copied()).kill_on_drop(true);
    command.env("PATH", format!("{}:{}:{path}", folder.display(), programs.display()));
    let ended = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("bash runs");
    let Output { status, stdout, stderr } = ended;
    let said = String::from_utf8([stdout, stderr].concat()).expect("text");
    assert!(status.success(), "{text}: {status}: {said}");
    said
}

/// A folder like the repository after `make up`, whose servers are those of this test.
fn repository(postgres: &str, kafka: &str, amqp: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let make = folder.path().join("make");
    std::fs::write(&make, "#!/bin/sh\n[ \"$*\" = up ]\n").expect("written");
    std::fs::set_permissions(&make, std::fs::Permissions::from_mode(0o755)).expect("made a program");
    std::fs::create_dir(folder.path().join("target")).expect("a folder");
    let servers = format!(
        "CROSSDOCK_TEST_POSTGRES={postgres}\nCROSSDOCK_TEST_KAFKA={kafka}\nCROSSDOCK_TEST_AMQP={amqp}\n"
    );
    std::fs::write(folder.path().join("target/services.env"), servers).expect("written");
    folder
}

/// What the first block of the chapter exports, then what `more` does.
async fn exported(repository: &Path, more: &str) -> [String; 2] {
    let first = block("Run it with Kafka", "sh", 0);
    let said = shell(repository, &format!("{first}\n{more}\necho STORE=$STORE BROKER=$BROKER"), &[]).await;
    ["STORE=", "BROKER="].map(|name| {
        let value = said.split_whitespace().find_map(|word| word.strip_prefix(name));
        value.unwrap_or_else(|| panic!("{name} in {said}")).to_owned()
    })
}

/// Types the commands of the chapter; gives the workers that they start.
async fn type_in(setup: &Setup, variables: &[(&str, &str)]) -> Vec<Hub> {
    let mut workers = Vec::new();
    for line in block("Run it with Kafka", "sh", 1).lines() {
        let (line, _) = line.split_once('#').unwrap_or((line, ""));
        match line.trim() {
            // Whatever port is free.
            "crossdock run" | "PORT=8081 crossdock run" => {
                workers.push(setup.start().await.expect("the worker starts"))
            }
            command => drop(shell(setup.folder(), command, variables).await),
        }
    }
    workers
}

/// The example in Rust: the same text stands in the README.
async fn as_in_the_readme(pool: PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE orders SET paid = true WHERE id = 17").execute(&mut *transaction).await?;
    let paid = OutboxMessage {
        topic: "orders",
        key: Some("17"),
        kind: "order.paid",
        payload: br#"{"id": 17}"#,
        ..Default::default()
    };
    crossdock_postgres::publish(&mut *transaction, &paid).await?;
    transaction.commit().await?;
    Ok(())
}

#[test]
fn the_example_in_rust_is_the_one_that_is_tried() {
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    let example = bare(&block("Write to the outbox from your application", "rust", 0));

    assert!(bare(include_str!("readme.rs")).contains(&example), "{example}");
}

/// SQL, Rust and Python, each in a transaction of the application.
async fn write(setup: &Setup, store: &str, variables: &[(&str, &str)]) {
    const CHAPTER: &str = "Write to the outbox from your application";
    let said = shell(setup.folder(), &block(CHAPTER, "sh", 0), variables).await;
    assert!(said.contains("COMMIT") && !said.contains("ERROR"), "{said}");
    let pool = PgPool::connect(store).await.expect("the database answers");
    let table = "CREATE TABLE orders (id int PRIMARY KEY, paid bool); INSERT INTO orders VALUES (17, false)";
    sqlx::raw_sql(table).execute(&pool).await.expect("the application has its table");
    as_in_the_readme(pool).await.expect("the transaction commits");
    let python = format!("import json, os, psycopg\n{}", block(CHAPTER, "python", 0));
    std::fs::write(setup.folder().join("pay.py"), python).expect("written");
    let packages = workspace().join("target/python").display().to_string();
    shell(setup.folder(), "python3 pay.py", &[variables, &[("PYTHONPATH", &packages)]].concat()).await;
}

async fn the_chapters_hold(broker: Broker, kafka: &str, amqp: &str, more: &str) {
    let postgres = private::Postgres::start().await;
    let repository = repository(&postgres.url(), kafka, amqp);
    let [store, broker_url] = exported(repository.path(), more).await;
    let ledger = LedgerOptions { bodies: true, ..LedgerOptions::default() };
    let sink = Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts");
    let config = block("Run it with Kafka", "yaml", 0);
    assert_eq!(config.matches("http://127.0.0.1:9001").count(), 1, "{config}");
    let config = config.replace("http://127.0.0.1:9001", &sink.url());
    let variables = [("STORE", store.as_str()), ("BROKER", broker_url.as_str()), ("PORT", "0")];
    let setup = Setup::new(&config).expect("a folder");
    let setup = variables.iter().fold(setup, |setup, (name, value)| setup.variable(name, value));

    let workers = type_in(&setup, &variables).await;
    assert_eq!(workers.len(), 2, "the chapter starts two");
    write(&setup, &store, &variables).await;
    sink.ledger().wait_for_accepted(4, PATIENCE).await.expect("each event arrives");
    let mut paths: Vec<_> = sink.ledger().entries().into_iter().map(|entry| entry.path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/orders/1", "/orders/1", "/orders/17", "/orders/17"], "{broker:?}");
    for command in ["crossdock check --online", "crossdock plan", "crossdock outbox status"] {
        shell(setup.folder(), command, &variables).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chapters_hold_with_kafka() {
    let kafka = private::Kafka::start().await;
    the_chapters_hold(Broker::Kafka, &kafka.url(), "", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chapters_hold_with_rabbitmq() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    let export = "export BROKER=\"$CROSSDOCK_TEST_AMQP\"";
    assert!(readme.contains(&format!("`{export}`")), "the chapter says what is different");
    let host = format!("readme-{:08x}", rand::random::<u32>());
    services::rabbitmqctl(&["add_vhost", &host]).await;
    services::rabbitmqctl(&["set_permissions", "-p", &host, "crossdock", ".*", ".*", ".*"]).await;
    the_chapters_hold(Broker::RabbitMq, "", &format!("{}/{host}", services::amqp()), export).await;
    services::rabbitmqctl(&["delete_vhost", &host]).await;
}
