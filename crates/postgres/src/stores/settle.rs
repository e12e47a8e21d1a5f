//! The settlements port: one transaction for a batch, whatever is in it.

mod groups;
mod holding;
mod items;
mod letters;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use crossdock_core::{
    Event, Owner, Position, Settled, Settlement, Settlements, StoreError, failpoint, hash_key,
};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{Failure, Postgres};

use super::places::{Name, Place, partition_of};

/// A delivery: a place, an offset in it, and the hash of the event's id, since a topic that was made anew gives offsets a second
/// time.
type Delivery = (Place, i64, i64);

fn delivery(place: Place, position: &Position, event: &Event) -> Delivery {
    (place, position.offset as i64, hash_key(&event.id) as i64)
}

/// What is to be settled. Shared, since a transaction may be done again.
struct Batch {
    owner: Option<Owner>,
    settlements: Vec<Settlement>,
    places: HashMap<Name, Place>,
    now: Timestamp,
}

#[async_trait]
impl Settlements for Postgres {
    async fn settle(
        &self,
        owner: Option<&Owner>,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<Settled>, StoreError> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.places(names(owner, &settlements)).await?;
        let batch = Arc::new(Batch { owner: owner.cloned(), settlements, places, now: self.now() });
        let settled = self.write("settling deliveries", move |connection| {
            let batch = batch.clone();
            Box::pin(async move { settle(connection, &batch).await })
        });
        let settled = settled.await?;
        failpoint("settle.after_commit");
        Ok(settled)
    }
}

/// The places that a batch is about.
fn names(owner: Option<&Owner>, settlements: &[Settlement]) -> BTreeSet<Name> {
    let mut names: BTreeSet<Name> =
        owner.iter().map(|owner| (owner.flow.clone(), owner.partition.clone())).collect();
    for settlement in settlements {
        match settlement {
            Settlement::Hold(rows) => {
                names.extend(rows.iter().map(|row| (row.flow.clone(), partition_of(&row.position))));
            }
            Settlement::DeadLetter { letter, .. } => {
                names.insert((letter.flow.clone(), partition_of(&letter.position)));
            }
            Settlement::Again { .. } | Settlement::Delivered { .. } => {}
        }
    }
    names
}

async fn settle(connection: &mut PgConnection, batch: &Batch) -> Result<Vec<Settled>, Failure> {
    if let Some(owner) = &batch.owner {
        fence(connection, owner, batch).await?;
    }
    let settled = holding::settle(connection, batch).await?;
    let mut items = items::load(connection, batch).await?;
    let mut letters = letters::load(connection, batch, &items).await?;
    for (settlement, settled) in batch.settlements.iter().zip(&settled) {
        match (settlement, settled) {
            (Settlement::Hold(rows), Settled::Held(placed)) => {
                // A row that was there before settles no replay, so the item is not held by it.
                let new = rows.iter().zip(placed).filter(|(_, placed)| placed.new);
                new.filter_map(|(row, _)| row.replay.as_ref()).for_each(|ticket| items.hold(ticket));
            }
            (Settlement::Delivered { replay: Some(ticket), .. }, _) => {
                if let Some((letter, from)) = items.deliver(ticket, batch.now) {
                    letters.replayed(letter, from, batch.now);
                }
            }
            (Settlement::DeadLetter { letter, replay, .. }, _) => {
                let failed = replay.as_ref().is_some_and(|ticket| items.fail(ticket, batch.now));
                letters.bury(batch.place(letter), letter, failed);
            }
            _ => {}
        }
    }
    letters.write(connection).await?;
    items.write(connection).await?;
    failpoint("settle.before_commit");
    Ok(settled)
}

/// Whoever adopts the partition meanwhile waits for the end of this transaction.
async fn fence(connection: &mut PgConnection, owner: &Owner, batch: &Batch) -> Result<(), Failure> {
    let epoch: Option<i64> =
        sqlx::query_scalar("SELECT epoch FROM crossdock.places WHERE place = $1 FOR SHARE")
            .bind(batch.places[&(owner.flow.clone(), owner.partition.clone())])
            .fetch_optional(connection)
            .await?;
    if epoch.and_then(|epoch| u64::try_from(epoch).ok()) == Some(owner.epoch) {
        return Ok(());
    }
    let what = format!("the partition {} in the flow {}", owner.partition, owner.flow);
    Err(StoreError::Fenced(what).into())
}
