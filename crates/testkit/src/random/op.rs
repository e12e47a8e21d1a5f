//! What may happen to a store.

use std::sync::Arc;

use crossdock_core::{
    Class, DeadLetter, FlowName, GroupId, LetterState, NewHeld, Partition, Position, ReplayState, Selection,
};
use jiff::Timestamp;
use rand::{Rng, RngExt, seq::IndexedRandom};

use crate::{
    Memory,
    sample::{SECOND, attempt, flow, head, held, letter, letter_of, orders},
};

use super::side::Side;

/// An item of a replay: the replay by its number, the item by its letter.
pub(super) type Item = (usize, String);

/// One operation. Things are named by the order in which they were made.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// Settles; twice, as after an error that left it open.
    Settle {
        changes: Vec<Change>,
        twice: bool,
    },
    Adopt(FlowName, Partition),
    Due {
        flow: FlowName,
        partition: Partition,
        until: Timestamp,
        after: Option<(Timestamp, usize)>,
        limit: usize,
    },
    Behind {
        flow: FlowName,
        partition: Partition,
        hash: u64,
        after: Option<usize>,
        limit: usize,
    },
    HeldCount(FlowName),
    OfEvent(Position),
    Groups(Selection, usize),
    Letters(Selection, usize),
    Count(Selection),
    Discard(Selection),
    Letter(String),
    Create(Selection, Option<f64>),
    Items(usize),
    Replays(usize),
    Change(usize, ReplayState),
    Rate(usize, Option<f64>),
    Reopen,
    Crash,
}

/// One settlement.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Hold(Vec<NewHeld>),
    /// An item of a replay is held for its retry.
    HoldItem(Item, Timestamp),
    Again(usize, Timestamp),
    Delivered {
        held: Option<usize>,
        item: Option<Item>,
    },
    Dead {
        letter: Arc<DeadLetter>,
        held: Option<usize>,
    },
    /// An item of a replay dies, with a status.
    DeadItem {
        item: Item,
        held: Option<usize>,
        status: u16,
        at: Timestamp,
    },
}

impl Op {
    /// Any operation that makes sense for what the model has. Most of them write.
    pub(super) fn any(random: &mut impl Rng, model: &Side<Memory>, now: Timestamp) -> Self {
        let replay = random.random_range(0..=model.replays.len());
        match random.random_range(0..100) {
            0..45 => Self::Settle { changes: changes(random, model, now), twice: random.random_bool(0.3) },
            45..48 => Self::Adopt(any_flow(random), any_partition(random)),
            48..54 => Self::Due {
                flow: any_flow(random),
                partition: any_partition(random),
                until: now + random.random_range(0..20) * SECOND,
                after: any_row(random, model).map(|row| (now + random.random_range(0..9) * SECOND, row)),
                limit: random.random_range(1..6),
            },
            54..60 => {
                let row = held(0, any_key(random));
                let (flow, partition) = (any_flow(random), any_partition(random));
                let after = any_row(random, model);
                Self::Behind { flow, partition, hash: row.key_hash, after, limit: random.random_range(1..6) }
            }
            60..62 => Self::HeldCount(any_flow(random)),
            62..64 => Self::OfEvent(any_position(random)),
            64..68 => Self::Groups(selection(random, model, now), random.random_range(1..4)),
            68..72 => Self::Letters(selection(random, model, now), random.random_range(1..4)),
            72..74 => Self::Count(selection(random, model, now)),
            74..76 => Self::Discard(selection(random, model, now)),
            76..79 => {
                let event = format!("e{}", random.random_range(0..14));
                Self::Letter(
                    model.letters.choose(random).filter(|_| replay % 3 > 0).cloned().unwrap_or(event),
                )
            }
            79..84 => Self::Create(selection(random, model, now), random.random_bool(0.5).then_some(7.5)),
            84..87 => Self::Items(replay),
            87..89 => Self::Replays(random.random_range(1..4)),
            89..94 => {
                let states =
                    [ReplayState::Running, ReplayState::Paused, ReplayState::Cancelled, ReplayState::Failed];
                // A wish that is wrong in two ways may be refused for either: no replay, or nothing to wish for.
                let there = if replay < model.replays.len() { 4 } else { 3 };
                Self::Change(replay, states[random.random_range(0..there)])
            }
            94..95 => Self::Rate(replay, random.random_bool(0.5).then_some(0.25)),
            95..98 => Self::Reopen,
            _ => Self::Crash,
        }
    }

    /// How many operations look at everything in the end, after a restart.
    pub(super) const AT_THE_END: usize = 12;

    /// One of the operations that look at everything.
    pub(super) fn at_the_end(n: usize) -> Self {
        use LetterState::{Discarded, Open, Replayed, Replaying};
        let states = [Open, Replaying, Replayed, Discarded];
        let selection = Selection { state: Some(states[n % 4]), ..Selection::default() };
        match n {
            0 => Self::Crash,
            1..5 => Self::Letters(selection, 5),
            5..9 => Self::Groups(selection, 2),
            9 => Self::HeldCount(flow("billing")),
            10 => Self::HeldCount(flow("audit")),
            _ => Self::Replays(2),
        }
    }

    /// The operation on a line.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Settle { changes, twice } => {
                let changes: Vec<_> = changes.iter().map(Change::line).collect();
                format!("settle{} {}", if *twice { " twice" } else { "" }, changes.join(", "))
            }
            other => format!("{other:?}"),
        }
    }
}

impl Change {
    fn line(&self) -> String {
        match self {
            Self::Hold(rows) => {
                let row =
                    |row: &NewHeld| format!("{}@{} {:?} due {:?}", row.flow, row.position, row.key, row.due);
                format!("hold {:?}", rows.iter().map(row).collect::<Vec<_>>())
            }
            Self::Dead { letter, held } => {
                let DeadLetter { id, flow, position, group, .. } = letter.as_ref();
                format!("dead {id} {flow}@{position} {group} held {held:?}")
            }
            other => format!("{other:?}"),
        }
    }
}

fn any_flow(random: &mut impl Rng) -> FlowName {
    flow(["billing", "billing", "audit"].choose(random).expect("three"))
}

fn any_key(random: &mut impl Rng) -> &'static str {
    ["a", "b", "c"].choose(random).expect("three")
}

fn any_partition(random: &mut impl Rng) -> Partition {
    Partition { topic: orders(), number: random.random_range(0..2) }
}

fn any_position(random: &mut impl Rng) -> Position {
    let Partition { topic, number } = any_partition(random);
    Position { topic, partition: number, offset: random.random_range(0..14) }
}

fn any_row(random: &mut impl Rng, model: &Side<Memory>) -> Option<usize> {
    (!model.held.is_empty() && random.random_bool(0.7)).then(|| random.random_range(0..model.held.len()))
}

/// One to three settlements, at most one of which is about a replay: the engine sends an item's word once, with its row.
fn changes(random: &mut impl Rng, model: &Side<Memory>, now: Timestamp) -> Vec<Change> {
    let mut changes: Vec<_> = (0..random.random_range(1..4)).map(|_| change(random, model, now)).collect();
    if random.random_bool(0.5)
        && let Some(change) = change_of_item(random, model, now)
    {
        changes.push(change);
    }
    changes
}

fn change(random: &mut impl Rng, model: &Side<Memory>, now: Timestamp) -> Change {
    // A row that belongs to a replay is settled together with its item.
    let row = any_row(random, model).filter(|row| model.held[*row].item.is_none());
    match (random.random_range(0..10), row) {
        (0..2, Some(row)) => Change::Again(row, now + random.random_range(0..15) * SECOND),
        (2..5, Some(row)) => Change::Delivered { held: Some(row), item: None },
        (5..7, _) => Change::Dead { letter: Arc::new(any_letter(random, now)), held: row },
        _ => {
            let (flow, partition, key) = (any_flow(random), any_partition(random), any_key(random));
            let count = random.random_range(0..4);
            let row = |n: u64, random: &mut _| {
                let offset = RngExt::random_range(random, 0..14);
                let row = if n == 0 { head(offset, key, now + 5 * SECOND) } else { held(offset, key) };
                let position = Position { partition: partition.number, ..row.position };
                NewHeld { flow: flow.clone(), position, ..row }
            };
            Change::Hold((0..count).map(|n| row(n, random)).collect())
        }
    }
}

fn any_letter(random: &mut impl Rng, now: Timestamp) -> DeadLetter {
    let position = any_position(random);
    let statuses: [u16; 3] = [422, 409, 500];
    let status = *statuses.choose(random).expect("three");
    let letter = letter_of(any_flow(random).as_str(), position.offset, status, now);
    DeadLetter { position, attempts: vec![attempt(1, now)], ..letter }
}

fn change_of_item(random: &mut impl Rng, model: &Side<Memory>, now: Timestamp) -> Option<Change> {
    let replay = random.random_range(0..model.replays.len().max(1));
    let letters: Vec<_> = model.items.get(replay)?.keys().cloned().collect();
    let item = (replay, letters.choose(random)?.clone());
    let held = model.held.iter().position(|row| row.item.as_ref() == Some(&item));
    match random.random_range(0..3) {
        0 if held.is_none() => Some(Change::HoldItem(item, now + 3 * SECOND)),
        1 => Some(Change::DeadItem { item, held, status: random.random_range(420..423), at: now }),
        _ => Some(Change::Delivered { held, item: Some(item) }),
    }
}

fn selection(random: &mut impl Rng, model: &Side<Memory>, now: Timestamp) -> Selection {
    let mut selection = Selection::default();
    if random.random_bool(0.3) {
        selection.flow = Some(any_flow(random));
    }
    if random.random_bool(0.2) {
        let groups: [GroupId; 2] = [letter(0, 422, now).group, letter(0, 500, now).group];
        selection.groups = groups.to_vec();
    }
    if random.random_bool(0.2) {
        selection.ids = model.letters.iter().filter(|_| random.random_bool(0.6)).cloned().collect();
    }
    if random.random_bool(0.15) {
        selection.events = (0..4).map(|_| format!("e{}", random.random_range(0..14))).collect();
    }
    if random.random_bool(0.1) {
        selection.class = [Class::Rejected, Class::Bug].choose(random).copied();
    }
    if random.random_bool(0.3) {
        use LetterState::{Discarded, Open, Replayed, Replaying};
        selection.state = [Open, Replaying, Replayed, Discarded].choose(random).copied();
    }
    if random.random_bool(0.15) {
        selection.since = Some(now - random.random_range(0..100) * SECOND / 1000);
    }
    selection
}
