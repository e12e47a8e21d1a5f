//! Events that came in become rows, each once.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use crossdock_core::{Event, PublishError, Published, Topic};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use crate::errors::Failure;

/// The hashes of those that were not there before.
pub(crate) type Fresh = HashSet<Uuid>;

/// An event, ready to be written.
#[derive(Clone)]
pub(crate) struct Prepared {
    hash: Uuid,
    id: Uuid,
    topic: Topic,
    key: Option<String>,
    kind: String,
    attributes: Vec<u8>,
    data: Bytes,
}

impl Prepared {
    /// Refuses an event that is larger than `bytes_max`.
    pub(crate) fn new(topic: &Topic, event: Event, bytes_max: usize) -> Result<Self, PublishError> {
        let attributes =
            serde_json::to_vec(&event).expect("attributes are texts and a time, all of which JSON has");
        let bytes = attributes.len() + event.data.len();
        if bytes > bytes_max {
            return Err(PublishError::TooLarge { bytes, bytes_max });
        }
        Ok(Self {
            hash: hash(&[topic.as_str(), &event.source, &event.id]),
            id: row_id(&event.id),
            topic: topic.clone(),
            key: event.key.as_deref().map(storable),
            kind: storable(&event.kind),
            attributes,
            data: event.data,
        })
    }

    /// Bytes that it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        256 + self.attributes.len() + self.data.len()
    }
}

/// The `id` of the row of an event: its own id if that is a UUID as Postgres writes it, else a hash of it. The row is found by it.
pub(crate) fn row_id(id: &str) -> Uuid {
    let own = Uuid::parse_str(id).ok().filter(|uuid| uuid.as_hyphenated().to_string() == id);
    own.unwrap_or_else(|| hash(&[id]))
}

/// Of texts, each with its length, so that none runs into the next one.
fn hash(texts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let digest = hash.finalize();
    uuid::Builder::from_custom_bytes(digest[..16].try_into().expect("a SHA-256 digest has 32 bytes"))
        .into_uuid()
}

/// Postgres has no NUL in texts. The attributes keep it.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Events that are committed together.
pub(crate) struct Batch {
    events: Vec<Prepared>,
    /// The first event of each hash.
    first: HashMap<Uuid, usize>,
}

/// A statement carries so much data, or one event.
const STATEMENT_BYTES_MAX: usize = 8 << 20;

/// Hashes in their order, so that two workers never wait for each other. Numbers are given out in the order of the events: the
/// default of `seq` is evaluated above the sort.
const APPEND: &str = "
    WITH given AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])
            WITH ORDINALITY AS given (hash, id, topic, key, type, payload, attributes, n)
    ),
    fresh AS (
        INSERT INTO crossdock.seen (hash) SELECT hash FROM given ORDER BY hash ON CONFLICT (hash) DO NOTHING
        RETURNING hash
    ),
    written AS (
        INSERT INTO crossdock.outbox (id, aggregatetype, aggregateid, type, payload, attributes)
        SELECT id, topic, key, type, payload, attributes FROM given JOIN fresh USING (hash) ORDER BY n
    )
    SELECT hash FROM fresh";

impl Batch {
    pub(crate) fn new(events: Vec<Prepared>) -> Self {
        let mut first = HashMap::with_capacity(events.len());
        for (n, event) in events.iter().enumerate() {
            first.entry(event.hash).or_insert(n);
        }
        Self { events, first }
    }

    /// All of its events, in order.
    pub(crate) fn events(&self) -> &[Prepared] {
        &self.events
    }

    /// Some of its events, as a batch of their own.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        Self::new(self.events[range].to_vec())
    }

    /// What became of the nth event.
    pub(crate) fn published(&self, n: usize, fresh: &Fresh) -> Published {
        let hash = &self.events[n].hash;
        if self.first.get(hash) == Some(&n) && fresh.contains(hash) {
            Published::New(None)
        } else {
            Published::Duplicate
        }
    }

    /// The first events of each hash, in statements that are not too large.
    fn statements(&self) -> Vec<Vec<&Prepared>> {
        let mut statements: Vec<Vec<&Prepared>> = Vec::new();
        let mut bytes = 0;
        for (n, event) in
            self.events.iter().enumerate().filter(|(n, event)| self.first.get(&event.hash) == Some(n))
        {
            bytes += event.bytes();
            match statements.last_mut() {
                Some(statement) if bytes <= STATEMENT_BYTES_MAX => statement.push(event),
                _ => {
                    bytes = event.bytes();
                    statements.push(vec![&self.events[n]]);
                }
            }
        }
        statements
    }
}

/// Writes a batch in one transaction.
pub(crate) async fn append(connection: &mut PgConnection, batch: Arc<Batch>) -> Result<Fresh, Failure> {
    let mut fresh = Fresh::new();
    match batch.statements().as_slice() {
        [one] => run(connection, one, &mut fresh).await?,
        several => {
            let mut transaction = connection.begin().await?;
            for statement in several {
                run(&mut transaction, statement, &mut fresh).await?;
            }
            transaction.commit().await?;
        }
    }
    Ok(fresh)
}

async fn run(
    connection: &mut PgConnection,
    events: &[&Prepared],
    fresh: &mut Fresh,
) -> Result<(), sqlx::Error> {
    let column = |of: fn(&Prepared) -> Uuid| events.iter().map(|event| of(event)).collect::<Vec<_>>();
    let rows = sqlx::query(APPEND)
        .bind(column(|event| event.hash))
        .bind(column(|event| event.id))
        .bind(events.iter().map(|event| event.topic.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.key.as_deref()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.data.as_ref()).collect::<Vec<&[u8]>>())
        .bind(events.iter().map(|event| event.attributes.as_slice()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    for row in rows {
        fresh.insert(row.try_get(0)?);
    }
    Ok(())
}
