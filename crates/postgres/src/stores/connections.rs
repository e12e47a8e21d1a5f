//! The connections port.

use async_trait::async_trait;
use crossdock_core::{Act, ConnectionName, ConnectionState, Connections, StoreError, StoredConnection};
use sqlx::postgres::PgRow;

use crate::{Postgres, pool::Purpose};

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

    async fn save(&self, stored: &StoredConnection, act: Option<&Act>) -> Result<(), StoreError> {
        let (stored, act, now) = (stored.clone(), act.cloned(), self.now());
        self.write("writing the state of a connection", move |connection| {
            let (stored, act) = (stored.clone(), act.clone());
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO crossdock.connections (name, state, detail, since) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (name) DO UPDATE
                     SET state = excluded.state, detail = excluded.detail, since = excluded.since",
                )
                .bind(stored.name.as_str())
                .bind(stored.state.as_str())
                .bind(stored.detail.as_deref().map(str::as_bytes))
                .bind(at(stored.since))
                .execute(&mut *connection)
                .await?;
                if let Some(act) = &act {
                    let what = format!("connection {}", stored.state.as_str());
                    audit::write(connection, now, act, (&what, stored.name.as_str(), 1)).await?;
                }
                Ok(())
            })
        })
        .await
    }
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
