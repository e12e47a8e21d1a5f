//! Under load: old snapshots, slow questions, callers that go away (O7, O11, O12).

use std::time::Duration;

use crossdock_core::{Event, Outbox, PublishError, Published, Topic};
use crossdock_postgres::{Postgres, Purpose};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use sqlx::{Connection, Executor, Row};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    database::Database,
    reading::{SOON, claim, take},
};

fn worst_of_a_hundred(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_slows_nothing_down() {
    const EVENTS: usize = 200_000;
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let mut analyst = database.connect().await;
    analyst
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM crossdock.outbox")
        .await
        .unwrap();
    let mut writer = database.connect().await;
    let written = tokio::spawn(async move {
        let insert = "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
            SELECT 'orders', 'k' || n, 't', 'x' FROM generate_series(1, 500) AS n";
        for _ in 0..EVENTS / 500 {
            writer.execute(insert).await.unwrap();
        }
    });
    let reader = claim(&postgres).await;
    let (until, mut came, mut reads) = (Instant::now() + 2 * SOON, 0, Vec::new());
    while came < EVENTS {
        assert!(Instant::now() < until, "{came} events came");
        let began = Instant::now();
        let page = reader.read().await.unwrap();
        reader.advance(page.mark, Vec::new()).await.unwrap();
        reads.push(began.elapsed());
        came += page.events.len();
        sleep(Duration::from_millis(2)).await;
    }
    written.await.unwrap();
    let p99 = worst_of_a_hundred(reads);
    assert!(p99 < Duration::from_millis(250), "p99 {p99:?}");
    analyst.execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn slow_questions_of_people_hold_up_no_delivery() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let postgres = postgres.clone();
            tokio::spawn(async move {
                let ask = postgres.call(Purpose::Admin, "asking something slow", |connection| {
                    Box::pin(async move {
                        connection.execute("SELECT pg_sleep(0.5)").await?;
                        Ok(())
                    })
                });
                ask.await.is_ok()
            })
        })
        .collect();
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let ask = postgres.call(Purpose::Delivery, "settling", |connection| {
            Box::pin(async move {
                connection.execute("SELECT 1").await?;
                Ok(())
            })
        });
        ask.await.unwrap();
        times.push(began.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    let p99 = worst_of_a_hundred(times);
    assert!(p99 < Duration::from_millis(250), "p99 {p99:?}");
    let mut answered = 0;
    for ask in slow {
        answered += usize::from(ask.await.unwrap());
    }
    assert!((1..200).contains(&answered), "{answered} found a connection in time, the others were told");
}

#[tokio::test]
async fn callers_that_go_away_leave_no_connection_and_no_transaction_behind() {
    let database = Database::create().await;
    let mut options = database.options();
    options.pool = 3;
    let postgres = database.open(options).await;
    let mut random = SmallRng::seed_from_u64(1);
    for _ in 0..2_000 {
        let change = postgres.change(Purpose::Delivery, "changing something", |connection| {
            Box::pin(async move {
                connection
                    .execute("CREATE TEMPORARY TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)")
                    .await?;
                connection.execute("SELECT count(*) FROM t").await?;
                Ok(())
            })
        });
        // Whether it was quick enough is of no interest.
        drop(timeout(Duration::from_micros(random.random_range(0..1500)), change).await);
    }
    let until = Instant::now() + SOON;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%/delivery'
        AND state <> 'idle'";
    let mut connection = database.connect().await;
    while connection.fetch_one(busy).await.unwrap().get::<i64, _>(0) > 0 {
        assert!(Instant::now() < until, "every transaction ends");
        sleep(Duration::from_millis(10)).await;
    }
    let pool = postgres.pool(Purpose::Delivery);
    let all = async {
        (pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap())
    };
    timeout(SOON, all).await.expect("every connection is back");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn intake_ends_when_too_much_waits_for_the_relay_and_begins_again_by_itself() {
    let database = Database::create().await;
    let mut options = database.options();
    options.waiting_events_max = 10;
    let postgres = database.open(options).await;
    let orders = Topic::new("orders").unwrap();
    let many = (0..10).map(|n| event(&n.to_string())).collect();
    assert!(postgres.append(&orders, many).await.iter().all(Result::is_ok));
    let until = Instant::now() + SOON;
    while postgres.refusal().is_none() {
        assert!(Instant::now() < until, "it is noticed");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(postgres.append(&orders, vec![event("more")]).await, [Err(PublishError::Busy)]);
    let reader = claim(&postgres).await;
    take(&*reader, 10).await;
    while postgres.refusal().is_some() {
        assert!(Instant::now() < until, "it is over: {:?}", postgres.refusal());
        reader.renew().await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    assert!(postgres.append(&orders, vec![event("more")]).await[0].is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_get_the_same_event_at_once_take_it_once_and_forget_it_after_the_window() {
    let database = Database::create().await;
    let mut options = database.options();
    options.dedupe_window = Duration::from_secs(1);
    let workers = [database.open(options.clone()).await, Postgres::open(options).await.unwrap()];
    let orders = Topic::new("orders").unwrap();
    let events = |ids: std::ops::Range<u32>| ids.map(|id| event(&id.to_string())).collect::<Vec<_>>();
    let mut new = 0;
    for round in 0..20 {
        let ids = round * 50..round * 50 + 50;
        // In opposite order: they must not wait for each other.
        let backwards = events(ids.clone()).into_iter().rev().collect();
        let (one, other) =
            tokio::join!(workers[0].append(&orders, events(ids)), workers[1].append(&orders, backwards));
        let answers = one.into_iter().chain(other).map(|answer| answer.expect("it is taken"));
        new += answers.filter(|answer| *answer != Published::Duplicate).count();
    }
    assert_eq!(new, 1_000);
    let reader = claim(&workers[0]).await;
    take(&*reader, 1_000).await;
    let (until, mut connection) = (Instant::now() + SOON, database.connect().await);
    while connection.fetch_one("SELECT count(*) FROM crossdock.seen").await.unwrap().get::<i64, _>(0) > 0 {
        assert!(Instant::now() < until, "ids are forgotten");
        reader.renew().await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    let again = workers[1].append(&orders, events(0..1)).await;
    assert_eq!(again, [Ok(Published::New(None))]);
}

fn event(id: &str) -> Event {
    let attributes = [("id", id), ("source", "/test"), ("type", "t")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Event::from_attributes(attributes, Default::default()).unwrap()
}
