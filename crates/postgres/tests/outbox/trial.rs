//! The trial: writers that lock their aggregate, hold transactions open, roll back, and two that keep an event of their own to
//! themselves for seconds. Nothing is lost, nothing comes that was not committed, and each key keeps its order. The same
//! trial finds the readers out that forget missing numbers, or wait for them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossdock_core::{OutboxEvent, OutboxLog};
use crossdock_postgres::{OutboxMessage, Reading, publish};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::time::{Instant, sleep};

use crate::{
    database::Database,
    ledger::{Verdict, verdict},
};

const WRITERS: u64 = 16;
const LOOPERS: u64 = 2;
const KEYS: i32 = 200;
const WRITING: Duration = Duration::from_secs(8);

/// What a trial showed.
struct Outcome {
    verdict: Verdict,
    committed: usize,
    /// How long after its commit an event came: the worst of a hundred.
    p99: Duration,
}

/// A commit that was answered.
type Committed = Arc<Mutex<Vec<(String, Instant)>>>;

async fn trial(reading: Reading) -> Outcome {
    let database = Database::create().await;
    let mut options = database.options();
    options.reading = reading;
    let postgres = database.open(options).await;
    let mut connection = database.connect().await;
    let tables = "CREATE TABLE aggregates (id int PRIMARY KEY, number bigint NOT NULL DEFAULT 0)";
    connection.execute(tables).await.unwrap();
    let keys = format!("INSERT INTO aggregates SELECT generate_series(1, {})", KEYS + 2);
    connection.execute(AssertSqlSafe(keys)).await.unwrap();

    let (committed, stopped) = (Committed::default(), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS + LOOPERS)
        .map(|writer| {
            let (committed, stopped) = (committed.clone(), stopped.clone());
            let connect = database.url();
            tokio::spawn(async move {
                let connection = PgConnection::connect(&connect).await.unwrap();
                match writer.checked_sub(WRITERS) {
                    None => write(connection, writer, &committed, &stopped).await,
                    Some(looper) => hold(connection, looper, &committed, &stopped).await,
                }
            })
        })
        .collect();
    let reader = postgres.claim().await.unwrap().expect("nobody else reads");
    let began = Instant::now();
    let mut came: Vec<(OutboxEvent, Instant)> = Vec::new();
    let mut written = None;
    loop {
        let page = reader.read().await.unwrap();
        let now = Instant::now();
        assert_eq!(page.malformed, []);
        let empty = page.events.is_empty();
        came.extend(page.events.into_iter().map(|event| (event, now)));
        reader.advance(page.mark, Vec::new()).await.unwrap();
        if began.elapsed() > WRITING {
            stopped.store(true, Ordering::Relaxed);
        }
        if written.is_none() && writers.iter().all(tokio::task::JoinHandle::is_finished) {
            written = Some(Instant::now());
        }
        if written.is_some_and(|written| empty && written.elapsed() > Duration::from_millis(500)) {
            break;
        }
        sleep(Duration::from_millis(2)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let commits = std::mem::take(&mut *committed.lock().unwrap());
    let names: Vec<_> = commits.iter().map(|(name, _)| name.clone()).collect();
    let at: std::collections::HashMap<&str, Instant> =
        commits.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    let mut waits: Vec<_> = came
        .iter()
        .filter_map(|(read, seen)| {
            Some(seen.saturating_duration_since(*at.get(str::from_utf8(&read.event.data).ok()?)?))
        })
        .collect();
    waits.sort_unstable();
    let events: Vec<_> = came.into_iter().map(|(event, _)| event).collect();
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
    Outcome { verdict: verdict(&names, &events), committed: names.len(), p99 }
}

/// One transaction after the other: locks an aggregate, publishes, and commits, holds on for a while, or rolls back.
async fn write(mut connection: PgConnection, seed: u64, committed: &Committed, stopped: &AtomicBool) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !stopped.load(Ordering::Relaxed) {
        let key = random.random_range(1..=KEYS);
        let mut transaction = connection.begin().await.unwrap();
        let mut names = vec![publish_next(&mut transaction, key).await];
        if random.random_ratio(1, 100) {
            let mut savepoint = transaction.begin().await.unwrap();
            publish_next(&mut savepoint, key).await;
            savepoint.rollback().await.unwrap();
            names.push(publish_next(&mut transaction, key).await);
        }
        if random.random_ratio(1, 10) {
            sleep(Duration::from_millis(random.random_range(0..50))).await;
        }
        if random.random_ratio(2, 100) {
            transaction.rollback().await.unwrap();
            continue;
        }
        transaction.commit().await.unwrap();
        let now = Instant::now();
        committed.lock().unwrap().extend(names.into_iter().map(|name| (name, now)));
    }
}

/// Publishes and keeps it to itself for seconds, again and again.
async fn hold(mut connection: PgConnection, looper: u64, committed: &Committed, stopped: &AtomicBool) {
    let key = KEYS + 1 + i32::try_from(looper).unwrap();
    while !stopped.load(Ordering::Relaxed) {
        let mut transaction = connection.begin().await.unwrap();
        let name = publish_next(&mut transaction, key).await;
        sleep(Duration::from_secs(2 + 2 * looper)).await;
        transaction.commit().await.unwrap();
        committed.lock().unwrap().push((name, Instant::now()));
    }
}

async fn publish_next(transaction: &mut PgConnection, key: i32) -> String {
    let lock = "UPDATE aggregates SET number = number + 1 WHERE id = $1 RETURNING number";
    let row = sqlx::query(lock).bind(key).fetch_one(&mut *transaction).await.unwrap();
    let name = format!("{key} {}", row.get::<i64, _>(0));
    let message = OutboxMessage {
        topic: "orders",
        key: Some(&key.to_string()),
        kind: "order.changed",
        payload: name.as_bytes(),
        ..OutboxMessage::default()
    };
    publish(transaction, &message).await.unwrap();
    name
}

/// O1, O2, O3: late commits, order, transactions that stay open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_turned_while_transactions_commit_out_of_order() {
    let outcome = trial(Reading::PastGaps).await;
    println!("{} committed, {:?}, p99 {:?}", outcome.committed, outcome.verdict, outcome.p99);
    assert_eq!(outcome.verdict, Verdict::default());
    assert!(outcome.committed > 2_000, "{} committed", outcome.committed);
    assert!(outcome.p99 < Duration::from_secs(1), "p99 {:?}", outcome.p99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trial_finds_out_a_reader_that_forgets_missing_numbers() {
    let outcome = trial(Reading::Forgetting).await;
    println!("{} committed, {:?}, p99 {:?}", outcome.committed, outcome.verdict, outcome.p99);
    assert!(outcome.verdict.lost > 0, "{:?}", outcome.verdict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trial_finds_out_a_reader_that_waits_for_missing_numbers() {
    let outcome = trial(Reading::Stopping).await;
    println!("{} committed, {:?}, p99 {:?}", outcome.committed, outcome.verdict, outcome.p99);
    assert!(outcome.p99 > Duration::from_secs(1), "p99 {:?}", outcome.p99);
}
