//! The statements that write dead letters and their groups.

use crossdock_core::{Attempt, DeadLetter, LetterState, ReplayTicket};
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{
    catalog::{Catalog, FlowNumber},
    errors, held, pack,
    place::{Place, nanoseconds},
    replays,
    rows::{self, Columns},
    task::Failure,
};

/// Settled letters that are dropped in one commit.
const DROPPED_A_STEP: i64 = 200;

/// The number of a letter in the file.
pub(crate) type LetterNumber = i64;

/// A state as it is stored.
pub(crate) fn state_number(state: LetterState) -> i64 {
    match state {
        LetterState::Open => 0,
        LetterState::Replaying => 1,
        LetterState::Replayed => 2,
        LetterState::Discarded => 3,
    }
}

/// A stored state.
pub(crate) fn state_of(number: i64) -> LetterState {
    match number {
        1 => LetterState::Replaying,
        2 => LetterState::Replayed,
        3 => LetterState::Discarded,
        _ => LetterState::Open,
    }
}

/// The counters of a group, in the order of their numbers.
pub(crate) const COUNTERS: [&str; 4] = ["open", "replaying", "replayed", "discarded"];

/// Writes a dead letter. The same delivery again adds the attempts that are new; if its replay failed, it is open again
/// with what failed it now.
pub(crate) async fn bury(
    connection: &mut SqliteConnection,
    catalog: &Catalog,
    letter: &DeadLetter,
    ticket: Option<&ReplayTicket>,
    now: i64,
) -> Result<(), Failure> {
    let flow = catalog.flow_or_new(connection, &letter.flow).await?;
    let place = catalog.place_or_new(connection, &letter.position).await?;
    let settled = match ticket {
        Some(ticket) => replays::item_failed(connection, ticket, now).await?,
        None => false,
    };
    let Some(known) = find(connection, place, flow).await? else {
        return insert(connection, letter, place, flow).await;
    };
    let attempts = merged(&known.attempts, &letter.attempts);
    if settled {
        reopen(connection, letter, &known, flow, &attempts).await
    } else {
        add(connection, known.number, &attempts).await
    }
}

struct Known {
    number: LetterNumber,
    state: i64,
    group: i64,
    attempts: Vec<Attempt>,
}

async fn find(
    connection: &mut SqliteConnection,
    place: Place,
    flow: FlowNumber,
) -> Result<Option<Known>, Failure> {
    let row = sqlx::query(
        "SELECT l.number, l.state, l.failure_group, b.attempts FROM letters l JOIN letter_bodies b USING (number)
         WHERE l.place = ? AND l.flow = ?",
    )
    .bind(place.0)
    .bind(flow)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let number = row.at(0)?;
    let attempts = serde_json::from_str(row.at(3)?)
        .map_err(|_| errors::damaged(&format!("the attempts of the dead letter {number}")))?;
    Ok(Some(Known { number, state: row.at(1)?, group: row.at(2)?, attempts }))
}

/// The attempts of both, each once, in order.
fn merged(known: &[Attempt], given: &[Attempt]) -> Vec<Attempt> {
    let mut known = known.to_vec();
    for attempt in given {
        if !known.contains(attempt) {
            known.push(attempt.clone());
        }
    }
    known
}

async fn insert(
    connection: &mut SqliteConnection,
    letter: &DeadLetter,
    place: Place,
    flow: FlowNumber,
) -> Result<(), Failure> {
    let group = group(connection, letter, flow).await?;
    let number: LetterNumber = sqlx::query_scalar(
        "INSERT INTO letters (id, state, failure_group, place, flow, failed_at, replays, tries, event_id, kind, key, message)
         VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
    )
    .bind(&letter.id)
    .bind(group)
    .bind(place.0)
    .bind(flow)
    .bind(nanoseconds(letter.failed_at))
    .bind(letter.replays)
    .bind(letter.attempts.len() as i64)
    .bind(&letter.event.id)
    .bind(&letter.event.kind)
    .bind(&letter.key)
    .bind(&letter.message)
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO letter_bodies (number, reason, advice, idempotency_key, attempts, request, request_body, event)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(number)
    .bind(&letter.reason)
    .bind(&letter.advice)
    .bind(&letter.idempotency_key)
    .bind(held::attempts_json(&letter.attempts))
    .bind(request_json(letter))
    .bind(letter.request.as_ref().map(|request| request.body.to_vec()))
    .bind(pack::single(&letter.event))
    .execute(connection)
    .await?;
    Ok(())
}

fn request_json(letter: &DeadLetter) -> Option<String> {
    letter
        .request
        .as_ref()
        .map(|request| serde_json::to_string(request).expect("a request is texts and JSON"))
}

/// Counts an open letter in its group, which is made if it is the first.
async fn group(
    connection: &mut SqliteConnection,
    letter: &DeadLetter,
    flow: FlowNumber,
) -> Result<i64, Failure> {
    let number = sqlx::query_scalar(
        "INSERT INTO failure_groups (id, flow, connection, step, action, class, status, code, message, advice, first_at,
             last_at, open)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, 1)
         ON CONFLICT (id) DO UPDATE SET message = excluded.message, advice = excluded.advice, open = open + 1,
             first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)
         RETURNING number",
    )
    .bind(letter.group.as_str())
    .bind(flow)
    .bind(letter.connection.as_str())
    .bind(&letter.step)
    .bind(&letter.action)
    .bind(letter.class.as_str())
    .bind(letter.status)
    .bind(&letter.code)
    .bind(&letter.message)
    .bind(&letter.advice)
    .bind(nanoseconds(letter.failed_at))
    .fetch_one(connection)
    .await?;
    Ok(number)
}

/// A replay failed: the letter is open again, with what failed it now.
async fn reopen(
    connection: &mut SqliteConnection,
    letter: &DeadLetter,
    known: &Known,
    flow: FlowNumber,
    attempts: &[Attempt],
) -> Result<(), Failure> {
    uncount(connection, known.group, known.state).await?;
    let group = group(connection, letter, flow).await?;
    sqlx::query(
        "UPDATE letters SET state = 0, failure_group = ?, failed_at = ?, settled_at = NULL, replays = replays + 1,
             tries = ?, key = ?, message = ? WHERE number = ?",
    )
    .bind(group)
    .bind(nanoseconds(letter.failed_at))
    .bind(attempts.len() as i64)
    .bind(&letter.key)
    .bind(&letter.message)
    .bind(known.number)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE letter_bodies SET reason = ?, advice = ?, idempotency_key = ?, attempts = ?, request = ?, request_body = ?
         WHERE number = ?",
    )
    .bind(&letter.reason)
    .bind(&letter.advice)
    .bind(&letter.idempotency_key)
    .bind(held::attempts_json(attempts))
    .bind(request_json(letter))
    .bind(letter.request.as_ref().map(|request| request.body.to_vec()))
    .bind(known.number)
    .execute(connection)
    .await?;
    Ok(())
}

async fn add(
    connection: &mut SqliteConnection,
    number: LetterNumber,
    attempts: &[Attempt],
) -> Result<(), Failure> {
    sqlx::query("UPDATE letters SET tries = ?1 WHERE number = ?2 AND tries <> ?1")
        .bind(attempts.len() as i64)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE letter_bodies SET attempts = ? WHERE number = ?")
        .bind(held::attempts_json(attempts))
        .bind(number)
        .execute(connection)
        .await?;
    Ok(())
}

async fn uncount(connection: &mut SqliteConnection, group: i64, state: i64) -> Result<(), Failure> {
    let counter = COUNTERS[usize::try_from(state).unwrap_or_default().min(3)];
    sqlx::query(AssertSqlSafe(format!(
        "UPDATE failure_groups SET {counter} = {counter} - 1 WHERE number = ?"
    )))
    .bind(group)
    .execute(connection)
    .await?;
    Ok(())
}

/// A replay delivered the letter, if that is in this state.
pub(crate) async fn replayed(
    connection: &mut SqliteConnection,
    number: LetterNumber,
    from: LetterState,
    now: i64,
) -> Result<(), Failure> {
    let state = state_number(from);
    let group: Option<i64> = sqlx::query_scalar(
        "UPDATE letters SET state = 2, settled_at = ?, replays = replays + 1 WHERE number = ? AND state = ?
         RETURNING failure_group",
    )
    .bind(now)
    .bind(number)
    .bind(state)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(group) = group {
        uncount(connection, group, state).await?;
        sqlx::query("UPDATE failure_groups SET replayed = replayed + 1 WHERE number = ?")
            .bind(group)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Moves letters from one state to another, with the counters of their groups. `chosen` is a query of their numbers, whose
/// only parameter is `value`. Returns how many.
pub(crate) async fn change(
    connection: &mut SqliteConnection,
    (from, to): (LetterState, LetterState),
    chosen: &'static str,
    value: i64,
    settled_at: Option<i64>,
) -> Result<u64, Failure> {
    let (old, new) = (state_number(from), state_number(to));
    let (less, more) = (COUNTERS[old as usize], COUNTERS[new as usize]);
    let counters = format!(
        "UPDATE failure_groups SET {less} = {less} - n, {more} = {more} + n FROM
         (SELECT failure_group, count(*) AS n FROM letters WHERE state = {old} AND number IN ({chosen}) GROUP BY failure_group)
         WHERE number = failure_group"
    );
    sqlx::query(AssertSqlSafe(counters)).bind(value).execute(&mut *connection).await?;
    let letters = format!(
        "UPDATE letters SET state = {new}, settled_at = ?2 WHERE state = {old} AND number IN ({chosen})"
    );
    let changed =
        sqlx::query(AssertSqlSafe(letters)).bind(value).bind(settled_at).execute(connection).await?;
    Ok(changed.rows_affected())
}

/// Drops some letters that were settled before. Returns how many.
pub(crate) async fn drop_settled(
    connection: &mut SqliteConnection,
    before: i64,
) -> Result<usize, sqlx::Error> {
    let letters: Vec<LetterNumber> = sqlx::query_scalar(
        "SELECT number FROM letters WHERE settled_at IS NOT NULL AND settled_at < ? ORDER BY settled_at LIMIT ?",
    )
    .bind(before)
    .bind(DROPPED_A_STEP)
    .fetch_all(&mut *connection)
    .await?;
    if letters.is_empty() {
        return Ok(0);
    }
    let list = rows::json_list(letters.iter().copied());
    for sql in [
        "UPDATE failure_groups SET replayed = replayed - n, discarded = discarded - m FROM
         (SELECT failure_group, sum(state = 2) AS n, sum(state = 3) AS m FROM letters
          WHERE number IN (SELECT value FROM json_each(?)) GROUP BY failure_group)
         WHERE number = failure_group",
        "DELETE FROM letter_bodies WHERE number IN (SELECT value FROM json_each(?))",
        "DELETE FROM letters WHERE number IN (SELECT value FROM json_each(?))",
    ] {
        sqlx::query(sql).bind(list.clone()).execute(&mut *connection).await?;
    }
    Ok(letters.len())
}
