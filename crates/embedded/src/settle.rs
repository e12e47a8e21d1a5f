//! The settlements port.

use std::sync::Arc;

use async_trait::async_trait;
use crossdock_core::{HeldId, NewHeld, Owner, Settled, Settlement, Settlements, StoreError, failpoint};
use sqlx::SqliteConnection;

use crate::{
    Embedded, catalog::Catalog, held, letters, owners::Owners, place::nanoseconds, replays, task::Failure,
};

#[async_trait]
impl Settlements for Embedded {
    async fn settle(
        &self,
        owner: Option<&Owner>,
        batch: Vec<Settlement>,
    ) -> Result<Vec<Settled>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (catalog, now) = (self.inner.catalog.clone(), nanoseconds(self.inner.clock.now()));
        let (owners, owner) = (self.inner.owners.clone(), owner.cloned());
        let settled = self
            .inner
            .write("settling deliveries", move |connection| {
                Box::pin(settle_owned(connection, (owners, owner), catalog, batch, now))
            })
            .await;
        failpoint("settle.after_commit");
        settled
    }
}

async fn settle_owned(
    connection: &mut SqliteConnection,
    (owners, owner): (Arc<Owners>, Option<Owner>),
    catalog: Arc<Catalog>,
    batch: Vec<Settlement>,
    now: i64,
) -> Result<Vec<Settled>, Failure> {
    if let Some(owner) = &owner {
        owners.check(owner)?;
    }
    settle(connection, catalog, batch, now).await
}

async fn settle(
    connection: &mut SqliteConnection,
    catalog: Arc<Catalog>,
    batch: Vec<Settlement>,
    now: i64,
) -> Result<Vec<Settled>, Failure> {
    let mut settled = Vec::with_capacity(batch.len());
    // Rows to remove gather while nothing else stands between them, and so do rows to add: one statement takes many.
    let mut gone: Vec<HeldId> = Vec::new();
    let mut batch = batch.into_iter().peekable();
    while let Some(settlement) = batch.next() {
        if !matches!(settlement, Settlement::Delivered { .. }) {
            held::remove(connection, &std::mem::take(&mut gone)).await?;
        }
        settled.push(match settlement {
            Settlement::Hold(first) => {
                let next =
                    std::iter::from_fn(|| match batch.next_if(|next| matches!(next, Settlement::Hold(_))) {
                        Some(Settlement::Hold(rows)) => Some(rows),
                        _ => None,
                    });
                let holds = std::iter::once(first).chain(next).collect();
                settled.extend(hold(connection, &catalog, holds).await?);
                continue;
            }
            Settlement::Again { held, attempts, tried, first_tried_at, due } => {
                held::again(connection, held, &attempts, (tried, first_tried_at, due)).await?;
                Settled::Done
            }
            Settlement::Delivered { held, replay } => {
                gone.extend(held);
                if let Some(ticket) = &replay {
                    replays::item_delivered(connection, ticket, now).await?;
                }
                Settled::Done
            }
            Settlement::DeadLetter { letter, held, replay } => {
                gone.extend(held);
                letters::bury(connection, &catalog, &letter, replay.as_ref(), now).await?;
                Settled::Done
            }
        });
    }
    held::remove(connection, &gone).await?;
    failpoint("settle.before_commit");
    Ok(settled)
}

/// Holds the rows of several settlements that follow each other, and answers for each.
async fn hold(
    connection: &mut SqliteConnection,
    catalog: &Arc<Catalog>,
    holds: Vec<Vec<NewHeld>>,
) -> Result<Vec<Settled>, Failure> {
    let counts: Vec<usize> = holds.iter().map(Vec::len).collect();
    let mut placed =
        held::hold(connection, catalog, holds.into_iter().flatten().collect()).await?.into_iter();
    Ok(counts.into_iter().map(|count| Settled::Held(placed.by_ref().take(count).collect())).collect())
}
