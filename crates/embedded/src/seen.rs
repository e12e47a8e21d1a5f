//! Which events were seen: the newest ids in memory, older ones in sorted runs on disk.
//!
//! A run is written once, in the transaction that empties the memory, and never changed. A Bloom filter in memory tells
//! whether an id may be in it, so a new id almost never reads the disk. Eight small runs of one level become one of the
//! next, a few buckets at a time between commits, until they are large; runs that are older than the window are dropped
//! whole. So there are few runs, however small the ones are that come in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crossdock_core::{Event, Topic, failpoint};
use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};

use crate::{place::Place, rows};

/// The bits of a bucket's number.
const BUCKET_BITS: u32 = 10;
const BUCKETS: i64 = 1 << BUCKET_BITS;
/// Bytes of an id, and of an entry in a run: the id and the place.
pub(crate) const ID_BYTES: usize = 24;
const ENTRY_BYTES: usize = ID_BYTES + 8;
/// Small runs that become one of the next level.
const FAN_IN: usize = 8;
/// Buckets that one step of a compaction, and of clearing a dropped run, works on.
const BUCKETS_A_STEP: i64 = 64;

/// What an event is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeenId {
    /// A hash of the event's id alone: what people look events up by, and what buckets are cut by.
    id: u64,
    /// A hash of topic, source and id.
    whole: u128,
}

impl SeenId {
    pub(crate) fn of(topic: &Topic, event: &Event) -> Self {
        let mut hash = Sha256::new();
        for part in [topic.as_str(), &event.source, &event.id] {
            // The length before each part keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let whole = u128::from_be_bytes(digest[..16].try_into().expect("a digest has 32 bytes"));
        Self { id: crossdock_core::hash_key(&event.id), whole }
    }

    /// What chooses the partition of an event without a key.
    pub(crate) fn spread(self) -> u64 {
        self.whole as u64
    }

    pub(crate) fn to_bytes(self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        bytes[..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..].copy_from_slice(&self.whole.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, whole) = bytes.split_first_chunk::<8>()?;
        Some(Self { id: u64::from_be_bytes(*id), whole: u128::from_be_bytes(whole.try_into().ok()?) })
    }
}

/// An entry as it stands in a bucket: sorts like its id.
type Entry = [u8; ENTRY_BYTES];

fn entry(id: SeenId, place: Place) -> Entry {
    let mut entry = [0; ENTRY_BYTES];
    entry[..ID_BYTES].copy_from_slice(&id.to_bytes());
    entry[ID_BYTES..].copy_from_slice(&place.0.to_be_bytes());
    entry
}

fn place_of(entry: &[u8]) -> Place {
    Place(i64::from_be_bytes(entry[ID_BYTES..].try_into().expect("an entry ends with 8 bytes of place")))
}

fn bucket_of(id_hash: u64) -> i64 {
    (id_hash >> (64 - BUCKET_BITS)) as i64
}

/// The newest ids, not yet in a run. Read by whoever looks an event up.
#[derive(Default)]
pub(crate) struct Recent(Mutex<HashMap<SeenId, Place>>);

impl Recent {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<SeenId, Place>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// About what the run will take in the file that these ids become: entries on pages that are half full, and a filter.
    pub(crate) fn run_bytes(&self) -> usize {
        const AN_ID: usize = 2 * ENTRY_BYTES + Filter::BITS_AN_ENTRY.div_ceil(8);
        self.lock().len() * AN_ID + (64 << 10)
    }

    fn find(&self, id_hash: u64) -> Vec<Place> {
        self.lock().iter().filter(|(id, _)| id.id == id_hash).map(|(_, place)| *place).collect()
    }
}

/// A Bloom filter: 12 bits an entry, 6 of them set, 0.4 % of strangers let through.
#[derive(Debug, Clone)]
struct Filter(Vec<u64>);

impl Filter {
    const BITS_AN_ENTRY: usize = 12;
    const SET_BITS: u64 = 6;

    fn new(entries: usize) -> Self {
        Self(vec![0; (entries * Self::BITS_AN_ENTRY).div_ceil(64).max(1)])
    }

    fn bits(&self, id: SeenId) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (one, other, bits) = ((id.whole >> 64) as u64, id.whole as u64 | 1, self.0.len() as u64 * 64);
        (0..Self::SET_BITS).map(move |n| {
            let bit = one.wrapping_add(n.wrapping_mul(other)) % bits;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    fn add(&mut self, id: SeenId) {
        for (word, bit) in self.bits(id) {
            self.0[word] |= bit;
        }
    }

    fn may_hold(&self, id: SeenId) -> bool {
        self.bits(id).all(|(word, bit)| self.0[word] & bit != 0)
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        if words.is_empty() { Self::new(0) } else { Self(words) }
    }
}

/// A run on disk.
#[derive(Debug, Clone)]
struct Run {
    number: i64,
    level: u8,
    entries: u64,
    newest_at: i64,
    filter: Arc<Filter>,
}

/// A run that is being made of smaller ones.
struct Compaction {
    sources: Vec<Run>,
    target: Run,
    filter: Filter,
    next_bucket: i64,
}

/// The runs. Owned by the writer; what changes with a transaction is taken over once it is committed.
pub(crate) struct Runs {
    runs: Vec<Run>,
    compaction: Option<Compaction>,
    /// Runs that are dropped, whose buckets are still there.
    garbage: Vec<i64>,
    next_number: i64,
    /// A run with fewer entries is small. Twice what the memory holds, so that runs written from a full memory are small and
    /// what becomes of them is large.
    small_below: u64,
}

impl Runs {
    /// Reads what is there. `recent_ids_max` is the size at which the memory becomes a run.
    pub(crate) async fn load(
        connection: &mut SqliteConnection,
        recent_ids_max: usize,
    ) -> Result<Self, sqlx::Error> {
        let rows = sqlx::query("SELECT run, level, entries, newest_at, filter FROM seen_runs ORDER BY run")
            .fetch_all(&mut *connection)
            .await?;
        let mut runs = Vec::with_capacity(rows.len());
        for row in &rows {
            runs.push(Run {
                number: row.try_get(0)?,
                level: row.try_get(1)?,
                entries: row.try_get::<i64, _>(2)? as u64,
                newest_at: row.try_get(3)?,
                filter: Arc::new(Filter::from_bytes(row.try_get(4)?)),
            });
        }
        let mut garbage = Vec::new();
        let mut last = -1;
        // Hops from run to run: the buckets of one lie together.
        while let Some(place) =
            sqlx::query_scalar::<_, Option<i64>>("SELECT min(place) FROM seen WHERE place >= ?")
                .bind((last + 1) << BUCKET_BITS)
                .fetch_one(&mut *connection)
                .await?
        {
            last = place >> BUCKET_BITS;
            if !runs.iter().any(|run| run.number == last) {
                garbage.push(last);
            }
        }
        let next_number = runs.iter().map(|run| run.number).max().unwrap_or(-1).max(last) + 1;
        let small_below = 2 * recent_ids_max as u64;
        Ok(Self { runs, compaction: None, garbage, next_number, small_below })
    }

    /// Where an event stands that was seen and has left the memory.
    pub(crate) async fn lookup(
        &self,
        connection: &mut SqliteConnection,
        id: SeenId,
    ) -> Result<Option<Place>, sqlx::Error> {
        for run in self.runs.iter().rev().filter(|run| run.filter.may_hold(id)) {
            let place = (run.number << BUCKET_BITS) | bucket_of(id.id);
            let bucket: Option<Vec<u8>> = sqlx::query_scalar("SELECT entries FROM seen WHERE place = ?")
                .bind(place)
                .fetch_optional(&mut *connection)
                .await?;
            let Some(bucket) = bucket else { continue };
            let entries = bucket.as_chunks::<ENTRY_BYTES>().0;
            let wanted = id.to_bytes();
            if let Ok(at) = entries.binary_search_by(|entry| entry[..ID_BYTES].cmp(&wanted)) {
                return Ok(Some(place_of(&entries[at])));
            }
        }
        Ok(None)
    }

    /// Writes ids as a new run. Take it over with [`Runs::merged`] once it is committed.
    pub(crate) async fn merge(
        &self,
        connection: &mut SqliteConnection,
        recent: &HashMap<SeenId, Place>,
        now: i64,
    ) -> Result<Merged, sqlx::Error> {
        failpoint("dedupe.merge");
        let mut filter = Filter::new(recent.len());
        let mut entries: Vec<Entry> = Vec::with_capacity(recent.len());
        for (id, place) in recent {
            filter.add(*id);
            entries.push(entry(*id, *place));
        }
        entries.sort_unstable();
        let buckets: Vec<(i64, Vec<u8>)> = entries
            .chunk_by(|one, other| bucket_of_entry(one) == bucket_of_entry(other))
            .map(|chunk| (bucket_of_entry(&chunk[0]), chunk.concat()))
            .collect();
        write_buckets(connection, self.next_number, &buckets).await?;
        let run = Run {
            number: self.next_number,
            level: 0,
            entries: entries.len() as u64,
            newest_at: now,
            filter: Arc::new(filter),
        };
        write_run(connection, &run).await?;
        Ok(Merged(run))
    }

    /// A run of [`Runs::merge`] is committed.
    pub(crate) fn merged(&mut self, merged: Merged) {
        self.next_number = merged.0.number + 1;
        self.runs.push(merged.0);
    }

    /// Drops runs that are older than the window or too many. Run in a transaction of its own.
    pub(crate) async fn expire(
        &mut self,
        connection: &mut SqliteConnection,
        before: i64,
        ids_max: u64,
    ) -> Result<(), sqlx::Error> {
        if self.compaction.is_some() {
            return Ok(());
        }
        let mut kept: u64 = self.runs.iter().map(|run| run.entries).sum();
        while let Some(oldest) = self.runs.iter().min_by_key(|run| run.newest_at) {
            let (number, entries) = (oldest.number, oldest.entries);
            let expired = oldest.newest_at < before;
            if !expired && kept <= ids_max {
                break;
            }
            if !expired {
                tracing::warn!(
                    ids_max,
                    "ids are forgotten before the dedupe window ends: more came than are kept"
                );
            }
            sqlx::query("DELETE FROM seen_runs WHERE run = ?").bind(number).execute(&mut *connection).await?;
            self.runs.retain(|run| run.number != number);
            self.garbage.push(number);
            kept -= entries;
        }
        Ok(())
    }

    /// Whether [`Runs::step`] has something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.garbage.is_empty() || self.compaction.is_some() || self.sources().is_some()
    }

    /// The oldest small runs of a level that has enough of them, lowest level first.
    fn sources(&self) -> Option<Vec<&Run>> {
        let small =
            |level| self.runs.iter().filter(move |run| run.level == level && run.entries < self.small_below);
        let highest = self.runs.iter().map(|run| run.level).max()?;
        let level = (0..=highest).find(|level| small(*level).count() >= FAN_IN)?;
        Some(small(level).take(FAN_IN).collect())
    }

    /// One small step of housekeeping, in a transaction of its own. If that is not committed, load the runs anew.
    pub(crate) async fn step(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if let Some(compaction) = self.compaction.take() {
            return self.compact(connection, compaction).await;
        }
        if let Some(run) = self.garbage.last().copied() {
            return self.clear(connection, run).await;
        }
        if let Some(sources) = self.sources() {
            let sources = sources.into_iter().cloned().collect();
            self.compaction = Some(Compaction::new(self.next_number, sources));
            self.next_number += 1;
        }
        Ok(())
    }

    async fn clear(&mut self, connection: &mut SqliteConnection, run: i64) -> Result<(), sqlx::Error> {
        let first: Option<i64> =
            sqlx::query_scalar("SELECT min(place) FROM seen WHERE place >= ? AND place < ?")
                .bind(run << BUCKET_BITS)
                .bind((run + 1) << BUCKET_BITS)
                .fetch_one(&mut *connection)
                .await?;
        let Some(first) = first else {
            self.garbage.retain(|garbage| *garbage != run);
            return Ok(());
        };
        sqlx::query("DELETE FROM seen WHERE place >= ? AND place < ?")
            .bind(first)
            .bind((first + BUCKETS_A_STEP).min((run + 1) << BUCKET_BITS))
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn compact(
        &mut self,
        connection: &mut SqliteConnection,
        mut compaction: Compaction,
    ) -> Result<(), sqlx::Error> {
        let end = (compaction.next_bucket + BUCKETS_A_STEP).min(BUCKETS);
        let mut entries: Vec<Entry> = Vec::new();
        for source in &compaction.sources {
            let buckets: Vec<Vec<u8>> =
                sqlx::query_scalar("SELECT entries FROM seen WHERE place >= ? AND place < ? ORDER BY place")
                    .bind((source.number << BUCKET_BITS) | compaction.next_bucket)
                    .bind((source.number << BUCKET_BITS) + end)
                    .fetch_all(&mut *connection)
                    .await?;
            entries.extend(buckets.iter().flat_map(|bucket| bucket.as_chunks().0));
        }
        entries.sort_unstable();
        for entry in &entries {
            compaction.filter.add(SeenId::from_bytes(&entry[..ID_BYTES]).expect("an id has 24 bytes"));
        }
        let buckets: Vec<(i64, Vec<u8>)> = entries
            .chunk_by(|one, other| bucket_of_entry(one) == bucket_of_entry(other))
            .map(|chunk| (bucket_of_entry(&chunk[0]), chunk.concat()))
            .collect();
        write_buckets(connection, compaction.target.number, &buckets).await?;
        compaction.next_bucket = end;
        if end < BUCKETS {
            self.compaction = Some(compaction);
            return Ok(());
        }
        self.replace(connection, compaction).await
    }

    /// The large run takes the place of the small ones.
    async fn replace(
        &mut self,
        connection: &mut SqliteConnection,
        compaction: Compaction,
    ) -> Result<(), sqlx::Error> {
        let target = Run { filter: Arc::new(compaction.filter), ..compaction.target };
        write_run(connection, &target).await?;
        for source in &compaction.sources {
            sqlx::query("DELETE FROM seen_runs WHERE run = ?")
                .bind(source.number)
                .execute(&mut *connection)
                .await?;
            self.garbage.push(source.number);
        }
        self.runs.retain(|run| !self.garbage.contains(&run.number));
        self.runs.push(target);
        Ok(())
    }
}

/// A run that is written but not yet committed.
pub(crate) struct Merged(Run);

impl Compaction {
    fn new(number: i64, sources: Vec<Run>) -> Self {
        let entries: u64 = sources.iter().map(|run| run.entries).sum();
        let filter = Filter::new(entries as usize);
        let target = Run {
            number,
            level: sources.iter().map(|run| run.level).max().unwrap_or_default().saturating_add(1),
            entries,
            newest_at: sources.iter().map(|run| run.newest_at).max().unwrap_or_default(),
            filter: Arc::new(Filter::new(0)),
        };
        Self { sources, target, filter, next_bucket: 0 }
    }
}

fn bucket_of_entry(entry: &Entry) -> i64 {
    bucket_of(u64::from_be_bytes(*entry.first_chunk().expect("an entry has 32 bytes")))
}

async fn write_buckets(
    connection: &mut SqliteConnection,
    run: i64,
    buckets: &[(i64, Vec<u8>)],
) -> Result<(), sqlx::Error> {
    rows::insert(
        connection,
        ("INSERT INTO seen (place, entries)", 2, ""),
        buckets,
        |query, (bucket, entries)| query.bind((run << BUCKET_BITS) | bucket).bind(entries.clone()),
    )
    .await?;
    Ok(())
}

async fn write_run(connection: &mut SqliteConnection, run: &Run) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO seen_runs (run, level, entries, newest_at, filter) VALUES (?, ?, ?, ?, ?)")
        .bind(run.number)
        .bind(i64::from(run.level))
        .bind(run.entries as i64)
        .bind(run.newest_at)
        .bind(run.filter.to_bytes())
        .execute(connection)
        .await?;
    Ok(())
}

/// Where every event with this id stands, over all sources and topics, in no order.
pub(crate) async fn find(
    recent: &Recent,
    connection: &mut SqliteConnection,
    event_id: &str,
) -> Result<Vec<Place>, sqlx::Error> {
    let hash = crossdock_core::hash_key(event_id);
    let mut found = recent.find(hash);
    let buckets: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT s.entries FROM seen_runs r JOIN seen s ON s.place = (r.run << 10) | ?")
            .bind(bucket_of(hash))
            .fetch_all(connection)
            .await?;
    for bucket in &buckets {
        let entries = bucket.as_chunks::<ENTRY_BYTES>().0;
        let first = entries.partition_point(|entry| entry[..8] < hash.to_be_bytes()[..]);
        found.extend(
            entries[first..]
                .iter()
                .take_while(|entry| entry[..8] == hash.to_be_bytes())
                .map(|entry| place_of(entry)),
        );
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The ids of a pack, as they stand in the log.
pub(crate) fn ids(bytes: &[u8]) -> impl Iterator<Item = SeenId> + '_ {
    bytes.as_chunks::<ID_BYTES>().0.iter().filter_map(|id| SeenId::from_bytes(id))
}
