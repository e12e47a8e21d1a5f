//! The connections port.

use async_trait::async_trait;
use crossdock_core::{Act, ConnectionName, ConnectionState, Connections, StoreError, StoredConnection};
use sqlx::{PgConnection, postgres::PgRow};

use crate::{Failure, Postgres, pool::Purpose};

use super::{
    audit,
    rows::{Columns, at},
};

#[async_trait]
impl Connections for Postgres {
    /// Reads all there are: as many as the configuration ever named.
    async fn load(&self) -> Result<Vec<StoredConnection>, StoreError> {
        let rows = self.call(Purpose::Delivery, "reading the states of connections", |connection| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT name, state, detail, since FROM crossdock.connections");
                Ok(rows.fetch_all(connection).await?)
            })
        });
        rows.await?.iter().map(read).collect()
    }

    async fn save(
        &self,
        stored: &StoredConnection,
        act: Option<&Act>,
    ) -> Result<StoredConnection, StoreError> {
        let (stored, act, now) = (stored.clone(), act.cloned(), self.now());
        self.write("writing the state of a connection", move |connection| {
            let (stored, act) = (stored.clone(), act.clone());
            Box::pin(async move {
                let written = write(connection, &stored, act.is_some()).await?;
                if let Some(act) = &act {
                    let what = format!("connection {}", stored.state.as_str());
                    audit::write(connection, now, act, (&what, stored.name.as_str(), 1)).await?;
                }
                if written { Ok(stored) } else { Ok(standing(connection, &stored.name).await?) }
            })
        })
        .await
    }
}

/// By the primary key. The condition is asked of the row as it is once whoever else writes it has committed.
async fn write(
    connection: &mut PgConnection,
    stored: &StoredConnection,
    by_a_person: bool,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query(
        "INSERT INTO crossdock.connections AS c (name, state, detail, since) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE
         SET state = excluded.state, detail = excluded.detail, since = excluded.since
         WHERE $5 OR (c.state = 'paused') = (excluded.state = 'paused')",
    )
    .bind(stored.name.as_str())
    .bind(stored.state.as_str())
    .bind(stored.detail.as_deref().map(str::as_bytes))
    .bind(at(stored.since))
    .bind(by_a_person)
    .execute(connection)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// By the primary key.
async fn standing(connection: &mut PgConnection, name: &ConnectionName) -> Result<StoredConnection, Failure> {
    let sql = "SELECT name, state, detail, since FROM crossdock.connections WHERE name = $1";
    Ok(read(&sqlx::query(sql).bind(name.as_str()).fetch_one(connection).await?)?)
}

fn read(row: &PgRow) -> Result<StoredConnection, StoreError> {
    let name: &str = row.at(0)?;
    let damaged = |what: &str| StoreError::Damaged(format!("the {what} of the connection {name}"));
    Ok(StoredConnection {
        name: ConnectionName::new(name).map_err(|_| damaged("name"))?,
        state: ConnectionState::parse(row.at(1)?).ok_or_else(|| damaged("state"))?,
        detail: row.text_or_none(2)?,
        since: row.moment(3)?,
    })
}
