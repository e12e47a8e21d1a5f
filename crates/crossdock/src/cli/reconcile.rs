//! `crossdock outbox reconcile`: whether everything that was sent is in the broker.

use std::collections::HashSet;

use crossdock_core::{Act, StoreError};
use crossdock_postgres::{OutboxRowId, Postgres};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    args::{Output, Range},
    failure::{Code, Failure},
    outbox::failed,
    queues,
    screen::Screen,
    table::{self, Column, Show, column},
};
use crate::{config::Loaded, wiring};

const MISSING: &[Column] = &[
    column("SEQ", "/seq", Show::Name),
    column("TOPIC", "/topic", Show::Name),
    column("EVENT", "/id", Show::Name),
    column("KEY", "/key", Show::Name).if_it_fits(),
    column("WRITTEN", "/written_at", Show::Moment),
];

/// Rows that are read and compared at a time: what they take in memory is small.
const PAGE: u32 = 5_000;
const ROWS_AT_ONCE: usize = 200_000;
/// The clocks of the database and of the broker may differ by so much.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

/// What was found.
#[derive(Default)]
struct Compared {
    rows: u64,
    missing: Vec<OutboxRowId>,
}

/// Compares a range of the outbox with the broker, part by part. With `heal` what is missing is sent once more. Exit with 1
/// if anything is missing and was not healed, or if the broker is one that cannot be compared.
pub async fn reconcile(
    loaded: &Loaded,
    postgres: &Postgres,
    range: Range,
    heal: Option<Act>,
    screen: &mut Screen,
) -> Result<Code, Failure> {
    let error = |error: anyhow::Error| Failure::new(Code::Failed, format!("{error:#}"));
    if let Some(depths) = wiring::depths(loaded).await.map_err(error)? {
        return queues::tell(&depths, postgres, screen).await;
    }
    let found = compare(loaded, postgres, range).await?;
    let seqs: Vec<_> = found.missing.iter().map(|row| row.seq).collect();
    let healed = match &heal {
        Some(act) if !seqs.is_empty() => {
            postgres.outbox_resend(&seqs, act).await.map_err(|error| failed(&error))?.len()
        }
        _ => 0,
    };
    tell(&found, healed, screen)?;
    let whole = found.missing.len() == healed;
    if !whole && heal.is_none() {
        screen.suggest("crossdock outbox reconcile --heal");
    }
    Ok(if whole { Code::Ok } else { Code::Failed })
}

fn tell(found: &Compared, healed: usize, screen: &mut Screen) -> Result<(), Failure> {
    let missing: Vec<Value> = found.missing.iter().map(|row| json!(row)).collect();
    if screen.output == Output::Json {
        let told = json!({ "compared": found.rows, "missing": missing, "sent_again": healed });
        screen.json(&told.to_string())?;
        return Ok(());
    }
    if !missing.is_empty() {
        let drawn = table::render(&missing, MISSING, screen);
        screen.line(&drawn)?;
    }
    let again = if healed > 0 { format!("; {healed} sent once more") } else { String::new() };
    screen.line(&format!(
        "{} events compared with the broker, {} missing{again}",
        found.rows,
        missing.len()
    ))?;
    Ok(())
}

/// Everything from the range that was sent, but for what is still on its way (gaps) and what was refused.
async fn compare(loaded: &Loaded, postgres: &Postgres, range: Range) -> Result<Compared, Failure> {
    let error = |error: StoreError| failed(&error);
    let (_, position) = postgres.outbox_reach().await.map_err(error)?;
    let gaps = postgres.outbox_gaps().await.map_err(error)?.gaps;
    let refused = refused(postgres).await.map_err(error)?;
    let mut from = range.since.unwrap_or((position - range.last + 1).max(1));
    let mut found = Compared::default();
    while from <= position {
        let (rows, next) = rows(postgres, from, position).await.map_err(error)?;
        let sent = |row: &OutboxRowId| {
            let waits = gaps.iter().any(|(first, last)| (*first..=*last).contains(&row.seq));
            !waits && !refused.contains(&row.seq)
        };
        let rows: Vec<_> = rows.into_iter().filter(sent).collect();
        found.rows += rows.len() as u64;
        found.missing.extend(missing(loaded, rows).await?);
        from = next;
    }
    Ok(found)
}

/// Some rows from a number on, and where to go on.
async fn rows(postgres: &Postgres, mut from: i64, last: i64) -> Result<(Vec<OutboxRowId>, i64), StoreError> {
    let mut all = Vec::new();
    while from <= last && all.len() < ROWS_AT_ONCE {
        let (rows, end) = postgres.outbox_rows((from, last), PAGE).await?;
        all.extend(rows);
        from = end.map_or(last, |end| end) + 1;
    }
    Ok((all, from))
}

/// Everything that is refused and not dealt with.
async fn refused(postgres: &Postgres) -> Result<HashSet<i64>, StoreError> {
    let (mut all, mut after) = (HashSet::new(), 0);
    loop {
        let rows = postgres.outbox_refused(after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = last.seq;
        all.extend(rows.iter().map(|row| row.seq));
    }
}

async fn missing(loaded: &Loaded, rows: Vec<OutboxRowId>) -> Result<Vec<OutboxRowId>, Failure> {
    let Some(oldest) = rows.iter().map(|row| row.written_at).min() else { return Ok(Vec::new()) };
    let named = |row: &OutboxRowId| (row.topic.clone(), row.source.clone(), row.id.clone());
    let wanted: HashSet<_> = rows.iter().map(named).collect();
    let since = oldest.checked_sub(SKEW).unwrap_or(Timestamp::UNIX_EPOCH);
    let there = wiring::present(loaded, &wanted, since).await;
    let there = there.map_err(|error| Failure::new(Code::Failed, format!("{error:#}")))?;
    Ok(rows.into_iter().filter(|row| !there.contains(&named(row))).collect())
}
