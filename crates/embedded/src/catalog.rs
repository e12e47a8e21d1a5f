//! Names and their numbers: topics, partitions, flows.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use crossdock_core::{FlowName, Partition, Position, Topic};
use sqlx::{Row, SqliteConnection};

use crate::place::{Part, Place};

/// The number of a flow in the file.
pub(crate) type FlowNumber = i64;

/// What is known of names. Grows only.
#[derive(Default)]
pub(crate) struct Catalog(RwLock<Names>);

#[derive(Default)]
struct Names {
    parts: HashMap<Partition, Part>,
    partitions: HashMap<Part, Partition>,
    flows: HashMap<FlowName, FlowNumber>,
    flow_names: HashMap<FlowNumber, FlowName>,
}

impl Catalog {
    /// Reads the names from the file; those that a failed transaction made are forgotten.
    pub(crate) async fn load(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut names = Names::default();
        for row in sqlx::query("SELECT id, topic, number FROM partitions").fetch_all(&mut *connection).await?
        {
            let topic = Topic::new(row.try_get(1)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
            names.add_part(Partition { topic, number: row.try_get(2)? }, row.try_get(0)?);
        }
        for row in sqlx::query("SELECT id, name FROM flows").fetch_all(connection).await? {
            let name = FlowName::new(row.try_get(1)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
            names.add_flow(name, row.try_get(0)?);
        }
        *self.0.write().expect("no holder of this lock panics") = names;
        Ok(())
    }

    /// The number of a partition, if it has one.
    pub(crate) fn part(&self, topic: &Topic, number: u32) -> Option<Part> {
        self.read(|names| names.parts.get(&Partition { topic: topic.clone(), number }).copied())
    }

    /// Every partition that has a number.
    pub(crate) fn parts(&self) -> Vec<Part> {
        self.read(|names| names.partitions.keys().copied().collect())
    }

    /// Every partition of a topic that has a number.
    pub(crate) fn parts_of(&self, topic: &Topic) -> Vec<Part> {
        self.read(|names| {
            let of_topic = names.parts.iter().filter(|(partition, _)| partition.topic == *topic);
            of_topic.map(|(_, part)| *part).collect()
        })
    }

    /// The place of a position, if its partition has a number.
    pub(crate) fn place(&self, position: &Position) -> Option<Place> {
        self.part(&position.topic, position.partition).map(|part| Place::new(part, position.offset))
    }

    /// The position of a place.
    pub(crate) fn position(&self, place: Place) -> Option<Position> {
        self.read(|names| {
            let partition = names.partitions.get(&place.part())?;
            Some(Position {
                topic: partition.topic.clone(),
                partition: partition.number,
                offset: place.offset(),
            })
        })
    }

    /// The partition of a number.
    pub(crate) fn partition(&self, part: Part) -> Option<Partition> {
        self.read(|names| names.partitions.get(&part).cloned())
    }

    /// The number of a flow, if it has one.
    pub(crate) fn flow(&self, name: &FlowName) -> Option<FlowNumber> {
        self.read(|names| names.flows.get(name).copied())
    }

    /// The name of a flow.
    pub(crate) fn flow_name(&self, number: FlowNumber) -> Option<FlowName> {
        self.read(|names| names.flow_names.get(&number).cloned())
    }

    /// The place of a position; its partition gets a number if it has none.
    pub(crate) async fn place_or_new(
        &self,
        connection: &mut SqliteConnection,
        position: &Position,
    ) -> Result<Place, sqlx::Error> {
        let partition = Partition { topic: position.topic.clone(), number: position.partition };
        Ok(Place::new(self.part_or_new(connection, &partition).await?, position.offset))
    }

    /// The number of a partition; it gets one if it has none.
    pub(crate) async fn part_or_new(
        &self,
        connection: &mut SqliteConnection,
        partition: &Partition,
    ) -> Result<Part, sqlx::Error> {
        if let Some(part) = self.part(&partition.topic, partition.number) {
            return Ok(part);
        }
        let part = sqlx::query_scalar("INSERT INTO partitions (topic, number) VALUES (?, ?) RETURNING id")
            .bind(partition.topic.as_str())
            .bind(partition.number)
            .fetch_one(connection)
            .await?;
        self.write(|names| names.add_part(partition.clone(), part));
        Ok(part)
    }

    /// The number of a flow; it gets one if it has none.
    pub(crate) async fn flow_or_new(
        &self,
        connection: &mut SqliteConnection,
        name: &FlowName,
    ) -> Result<FlowNumber, sqlx::Error> {
        if let Some(flow) = self.flow(name) {
            return Ok(flow);
        }
        let flow = sqlx::query_scalar("INSERT INTO flows (name) VALUES (?) RETURNING id")
            .bind(name.as_str())
            .fetch_one(connection)
            .await?;
        self.write(|names| names.add_flow(name.clone(), flow));
        Ok(flow)
    }

    fn read<T>(&self, read: impl FnOnce(&Names) -> T) -> T {
        read(&self.0.read().expect("no holder of this lock panics"))
    }

    fn write(&self, write: impl FnOnce(&mut Names)) {
        write(&mut self.0.write().expect("no holder of this lock panics"));
    }
}

impl Names {
    fn add_part(&mut self, partition: Partition, part: Part) {
        self.partitions.insert(part, partition.clone());
        self.parts.insert(partition, part);
    }

    fn add_flow(&mut self, name: FlowName, flow: FlowNumber) {
        self.flow_names.insert(flow, name.clone());
        self.flows.insert(name, flow);
    }
}

/// A shared catalog.
pub(crate) type SharedCatalog = Arc<Catalog>;
