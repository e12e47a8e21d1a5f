//! An application with a database: writes its own table and the outbox in one transaction. What is in its table is the
//! truth that deliveries are compared with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;

/// How often writers of a database that is down try again, and how long a statement may take.
const AGAIN: Duration = Duration::from_millis(100);
const STATEMENT_MAX: Duration = Duration::from_secs(10);

/// What was committed: per key the attempts that made it, in the order of their sequences, from 1.
pub type Written = BTreeMap<String, Vec<String>>;

/// Writers of one application.
pub struct Application {
    database: String,
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

/// How an application writes.
#[derive(Clone, Copy)]
pub struct Habits {
    pub writers: u64,
    pub keys: u64,
    pub seed: u64,
    /// Between two transactions of a writer.
    pub pause: Duration,
    /// Writers with a key of their own, each of whose transactions stays open for seconds after it has written its event.
    pub slow: u64,
}

/// How long a slow writer keeps its transaction open, in milliseconds.
const SLOW_MS: std::ops::Range<u64> = 2500..5000;

impl Application {
    /// Makes the tables and begins to write.
    pub async fn start(database: &str, habits: Habits) -> Self {
        let mut connection = PgConnection::connect(database).await.expect("the database answers");
        sqlx::raw_sql(
            "CREATE TABLE accounts (key text PRIMARY KEY, seq bigint NOT NULL DEFAULT 0);
             CREATE TABLE written (key text NOT NULL, seq bigint NOT NULL, attempt text NOT NULL, PRIMARY KEY (key, seq))",
        )
        .execute(&mut connection)
        .await
        .expect("the tables of the application");
        let keys = (0..habits.keys).map(|key| format!("k{key}"));
        for key in keys.chain((habits.writers..habits.writers + habits.slow).map(slow_key)) {
            sqlx::query("INSERT INTO accounts (key) VALUES ($1)")
                .bind(key)
                .execute(&mut connection)
                .await
                .expect("an account");
        }
        let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = |number| {
            let writer = Writer {
                number,
                habits,
                database: database.to_owned(),
                stop: stop.clone(),
                commits: commits.clone(),
                random: StdRng::seed_from_u64(habits.seed ^ number),
            };
            tokio::spawn(writer.run())
        };
        let tasks = (0..habits.writers + habits.slow).map(task).collect();
        Self { database: database.to_owned(), stop, commits, tasks }
    }

    /// Waits until so many transactions were committed.
    pub async fn wait_for(&self, commits: u64) {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.commits.load(Ordering::Relaxed) < commits {
            assert!(tokio::time::Instant::now() < until, "the application does not get on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the writers and reads what they have committed. The database must be up.
    pub async fn finish(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer does not panic");
        }
        let mut connection = PgConnection::connect(&self.database).await.expect("the database answers");
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as("SELECT key, seq, attempt FROM written ORDER BY key, seq")
                .fetch_all(&mut connection)
                .await
                .expect("what was written");
        let mut written = Written::new();
        for (key, seq, attempt) in rows {
            let attempts = written.entry(key).or_default();
            attempts.push(attempt);
            assert_eq!(attempts.len() as i64, seq, "each key counts from 1 without gaps");
        }
        written
    }
}

struct Writer {
    number: u64,
    habits: Habits,
    database: String,
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    random: StdRng,
}

impl Writer {
    async fn run(mut self) {
        let mut connection = None;
        for attempt in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(open) = &mut connection else {
                connection = PgConnection::connect(&self.database).await.ok();
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let name = format!("{}-{attempt}", self.number);
            let written = tokio::time::timeout(STATEMENT_MAX, self.transaction(open, &name)).await;
            if !matches!(written, Ok(Ok(()))) {
                // Whether it was committed is in the database, if anybody asks.
                connection = None;
            }
            tokio::time::sleep(self.habits.pause).await;
        }
    }

    /// Locks the aggregate, then writes its event: that is all the hub asks for to keep the order.
    async fn transaction(&mut self, connection: &mut PgConnection, attempt: &str) -> sqlx::Result<()> {
        let slow = self.number >= self.habits.writers;
        let key = match slow {
            true => slow_key(self.number),
            false => format!("k{}", self.random.random_range(0..self.habits.keys)),
        };
        let mut transaction = connection.begin().await?;
        let (seq,): (i64,) = sqlx::query_as("UPDATE accounts SET seq = seq + 1 WHERE key = $1 RETURNING seq")
            .bind(&key)
            .fetch_one(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO written (key, seq, attempt) VALUES ($1, $2, $3)")
            .bind(&key)
            .bind(seq)
            .bind(attempt)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', $1, 'order.changed', $2)",
        )
        .bind(&key)
        .bind(body(&key, seq, attempt).into_bytes())
        .execute(&mut *transaction)
        .await?;
        let open = match self.random.random_range(0..100) {
            _ if slow => self.random.random_range(SLOW_MS),
            0 | 1 => return transaction.rollback().await,
            2..=4 => self.random.random_range(50..500),
            _ => 0,
        };
        tokio::time::sleep(Duration::from_millis(open)).await;
        transaction.commit().await?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn slow_key(writer: u64) -> String {
    format!("slow{writer}")
}

/// The payload of an event, with bytes that a careless hand would change.
pub fn body(key: &str, seq: i64, attempt: &str) -> String {
    let data = json!({ "key": key, "seq": seq, "attempt": attempt, "text": "\u{e4}\u{1f4e6} \\u0000 \"" });
    format!("{data} ")
}
