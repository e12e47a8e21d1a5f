//! The settlements port.

use std::sync::Arc;

use async_trait::async_trait;
use crossdock_core::{HeldId, Settled, Settlement, Settlements, StoreError, failpoint};
use sqlx::SqliteConnection;

use crate::{Embedded, catalog::Catalog, held, letters, place::nanoseconds, replays, writer::Failure};

#[async_trait]
impl Settlements for Embedded {
    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (catalog, now) = (self.inner.catalog.clone(), nanoseconds(self.inner.clock.now()));
        let settled = self
            .inner
            .write("settling deliveries", move |connection| Box::pin(settle(connection, catalog, batch, now)))
            .await;
        failpoint("settle.after_commit");
        settled
    }
}

async fn settle(
    connection: &mut SqliteConnection,
    catalog: Arc<Catalog>,
    batch: Vec<Settlement>,
    now: i64,
) -> Result<Vec<Settled>, Failure> {
    let mut settled = Vec::with_capacity(batch.len());
    // Rows to remove gather while nothing else stands between them, so that one statement takes many.
    let mut gone: Vec<HeldId> = Vec::new();
    for settlement in batch {
        if !matches!(settlement, Settlement::Delivered { .. }) {
            held::remove(connection, &std::mem::take(&mut gone)).await?;
        }
        settled.push(match settlement {
            Settlement::Hold(new) => Settled::Held(held::hold(connection, &catalog, new).await?),
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
