//! Places: partitions in flows, each with a number that stands for it in every other table.

use std::{
    collections::{BTreeSet, HashMap},
    sync::RwLock,
};

use crossdock_core::{FlowName, Partition, Position, StoreError, Topic};
use sqlx::{PgConnection, Row};

use crate::{Postgres, pool::Purpose};

/// The number of a place.
pub(super) type Place = i32;

/// What names a place.
pub(super) type Name = (FlowName, Partition);

/// The numbers that are known here. A number never changes and none is taken back, so this grows only.
#[derive(Default)]
pub(crate) struct Places(RwLock<HashMap<Name, Place>>);

/// The partition of a position.
pub(super) fn partition_of(position: &Position) -> Partition {
    Partition { topic: position.topic.clone(), number: position.partition }
}

impl Places {
    fn known(&self, name: &Name) -> Option<Place> {
        self.0.read().expect("no holder of this lock panics").get(name).copied()
    }

    fn learn(&self, places: impl IntoIterator<Item = (Name, Place)>) {
        self.0.write().expect("no holder of this lock panics").extend(places);
    }
}

impl Postgres {
    /// The number of a place, if it has one: nothing was ever stored for it otherwise.
    pub(super) async fn place(
        &self,
        flow: &FlowName,
        partition: &Partition,
    ) -> Result<Option<Place>, StoreError> {
        let name = (flow.clone(), partition.clone());
        if let Some(place) = self.inner.places.known(&name) {
            return Ok(Some(place));
        }
        let names = vec![name.clone()];
        let found = self.call(Purpose::Delivery, "reading places", move |connection| {
            Box::pin(async move { Ok(find(connection, &names).await?) })
        });
        self.inner.places.learn(found.await?);
        Ok(self.inner.places.known(&name))
    }

    /// The numbers of places; those that have none get one, which stays whatever becomes of the caller's change.
    pub(super) async fn places(&self, names: BTreeSet<Name>) -> Result<HashMap<Name, Place>, StoreError> {
        let places = &self.inner.places;
        let unknown: Vec<_> = names.iter().filter(|name| places.known(name).is_none()).cloned().collect();
        if !unknown.is_empty() {
            let found = self.call(Purpose::Delivery, "numbering places", move |connection| {
                Box::pin(async move {
                    let mut found = find(connection, &unknown).await?;
                    if found.len() < unknown.len() {
                        number(connection, &unknown).await?;
                        found = find(connection, &unknown).await?;
                    }
                    Ok(found)
                })
            });
            places.learn(found.await?);
        }
        let number = |name: Name| {
            let place = places.known(&name);
            let lost = || StoreError::Damaged(format!("the place {} of {} has no number", name.1, name.0));
            Ok((name.clone(), place.ok_or_else(lost)?))
        };
        names.into_iter().map(number).collect()
    }
}

/// By the unique index of the names.
async fn find(connection: &mut PgConnection, names: &[Name]) -> Result<Vec<(Name, Place)>, sqlx::Error> {
    let (flows, topics, partitions) = columns(names);
    let rows = sqlx::query(
        "SELECT flow, topic, partition, place FROM crossdock.places
         JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS n (flow, topic, partition) USING (flow, topic, partition)",
    )
    .bind(flows)
    .bind(topics)
    .bind(partitions)
    .fetch_all(connection)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| {
        let decode = |error: crossdock_core::NameError| sqlx::Error::Decode(error.into());
        let number =
            u32::try_from(row.try_get::<i64, _>(2)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let partition = Partition { topic: Topic::new(row.try_get(1)?).map_err(decode)?, number };
        Ok(((FlowName::new(row.try_get(0)?).map_err(decode)?, partition), row.try_get(3)?))
    };
    rows.iter().map(read).collect()
}

/// In the order of names, so that workers that meet here do not wait for each other in a circle.
async fn number(connection: &mut PgConnection, names: &[Name]) -> Result<(), sqlx::Error> {
    let (flows, topics, partitions) = columns(names);
    sqlx::query(
        "INSERT INTO crossdock.places (flow, topic, partition)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (flow, topic, partition) ORDER BY 1, 2, 3
         ON CONFLICT (flow, topic, partition) DO NOTHING",
    )
    .bind(flows)
    .bind(topics)
    .bind(partitions)
    .execute(connection)
    .await?;
    Ok(())
}

fn columns(names: &[Name]) -> (Vec<&str>, Vec<&str>, Vec<i64>) {
    let flows = names.iter().map(|(flow, _)| flow.as_str()).collect();
    let topics = names.iter().map(|(_, partition)| partition.topic.as_str()).collect();
    (flows, topics, names.iter().map(|(_, partition)| i64::from(partition.number)).collect())
}
