//! The leases port. Time is the database's alone.

use std::time::Duration;

use async_trait::async_trait;
use crossdock_core::{Holdings, Lease, Leases, StoreError, WorkerId};
use sqlx::{PgConnection, postgres::PgRow};

use crate::{Failure, Postgres, pool::Purpose};

use super::rows::Columns;

#[async_trait]
impl Leases for Postgres {
    async fn renew(&self, scope: &str, worker: &WorkerId, ttl: Duration) -> Result<Holdings, StoreError> {
        let (scope, worker) = (scope.to_owned(), worker.clone());
        self.write("renewing leases", move |connection| {
            let (scope, worker) = (scope.clone(), worker.clone());
            Box::pin(async move { renew(connection, &scope, &worker, ttl).await })
        })
        .await
    }

    async fn take(
        &self,
        scope: &str,
        worker: &WorkerId,
        names: &[String],
        ttl: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        let (scope, worker, mut names) = (scope.to_owned(), worker.clone(), names.to_vec());
        names.sort_unstable();
        names.dedup();
        self.write("taking leases", move |connection| {
            let (scope, worker, names) = (scope.clone(), worker.clone(), names.clone());
            Box::pin(async move { take(connection, &scope, &worker, &names, ttl).await })
        })
        .await
    }

    async fn release(&self, scope: &str, worker: &WorkerId, names: &[String]) -> Result<(), StoreError> {
        let (scope, worker, names) = (scope.to_owned(), worker.clone(), names.to_vec());
        self.call(Purpose::Delivery, "letting leases go", move |connection| {
            Box::pin(async move {
                // By the primary key.
                sqlx::query(
                    "UPDATE crossdock.leases SET holder = NULL WHERE (scope, name) IN
                     (SELECT scope, name FROM crossdock.leases WHERE scope = $1 AND name = ANY ($3) AND holder = $2
                      ORDER BY name FOR NO KEY UPDATE)",
                )
                .bind(&scope)
                .bind(&worker)
                .bind(&names)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    async fn leave(&self, scope: &str, worker: &WorkerId) -> Result<(), StoreError> {
        let (scope, worker) = (scope.to_owned(), worker.clone());
        self.write("leaving", move |connection| {
            let (scope, worker) = (scope.clone(), worker.clone());
            Box::pin(async move {
                sqlx::query("DELETE FROM crossdock.lease_workers WHERE scope = $1 AND worker = $2")
                    .bind(&scope)
                    .bind(&worker)
                    .execute(&mut *connection)
                    .await?;
                // A scope has some hundreds of leases: by the beginning of the primary key.
                sqlx::query(
                    "UPDATE crossdock.leases SET holder = NULL WHERE (scope, name) IN
                     (SELECT scope, name FROM crossdock.leases WHERE scope = $1 AND holder = $2
                      ORDER BY name FOR NO KEY UPDATE)",
                )
                .bind(&scope)
                .bind(&worker)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }
}

async fn renew(
    connection: &mut PgConnection,
    scope: &str,
    worker: &str,
    ttl: Duration,
) -> Result<Holdings, Failure> {
    sqlx::query(
        "INSERT INTO crossdock.lease_workers (scope, worker, alive_until)
         VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
         ON CONFLICT (scope, worker) DO UPDATE SET alive_until = excluded.alive_until",
    )
    .bind(scope)
    .bind(worker)
    .bind(ttl.as_secs_f64())
    .execute(&mut *connection)
    .await?;
    // Those of a scope, by the beginning of the primary key; in the order in which others lock them.
    sqlx::query(
        "UPDATE crossdock.leases SET held_until = clock_timestamp() + $3 * interval '1 second' WHERE (scope, name) IN
         (SELECT scope, name FROM crossdock.leases
          WHERE scope = $1 AND holder = $2 AND held_until > clock_timestamp() ORDER BY name FOR NO KEY UPDATE)",
    )
    .bind(scope)
    .bind(worker)
    .bind(ttl.as_secs_f64())
    .execute(&mut *connection)
    .await?;
    let workers = sqlx::query_scalar(
        "SELECT worker FROM crossdock.lease_workers WHERE scope = $1 AND (alive_until > clock_timestamp() OR worker = $2)
         ORDER BY worker",
    )
    .bind(scope)
    .bind(worker)
    .fetch_all(&mut *connection)
    .await?;
    let leases = sqlx::query(
        "SELECT name, holder, epoch FROM crossdock.leases
         WHERE scope = $1 AND holder IS NOT NULL AND held_until > clock_timestamp() ORDER BY name",
    )
    .bind(scope)
    .fetch_all(connection)
    .await?;
    let leases = leases.iter().map(lease).collect::<Result<_, _>>()?;
    Ok(Holdings { workers, leases })
}

/// One statement: what another worker holds stays as it is and is not answered. The names are sorted and differ.
async fn take(
    connection: &mut PgConnection,
    scope: &str,
    worker: &str,
    names: &[String],
    ttl: Duration,
) -> Result<Vec<Lease>, Failure> {
    let rows = sqlx::query(
        "INSERT INTO crossdock.leases AS l (scope, name, holder, epoch, held_until)
         SELECT $1, name, $2, 1, clock_timestamp() + $4 * interval '1 second'
         FROM unnest($3::text[]) WITH ORDINALITY AS n (name, nth) ORDER BY nth
         ON CONFLICT (scope, name) DO UPDATE
         SET holder = excluded.holder, held_until = excluded.held_until,
             epoch = l.epoch + CASE WHEN l.holder = $2 AND l.held_until > clock_timestamp() THEN 0 ELSE 1 END
         WHERE l.holder IS NULL OR l.holder = $2 OR l.held_until <= clock_timestamp()
         RETURNING name, holder, epoch",
    )
    .bind(scope)
    .bind(worker)
    .bind(names)
    .bind(ttl.as_secs_f64())
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(lease).collect::<Result<_, _>>()?)
}

fn lease(row: &PgRow) -> Result<Lease, StoreError> {
    Ok(Lease { name: row.at(0)?, holder: row.at(1)?, epoch: row.number(2)? })
}
