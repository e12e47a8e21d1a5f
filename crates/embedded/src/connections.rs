//! The connections port.

use async_trait::async_trait;
use crossdock_core::{Act, ConnectionName, ConnectionState, Connections, StoreError, StoredConnection};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use crate::{
    Embedded, audit, errors,
    place::{moment, nanoseconds},
    rows::Columns,
    task::Failure,
};

#[async_trait]
impl Connections for Embedded {
    async fn load(&self) -> Result<Vec<StoredConnection>, StoreError> {
        let rows = sqlx::query("SELECT name, state, detail, since FROM connections")
            .fetch_all(&self.inner.readers)
            .await
            .map_err(|error| errors::store_error("reading the states of connections", error))?;
        rows.iter().map(read).collect()
    }

    async fn save(
        &self,
        stored: &StoredConnection,
        act: Option<&Act>,
    ) -> Result<StoredConnection, StoreError> {
        let (stored, act) = (stored.clone(), act.cloned());
        let now = nanoseconds(self.inner.clock.now());
        self.inner
            .write("writing the state of a connection", move |connection| {
                Box::pin(save(connection, stored, act, now))
            })
            .await
    }
}

fn read(row: &SqliteRow) -> Result<StoredConnection, StoreError> {
    let name: &str = row.at(0)?;
    let damaged = |what: &str| errors::damaged(&format!("the {what} of the connection {name}"));
    Ok(StoredConnection {
        name: ConnectionName::new(name).map_err(|_| damaged("name"))?,
        state: ConnectionState::parse(row.at(1)?).ok_or_else(|| damaged("state"))?,
        detail: row.at(2)?,
        since: moment(row.at(3)?),
    })
}

async fn save(
    connection: &mut SqliteConnection,
    stored: StoredConnection,
    act: Option<Act>,
    now: i64,
) -> Result<StoredConnection, Failure> {
    let written = sqlx::query(
        "INSERT INTO connections AS c (name, state, detail, since) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET state = excluded.state, detail = excluded.detail, since = excluded.since
         WHERE ? OR (c.state = 'paused') = (excluded.state = 'paused')",
    )
    .bind(stored.name.as_str())
    .bind(stored.state.as_str())
    .bind(&stored.detail)
    .bind(nanoseconds(stored.since))
    .bind(act.is_some())
    .execute(&mut *connection)
    .await?;
    if let Some(act) = &act {
        let what = format!("connection {}", stored.state.as_str());
        audit::write(connection, now, act, (&what, stored.name.as_str())).await?;
    }
    if written.rows_affected() > 0 {
        return Ok(stored);
    }
    let sql = "SELECT name, state, detail, since FROM connections WHERE name = ?";
    Ok(read(&sqlx::query(sql).bind(stored.name.as_str()).fetch_one(connection).await?)?)
}
