//! The replays port, and the statements that settle items.

use async_trait::async_trait;
use crossdock_core::{
    Act, FlowName, LetterState, NewReplay, Page, PageRequest, Partition, Replay, ReplayId, ReplayItem,
    ReplayState, ReplayTicket, Replays, Selection, StoreError, Tried, time_ordered_id,
};
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Embedded, Inner, audit,
    catalog::{Catalog, SharedCatalog},
    cursor,
    dead_letters::{self, LETTER},
    errors, held,
    letters::{self, LetterNumber},
    place::{moment, nanoseconds},
    rows,
    rows::Columns,
    selection,
    task::Failure,
};

const COLUMNS: &str = "number, id, state, selection, rate, actor, reason, total, delivered, failed, skipped, created_at, \
                       finished_at, test, tried";

/// Items that are being skipped, for the length of a transaction: told apart from those that were skipped before and may
/// belong to another replay by now.
const SKIPPING: &str = "SELECT letter FROM replay_items WHERE replay = ?1 AND state = 5";

/// Items of ended replays that are dropped in one commit.
const DROPPED_A_STEP: i64 = 1000;

#[async_trait]
impl Replays for Embedded {
    async fn create(&self, replay: NewReplay) -> Result<Replay, StoreError> {
        let (catalog, now) = (self.inner.catalog.clone(), nanoseconds(self.inner.clock.now()));
        let id = time_ordered_id('r', uuid::Uuid::now_v7().as_u128());
        self.inner
            .write("making a replay", move |connection| {
                Box::pin(create(connection, catalog, replay, id, now))
            })
            .await
    }

    async fn get(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        let rows = self.inner.replays("WHERE id = ?", |query| query.bind(id.to_owned())).await?;
        Ok(rows.into_iter().next().map(|(_, replay)| replay))
    }

    async fn list(&self, page: PageRequest) -> Result<Page<Replay>, StoreError> {
        let from = cursor::read(&page)?;
        let limit = from.limit as i64 + 1;
        let select = "WHERE number < ? ORDER BY number DESC LIMIT ?";
        let mut replays = self.inner.replays(select, |query| query.bind(from.last.0).bind(limit)).await?;
        let more = replays.len() > from.limit;
        replays.truncate(from.limit);
        let next = replays.last().filter(|_| more).map(|(number, _)| cursor::behind(*number, 0));
        Ok(Page { items: replays.into_iter().map(|(_, replay)| replay).collect(), next })
    }

    async fn unfinished(&self) -> Result<Vec<Replay>, StoreError> {
        let select = "WHERE state IN ('running', 'paused') ORDER BY number";
        let replays = self.inner.replays(select, |query| query).await?;
        Ok(replays.into_iter().map(|(_, replay)| replay).collect())
    }

    async fn places(&self, id: &str) -> Result<Vec<(FlowName, Partition)>, StoreError> {
        // The upper bits of a place are its partition's number.
        let places: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT DISTINCT l.flow, l.place >> 46 FROM replay_items i JOIN letters l ON l.number = i.letter
             WHERE i.replay = (SELECT number FROM replays WHERE id = ?) AND i.state = 0",
        )
        .bind(id)
        .fetch_all(&self.inner.readers)
        .await
        .map_err(|error| errors::store_error("reading the places of a replay", error))?;
        let named = |(flow, part): (i64, i64)| {
            let partition = self.inner.catalog.partition(part);
            let damaged = || errors::damaged(&format!("the replay {id}: a place is not known"));
            Ok((self.inner.catalog.flow_name(flow).ok_or_else(damaged)?, partition.ok_or_else(damaged)?))
        };
        places.into_iter().map(named).collect()
    }

    async fn items(
        &self,
        id: &str,
        flow: &FlowName,
        partition: &Partition,
        from: u64,
        limit: usize,
    ) -> Result<Vec<ReplayItem>, StoreError> {
        let Some((flow, part)) = self.inner.find(flow, partition) else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT {LETTER}, i.item FROM replay_items i JOIN letters l ON l.number = i.letter
             JOIN letter_bodies b ON b.number = l.number JOIN failure_groups g ON g.number = l.failure_group
             WHERE i.replay = (SELECT number FROM replays WHERE id = ?) AND i.item >= ? AND i.state = 0
             AND l.flow = ? AND l.place >> 46 = ? ORDER BY i.item LIMIT ?"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .bind(flow)
            .bind(part)
            .bind(limit as i64)
            .fetch(&self.inner.readers);
        rows::page(rows, rows::PAGE_BYTES, |row| item(&self.inner.catalog, id, row), weight)
            .await
            .map_err(|failure| failure.into_store_error("reading the items of a replay"))
    }

    /// One process has the store, and keeps the rate.
    async fn allow(&self, _: &str, want: u64) -> Result<u64, StoreError> {
        Ok(want)
    }

    async fn change(&self, id: &str, state: ReplayState, act: &Act) -> Result<Replay, StoreError> {
        if matches!(state, ReplayState::Succeeded | ReplayState::Failed) {
            let text = format!("a replay becomes `{}` by itself", state.as_str());
            return Err(StoreError::Conflict(text));
        }
        let (id, act, now) = (id.to_owned(), act.clone(), nanoseconds(self.inner.clock.now()));
        self.inner
            .write("changing a replay", move |connection| Box::pin(change(connection, id, state, act, now)))
            .await
    }

    async fn tried(&self, id: &str, tried: &Tried) -> Result<(), StoreError> {
        let (id, tried) = (id.to_owned(), serde_json::to_string(tried).expect("text and numbers are JSON"));
        self.inner
            .write("keeping what a test came to", move |connection| {
                Box::pin(async move {
                    let query = sqlx::query("UPDATE replays SET tried = ? WHERE id = ?").bind(tried).bind(id);
                    query.execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn set_rate(&self, id: &str, rate: Option<f64>, act: &Act) -> Result<Replay, StoreError> {
        let (id, act, now) = (id.to_owned(), act.clone(), nanoseconds(self.inner.clock.now()));
        self.inner
            .write("changing the rate of a replay", move |connection| {
                Box::pin(set_rate(connection, id, rate, act, now))
            })
            .await
    }
}

impl Inner {
    async fn replays(
        &self,
        select: &str,
        bind: impl FnOnce(rows::Bound) -> rows::Bound,
    ) -> Result<Vec<(i64, Replay)>, StoreError> {
        let sql = AssertSqlSafe(format!("SELECT {COLUMNS} FROM replays {select}"));
        let rows = bind(sqlx::query(sql))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| errors::store_error("reading replays", error))?;
        rows.iter().map(|row| Ok((row.at(0)?, read(row)?))).collect()
    }
}

fn read(row: &SqliteRow) -> Result<Replay, StoreError> {
    let id: ReplayId = row.at(1)?;
    let damaged = |what: &str| errors::damaged(&format!("the {what} of the replay {id}"));
    Ok(Replay {
        state: ReplayState::parse(row.at(2)?).ok_or_else(|| damaged("state"))?,
        selection: serde_json::from_str(row.at(3)?).map_err(|_| damaged("selection"))?,
        rate: row.at(4)?,
        actor: row.at(5)?,
        reason: row.at(6)?,
        total: row.at::<i64, _>(7)? as u64,
        delivered: row.at::<i64, _>(8)? as u64,
        failed: row.at::<i64, _>(9)? as u64,
        skipped: row.at::<i64, _>(10)? as u64,
        created_at: moment(row.at(11)?),
        finished_at: row.at::<Option<i64>, _>(12)?.map(moment),
        test: row.at(13)?,
        tried: match row.at::<Option<&str>, _>(14)? {
            Some(tried) => Some(serde_json::from_str(tried).map_err(|_| damaged("result"))?),
            None => None,
        },
        id,
    })
}

fn item(catalog: &Catalog, replay: &str, row: &SqliteRow) -> Result<ReplayItem, StoreError> {
    let letter = dead_letters::letter(catalog, row)?;
    let item = row.at::<i64, _>("item")? as u64;
    Ok(ReplayItem {
        ticket: ReplayTicket { replay: replay.to_owned(), item, letter: letter.id.clone() },
        letter,
    })
}

fn weight(item: &ReplayItem) -> usize {
    let letter = &item.letter;
    let request = letter.request.as_ref().map_or(0, |request| request.body.len());
    letter.event.weight() + request + held::attempts_weight(&letter.attempts)
}

async fn create(
    connection: &mut SqliteConnection,
    catalog: SharedCatalog,
    new: NewReplay,
    id: ReplayId,
    now: i64,
) -> Result<Replay, Failure> {
    let selection = Selection { state: None, ..new.selection.clone() };
    if new.selection.state.is_some_and(|state| state != LetterState::Open) {
        return Err(nothing_open().into());
    }
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO replays (id, state, selection, rate, actor, reason, total, created_at, test)
         VALUES (?, 'running', ?, ?, ?, ?, 0, ?, ?) RETURNING number",
    )
    .bind(&id)
    .bind(dead_letters::selection_json(&new.selection))
    .bind(new.rate)
    .bind(&new.act.actor)
    .bind(&new.act.reason)
    .bind(now)
    .bind(new.test)
    .fetch_one(&mut *connection)
    .await?;
    let mut items =
        QueryBuilder::<Sqlite>::new("INSERT INTO replay_items (replay, item, letter, state) SELECT ");
    items.push_bind(number).push(
        ", row_number() OVER (ORDER BY l.place, l.flow) - 1, l.number, 0
         FROM letters l JOIN failure_groups g ON g.number = l.failure_group WHERE ",
    );
    selection::push(&mut items, &selection, &catalog);
    let total = items.build().execute(&mut *connection).await?.rows_affected();
    if total == 0 {
        return Err(nothing_open().into());
    }
    let open_to_replaying = (LetterState::Open, LetterState::Replaying);
    let chosen = "SELECT letter FROM replay_items WHERE replay = ?1";
    letters::change(connection, open_to_replaying, chosen, number, None).await?;
    let entry = audit::write(connection, now, &new.act, ("replay", &id)).await?;
    sqlx::query("UPDATE audit SET count = ? WHERE id = ?")
        .bind(total as i64)
        .bind(entry)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE replays SET total = ? WHERE number = ?")
        .bind(total as i64)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    Ok(find(connection, &id).await?.1)
}

fn nothing_open() -> StoreError {
    StoreError::Conflict("no open dead letter matches the selection".to_owned())
}

async fn find(connection: &mut SqliteConnection, id: &str) -> Result<(i64, Replay), Failure> {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM replays WHERE id = ?")))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    let row = row.ok_or_else(|| StoreError::NotFound { what: "replay", id: id.to_owned() })?;
    Ok((row.at(0)?, read(&row)?))
}

/// One replay that may still change.
async fn find_unfinished(connection: &mut SqliteConnection, id: &str) -> Result<i64, Failure> {
    let (number, replay) = find(connection, id).await?;
    if replay.state.is_final() {
        return Err(
            StoreError::Conflict(format!("the replay {id} is {} already", replay.state.as_str())).into()
        );
    }
    Ok(number)
}

async fn change(
    connection: &mut SqliteConnection,
    id: ReplayId,
    state: ReplayState,
    act: Act,
    now: i64,
) -> Result<Replay, Failure> {
    let number = find_unfinished(connection, &id).await?;
    let finished_at = state.is_final().then_some(now);
    sqlx::query("UPDATE replays SET state = ?, finished_at = ? WHERE number = ?")
        .bind(state.as_str())
        .bind(finished_at)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    if state == ReplayState::Cancelled {
        skip(connection, number).await?;
    }
    audit::write(connection, now, &act, (&format!("replay {}", state.as_str()), &id)).await?;
    Ok(find(connection, &id).await?.1)
}

/// Pending items that are not held are skipped, and their letters are open again.
async fn skip(connection: &mut SqliteConnection, replay: i64) -> Result<(), Failure> {
    let skipped = sqlx::query("UPDATE replay_items SET state = 5 WHERE replay = ? AND state = 0")
        .bind(replay)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    sqlx::query("UPDATE replays SET skipped = skipped + ? WHERE number = ?")
        .bind(skipped as i64)
        .bind(replay)
        .execute(&mut *connection)
        .await?;
    letters::change(connection, (LetterState::Replaying, LetterState::Open), SKIPPING, replay, None).await?;
    sqlx::query("UPDATE replay_items SET state = 4 WHERE replay = ? AND state = 5")
        .bind(replay)
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops some settled items of a replay that ended before; the replay itself and its counts stay. Returns how many.
pub(crate) async fn drop_items(connection: &mut SqliteConnection, before: i64) -> Result<u64, sqlx::Error> {
    let replay: Option<i64> = sqlx::query_scalar(
        "SELECT number FROM replays r WHERE finished_at < ?
         AND EXISTS (SELECT 1 FROM replay_items i WHERE i.replay = r.number AND i.state NOT IN (0, 1)) LIMIT 1",
    )
    .bind(before)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(replay) = replay else { return Ok(0) };
    let dropped = sqlx::query(
        "DELETE FROM replay_items WHERE replay = ?1 AND item IN
         (SELECT item FROM replay_items WHERE replay = ?1 AND state NOT IN (0, 1) LIMIT ?2)",
    )
    .bind(replay)
    .bind(DROPPED_A_STEP)
    .execute(connection)
    .await?;
    Ok(dropped.rows_affected())
}

async fn set_rate(
    connection: &mut SqliteConnection,
    id: ReplayId,
    rate: Option<f64>,
    act: Act,
    now: i64,
) -> Result<Replay, Failure> {
    let number = find_unfinished(connection, &id).await?;
    sqlx::query("UPDATE replays SET rate = ? WHERE number = ?")
        .bind(rate)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    audit::write(connection, now, &act, ("replay rate", &id)).await?;
    Ok(find(connection, &id).await?.1)
}

/// The item waits as a held event.
pub(crate) async fn hold_item(
    connection: &mut SqliteConnection,
    ticket: &ReplayTicket,
) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE replay_items SET state = 1 WHERE replay = (SELECT number FROM replays WHERE id = ?) AND item = ? AND state = 0",
    )
    .bind(&ticket.replay)
    .bind(ticket.item as i64)
    .execute(connection)
    .await?;
    Ok(())
}

/// The item was delivered, and its letter with it.
pub(crate) async fn item_delivered(
    connection: &mut SqliteConnection,
    ticket: &ReplayTicket,
    now: i64,
) -> Result<(), Failure> {
    if let Some(letter) = settle_item(connection, ticket, 2).await? {
        letters::replayed(connection, letter, LetterState::Replaying, now).await?;
        count(connection, ticket, "delivered", now).await?;
    } else if let Some(letter) = unskip(connection, ticket).await? {
        letters::replayed(connection, letter, LetterState::Open, now).await?;
    }
    Ok(())
}

/// The item failed again. False if it was settled before.
pub(crate) async fn item_failed(
    connection: &mut SqliteConnection,
    ticket: &ReplayTicket,
    now: i64,
) -> Result<bool, Failure> {
    let settled = settle_item(connection, ticket, 3).await?.is_some();
    if settled {
        count(connection, ticket, "failed", now).await?;
    }
    Ok(settled)
}

/// Settles an item that is pending, held or not; gives back its letter.
async fn settle_item(
    connection: &mut SqliteConnection,
    ticket: &ReplayTicket,
    state: i64,
) -> Result<Option<LetterNumber>, Failure> {
    let letter = sqlx::query_scalar(
        "UPDATE replay_items SET state = ? WHERE replay = (SELECT number FROM replays WHERE id = ?) AND item = ?
         AND state IN (0, 1) RETURNING letter",
    )
    .bind(state)
    .bind(&ticket.replay)
    .bind(ticket.item as i64)
    .fetch_optional(connection)
    .await?;
    Ok(letter)
}

/// An item that was skipped while somebody was sending it was delivered after all; gives back its letter.
async fn unskip(
    connection: &mut SqliteConnection,
    ticket: &ReplayTicket,
) -> Result<Option<LetterNumber>, Failure> {
    let letter = sqlx::query_scalar(
        "UPDATE replay_items SET state = 2 WHERE replay = (SELECT number FROM replays WHERE id = ?) AND item = ?
         AND state = 4 RETURNING letter",
    )
    .bind(&ticket.replay)
    .bind(ticket.item as i64)
    .fetch_optional(&mut *connection)
    .await?;
    if letter.is_some() {
        sqlx::query("UPDATE replays SET skipped = skipped - 1, delivered = delivered + 1 WHERE id = ?")
            .bind(&ticket.replay)
            .execute(connection)
            .await?;
    }
    Ok(letter)
}

/// Counts a settled item; the last one finishes the replay.
async fn count(
    connection: &mut SqliteConnection,
    ticket: &ReplayTicket,
    counter: &'static str,
    now: i64,
) -> Result<(), Failure> {
    sqlx::query(AssertSqlSafe(format!("UPDATE replays SET {counter} = {counter} + 1 WHERE id = ?")))
        .bind(&ticket.replay)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE replays SET state = CASE failed WHEN 0 THEN 'succeeded' ELSE 'failed' END, finished_at = ?
         WHERE id = ? AND state IN ('running', 'paused') AND delivered + failed + skipped = total",
    )
    .bind(now)
    .bind(&ticket.replay)
    .execute(connection)
    .await?;
    Ok(())
}
