//! What a batch does to failure groups: their counters, and what the last letter said.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use crossdock_core::{DeadLetter, GroupId, LetterState};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    Failure,
    stores::{
        letter::state_number,
        rows::{At, Columns, at},
    },
};

/// The number of a group.
type GroupNumber = i64;

/// A group, by what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Group {
    /// One that is stored.
    Number(GroupNumber),
    /// One that may have to be made.
    Id(GroupId),
}

/// Letters of a group that died in a batch.
struct Deaths {
    last: Arc<DeadLetter>,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// By how much the counters of the states change, in the order of their numbers.
type Counts = [i64; 4];

/// What happens to groups in the course of a batch.
#[derive(Default)]
pub(super) struct Groups {
    counts: HashMap<Group, Counts>,
    deaths: HashMap<GroupId, Deaths>,
}

/// The numbers of groups that have an id.
pub(super) struct Numbers(HashMap<GroupId, GroupNumber>);

impl Numbers {
    /// The number of a group of the batch.
    pub(super) fn of(&self, group: &Group) -> GroupNumber {
        match group {
            Group::Number(number) => *number,
            Group::Id(id) => self.0[id],
        }
    }
}

impl Groups {
    /// Counts letters of a state.
    pub(super) fn count(&mut self, group: &Group, state: LetterState, by: i64) {
        self.counts.entry(group.clone()).or_default()[usize::from(state_number(state).unsigned_abs())] += by;
    }

    /// Counts a letter that is open from now on, and gives its group.
    pub(super) fn died(&mut self, letter: &Arc<DeadLetter>) -> Group {
        let at = letter.failed_at;
        match self.deaths.entry(letter.group.clone()) {
            Entry::Occupied(mut deaths) => {
                let deaths = deaths.get_mut();
                deaths.last = letter.clone();
                deaths.first_at = deaths.first_at.min(at);
                deaths.last_at = deaths.last_at.max(at);
            }
            Entry::Vacant(new) => {
                new.insert(Deaths { last: letter.clone(), first_at: at, last_at: at });
            }
        }
        let group = Group::Id(letter.group.clone());
        self.count(&group, LetterState::Open, 1);
        group
    }

    /// Finds the numbers of the groups in which letters died; those that are not there are made, with nothing counted yet.
    pub(super) async fn number(&self, connection: &mut PgConnection) -> Result<Numbers, Failure> {
        let mut numbers = find(connection, self.deaths.keys()).await?;
        let new: BTreeMap<_, _> = self.deaths.iter().filter(|(id, _)| !numbers.contains_key(*id)).collect();
        if !new.is_empty() {
            insert(connection, &new.values().copied().collect::<Vec<_>>()).await?;
            numbers.extend(find(connection, new.into_keys()).await?);
        }
        Ok(Numbers(numbers))
    }

    /// Counts, in the order of the numbers: the rows are locked from here to the commit.
    pub(super) async fn write(
        self,
        connection: &mut PgConnection,
        numbers: &Numbers,
    ) -> Result<(), sqlx::Error> {
        let mut changes: BTreeMap<GroupNumber, (Counts, Option<Deaths>)> = BTreeMap::new();
        for (group, counts) in self.counts {
            let change = changes.entry(numbers.of(&group)).or_default();
            change.0.iter_mut().zip(counts).for_each(|(sum, by)| *sum += by);
        }
        for (id, deaths) in self.deaths {
            changes.entry(numbers.0[&id]).or_default().1 = Some(deaths);
        }
        if changes.len() > 1 {
            lock(connection, changes.keys().copied().collect()).await?;
        }
        if changes.is_empty() { Ok(()) } else { update(connection, &changes).await }
    }
}

/// By the unique index of the ids.
async fn find(
    connection: &mut PgConnection,
    ids: impl Iterator<Item = &GroupId>,
) -> Result<HashMap<GroupId, GroupNumber>, Failure> {
    let ids: Vec<&[u8]> = ids.map(|id| id.as_str().as_bytes()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query("SELECT id, number FROM crossdock.failure_groups WHERE id = ANY ($1)")
        .bind(ids)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((GroupId::from(row.text(0)?), row.at(1)?))).collect()
}

/// Makes groups, in the order of their ids; those that somebody else makes at the same time are waited for and left alone.
async fn insert(connection: &mut PgConnection, new: &[&Deaths]) -> Result<(), sqlx::Error> {
    let text =
        |of: fn(&DeadLetter) -> &str| new.iter().map(|deaths| of(&deaths.last).as_bytes().to_vec()).collect();
    let (ids, steps, actions): (Vec<_>, Vec<_>, Vec<Vec<u8>>) =
        (text(|letter| letter.group.as_str()), text(|letter| &letter.step), text(|letter| &letter.action));
    sqlx::query(
        "INSERT INTO crossdock.failure_groups (id, flow, connection, step, action, class, status, code, message, first_at,
                                               last_at)
         SELECT id, flow, connection, step, action, class, status, code, '', first_at, last_at
         FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[], $7::integer[], $8::bytea[],
                     $9::timestamptz[], $10::timestamptz[])
              AS n (id, flow, connection, step, action, class, status, code, first_at, last_at)
         ORDER BY id
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(ids)
    .bind(new.iter().map(|deaths| deaths.last.flow.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|deaths| deaths.last.connection.as_str()).collect::<Vec<_>>())
    .bind(steps)
    .bind(actions)
    .bind(new.iter().map(|deaths| deaths.last.class.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|deaths| deaths.last.status.map(i32::from)).collect::<Vec<_>>())
    .bind(new.iter().map(|deaths| deaths.last.code.as_deref().map(str::as_bytes)).collect::<Vec<_>>())
    .bind(new.iter().map(|deaths| at(deaths.first_at)).collect::<Vec<At>>())
    .bind(new.iter().map(|deaths| at(deaths.last_at)).collect::<Vec<At>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// By the primary key.
async fn lock(connection: &mut PgConnection, numbers: Vec<GroupNumber>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT number FROM crossdock.failure_groups WHERE number = ANY ($1) ORDER BY number FOR NO KEY UPDATE",
    )
    .bind(numbers)
    .execute(connection)
    .await?;
    Ok(())
}

/// By the primary key. A group in which no letter died keeps what its last one said.
async fn update(
    connection: &mut PgConnection,
    changes: &BTreeMap<GroupNumber, (Counts, Option<Deaths>)>,
) -> Result<(), sqlx::Error> {
    let count = |state: usize| changes.values().map(|(counts, _)| counts[state]).collect::<Vec<i64>>();
    let deaths = || changes.values().map(|(_, deaths)| deaths.as_ref());
    sqlx::query(
        "UPDATE crossdock.failure_groups g SET
             open = g.open + n.open, replaying = g.replaying + n.replaying, replayed = g.replayed + n.replayed,
             discarded = g.discarded + n.discarded,
             message = coalesce(n.message, g.message),
             advice = CASE WHEN n.message IS NULL THEN g.advice ELSE n.advice END,
             first_at = least(g.first_at, n.first_at), last_at = greatest(g.last_at, n.last_at)
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[],
                     $8::timestamptz[], $9::timestamptz[])
              AS n (number, open, replaying, replayed, discarded, message, advice, first_at, last_at)
         WHERE g.number = n.number",
    )
    .bind(changes.keys().copied().collect::<Vec<_>>())
    .bind(count(0))
    .bind(count(1))
    .bind(count(2))
    .bind(count(3))
    .bind(deaths().map(|deaths| deaths.map(|deaths| deaths.last.message.as_bytes())).collect::<Vec<_>>())
    .bind(deaths().map(|deaths| Some(deaths?.last.advice.as_deref()?.as_bytes())).collect::<Vec<_>>())
    .bind(deaths().map(|deaths| deaths.map(|deaths| at(deaths.first_at))).collect::<Vec<Option<At>>>())
    .bind(deaths().map(|deaths| deaths.map(|deaths| at(deaths.last_at))).collect::<Vec<Option<At>>>())
    .execute(connection)
    .await?;
    Ok(())
}
