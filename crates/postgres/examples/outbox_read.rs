//! How fast the outbox is read: `cargo run --release -p crossdock-postgres --example outbox_read -- postgres://…/empty [rows]`.
//!
//! Fills the outbox of an empty database with a backlog of 512 byte events on 10,000 keys, reads all of it page by page, with every
//! page advanced, and says how many events a second that was and what each cost this process and the server. Then the same with
//! many numbers missing.

use std::time::{Duration, Instant};

use crossdock_core::OutboxLog;
use crossdock_postgres::{Postgres, PostgresOptions, Purpose};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const FILL: i64 = 100_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the address of an empty database is missing")?;
    let rows: i64 = arguments.next().map_or(Ok(2_000_000), |rows| rows.parse())?;
    let options = PostgresOptions::parse(&url, []).map_err(|problems| problems[0].clone())?;
    let postgres = Postgres::open(options).await?;
    postgres.migrate().await?;
    let mut connection = PgConnection::connect(&url).await?;

    fill(&mut connection, rows).await?;
    read(&postgres, "without a gap").await?;

    // Every hundredth number is missing, and a transaction that is open keeps them all from being given up.
    let mut holder = PgConnection::connect(&url).await?;
    holder
        .execute("BEGIN; INSERT INTO crossdock.outbox (aggregatetype, type) VALUES ('held', 'held')")
        .await?;
    let gappy = rows.min(200_000);
    for _ in 0..gappy / 100 {
        connection.execute("SELECT nextval('crossdock.outbox_seq_seq')").await?;
        fill(&mut connection, 99).await?;
    }
    read(&postgres, "with one number in a hundred missing").await?;
    holder.execute("ROLLBACK").await?;
    postgres.close().await;
    Ok(())
}

async fn fill(connection: &mut PgConnection, rows: i64) -> Result<(), sqlx::Error> {
    for from in (0..rows).step_by(FILL as usize) {
        let to = (from + FILL).min(rows) - 1;
        let fill = format!(
            "INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
             SELECT 'orders', 'order-' || n % 10000, 'order.changed', convert_to(rpad('{{\"n\":' || n, 511, ' ') || '}}', 'UTF8')
             FROM generate_series({from}, {to}) AS n"
        );
        connection.execute(AssertSqlSafe(fill)).await?;
    }
    Ok(())
}

async fn read(postgres: &Postgres, how: &str) -> Result<(), Box<dyn std::error::Error>> {
    let reader = postgres.claim().await?.ok_or("somebody else reads")?;
    reader.renew().await?;
    let (began, processor) = (Instant::now(), processor_time("self"));
    let (mut events, mut bytes, mut pages) = (0u64, 0u64, 0u64);
    let mut waits = Vec::new();
    loop {
        let before = Instant::now();
        let page = reader.read().await?;
        waits.push(before.elapsed());
        if page.events.is_empty() && !page.more {
            break;
        }
        events += page.events.len() as u64;
        bytes += page.events.iter().map(|read| read.event.data.len() as u64).sum::<u64>();
        pages += 1;
        reader.advance(page.mark, Vec::new()).await?;
    }
    let took = began.elapsed();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
    let (client, server) = (each(processor_time("self") - processor), each(server_time(postgres).await?));
    waits.sort_unstable();
    println!(
        "{how}: {events} events ({} MB) in {pages} pages, {took:.2?}: {:.0} events/s, {client:.2} µs of this process and {server:.2} µs of the server each; \
         a page took {:.2?} (median), {:.2?} (worst of a hundred)",
        bytes >> 20,
        events as f64 / took.as_secs_f64(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
    );
    reader.release().await?;
    Ok(())
}

/// What the server's process behind the reader has used, if it runs on this machine.
async fn server_time(postgres: &Postgres) -> Result<Duration, crossdock_core::StoreError> {
    let asked = postgres.call(Purpose::Admin, "asking who reads", |connection| {
        Box::pin(async move {
            let reader = "SELECT pid FROM pg_stat_activity
                WHERE application_name = 'crossdock/relay' AND query LIKE 'COPY%' AND datname = current_database()";
            Ok(sqlx::query_scalar::<_, i32>(reader).fetch_all(connection).await?)
        })
    });
    Ok(asked.await?.into_iter().map(|pid| processor_time(&pid.to_string())).sum())
}

/// User and system time of a process.
fn processor_time(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
