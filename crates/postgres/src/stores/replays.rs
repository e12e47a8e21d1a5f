//! The replays port.

mod change;
mod create;
mod items;
mod rate;

use async_trait::async_trait;
use crossdock_core::{
    Act, FlowName, NewReplay, Page, PageRequest, Partition, Replay, ReplayId, ReplayItem, ReplayState,
    Replays, StoreError, Tried, time_ordered_id,
};
use sqlx::{AssertSqlSafe, PgConnection, Postgres as Sql, QueryBuilder, postgres::PgRow};

use crate::{Failure, Postgres, pool::Purpose};

use super::{cursor, rows::Columns, transaction::Length};

pub(super) use items::drop_items;

const COLUMNS: &str = "number, id, state, selection, rate, actor, reason, total, delivered, failed, skipped, created_at, \
                       finished_at, test, tried";

#[async_trait]
impl Replays for Postgres {
    async fn create(&self, replay: NewReplay) -> Result<Replay, StoreError> {
        let id = time_ordered_id('r', uuid::Uuid::now_v7().as_u128());
        let now = self.now();
        self.transact((Purpose::Admin, Length::Long), "making a replay", move |connection| {
            let (replay, id) = (replay.clone(), id.clone());
            Box::pin(async move { create::create(connection, &replay, &id, now).await })
        })
        .await
    }

    async fn get(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        let mut query =
            QueryBuilder::<Sql>::new(format!("SELECT {COLUMNS} FROM crossdock.replays WHERE id = "));
        query.push_bind(id.as_bytes());
        self.ask("reading a replay", query).await?.first().map(read).transpose()
    }

    async fn list(&self, page: PageRequest) -> Result<Page<Replay>, StoreError> {
        let from = cursor::read(&page)?;
        // By the primary key, backwards.
        let sql = format!("SELECT {COLUMNS} FROM crossdock.replays WHERE number < ");
        let mut query = QueryBuilder::<Sql>::new(sql);
        query.push_bind(from.last.0).push(" ORDER BY number DESC LIMIT ").push(from.limit + 1);
        let rows = self.ask("listing replays", query).await?;
        let last = rows.get(from.limit - 1).filter(|_| rows.len() > from.limit);
        let next = last.map(|last| Ok::<_, StoreError>(cursor::behind(last.at(0)?, 0))).transpose()?;
        let items = rows.iter().take(from.limit).map(read).collect::<Result<_, _>>()?;
        Ok(Page { items, next })
    }

    async fn unfinished(&self) -> Result<Vec<Replay>, StoreError> {
        // By `replays_unfinished`.
        let sql = format!(
            "SELECT {COLUMNS} FROM crossdock.replays WHERE state IN ('running', 'paused') ORDER BY number"
        );
        let rows = self.call(Purpose::Delivery, "reading replays", move |connection| {
            Box::pin(async move { Ok(sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await?) })
        });
        rows.await?.iter().map(read).collect()
    }

    async fn places(&self, id: &str) -> Result<Vec<(FlowName, Partition)>, StoreError> {
        items::places(self, id).await
    }

    async fn items(
        &self,
        id: &str,
        flow: &FlowName,
        partition: &Partition,
        from: u64,
        limit: usize,
    ) -> Result<Vec<ReplayItem>, StoreError> {
        let Some(place) = self.place(flow, partition).await? else { return Ok(Vec::new()) };
        items::items(self, id, place, from, limit).await
    }

    async fn allow(&self, id: &str, want: u64) -> Result<u64, StoreError> {
        rate::allow(self, id, want).await
    }

    async fn change(&self, id: &str, state: ReplayState, act: &Act) -> Result<Replay, StoreError> {
        if matches!(state, ReplayState::Succeeded | ReplayState::Failed) {
            let text = format!("a replay becomes `{}` by itself", state.as_str());
            return Err(StoreError::Conflict(text));
        }
        let (id, act, now) = (id.to_owned(), act.clone(), self.now());
        self.transact((Purpose::Admin, Length::Long), "changing a replay", move |connection| {
            let (id, act) = (id.clone(), act.clone());
            Box::pin(async move { change::change(connection, &id, state, (&act, now)).await })
        })
        .await
    }

    async fn tried(&self, id: &str, tried: &Tried) -> Result<(), StoreError> {
        let (id, tried) = (id.to_owned(), serde_json::to_vec(tried).expect("text and numbers are JSON"));
        self.call(Purpose::Delivery, "keeping what a test came to", move |connection| {
            Box::pin(async move {
                // By the unique index of the ids.
                let query = sqlx::query("UPDATE crossdock.replays SET tried = $1 WHERE id = $2");
                query.bind(tried).bind(id.as_bytes()).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    async fn set_rate(&self, id: &str, rate: Option<f64>, act: &Act) -> Result<Replay, StoreError> {
        let (id, act, now) = (id.to_owned(), act.clone(), self.now());
        self.transact((Purpose::Admin, Length::Usual), "changing the rate of a replay", move |connection| {
            let (id, act) = (id.clone(), act.clone());
            Box::pin(async move { rate::set(connection, &id, rate, (&act, now)).await })
        })
        .await
    }
}

fn read(row: &PgRow) -> Result<Replay, StoreError> {
    let id: ReplayId = row.text(1)?;
    let damaged = |what: &str| StoreError::Damaged(format!("the {what} of the replay {id}"));
    Ok(Replay {
        state: ReplayState::parse(row.at(2)?).ok_or_else(|| damaged("state"))?,
        selection: serde_json::from_slice(row.at(3)?).map_err(|_| damaged("selection"))?,
        rate: row.at(4)?,
        actor: row.text(5)?,
        reason: row.text(6)?,
        total: row.number(7)?,
        delivered: row.number(8)?,
        failed: row.number(9)?,
        skipped: row.number(10)?,
        created_at: row.moment(11)?,
        finished_at: row.moment_or_none(12)?,
        test: row.at(13)?,
        tried: match row.at::<Option<&[u8]>, _>(14)? {
            Some(tried) => Some(serde_json::from_slice(tried).map_err(|_| damaged("result"))?),
            None => None,
        },
        id,
    })
}

/// One replay, by the unique index of the ids.
async fn find(connection: &mut PgConnection, id: &str) -> Result<Replay, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM crossdock.replays WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.as_bytes()).fetch_one(connection).await?;
    Ok(read(&row)?)
}

/// Locks one replay that may still change, and gives its number. Whoever changes its items does this first.
async fn lock_unfinished(connection: &mut PgConnection, id: &str) -> Result<i64, Failure> {
    let row = sqlx::query("SELECT number, state FROM crossdock.replays WHERE id = $1 FOR NO KEY UPDATE")
        .bind(id.as_bytes())
        .fetch_optional(connection)
        .await?;
    let row = row.ok_or_else(|| StoreError::NotFound { what: "replay", id: id.to_owned() })?;
    let state: &str = row.at(1)?;
    if ReplayState::parse(state).is_some_and(ReplayState::is_final) {
        return Err(StoreError::Conflict(format!("the replay {id} is {state} already")).into());
    }
    Ok(row.at(0)?)
}
