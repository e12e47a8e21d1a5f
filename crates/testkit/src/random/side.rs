//! One of the two that are compared, with the ids that it gave.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use crossdock_core::{
    HeldEvent, HeldId, NewHeld, NewReplay, Page, PageRequest, Replay, ReplayItem, ReplayTicket, Settled,
    Settlement, StoreError,
};

use crate::{
    HasStore, Setup,
    replays::items_of,
    sample::{act, attempt, died_again, head},
};

use super::op::{Change, Item, Op};

/// A subject or the model.
pub(super) struct Side<S> {
    subject: Option<S>,
    pub(super) held: Vec<Row>,
    pub(super) replays: Vec<String>,
    /// The items of each replay, by letter, as they were when it was made.
    pub(super) items: Vec<BTreeMap<String, ReplayItem>>,
    /// The ids of letters that were given.
    pub(super) letters: Vec<String>,
}

/// A row that was held, with the item of a replay that it belongs to.
pub(super) struct Row {
    id: HeldId,
    pub(super) item: Option<Item>,
}

impl<S: HasStore> Side<S> {
    pub(super) fn new(subject: S) -> Self {
        Self {
            subject: Some(subject),
            held: Vec::new(),
            replays: Vec::new(),
            items: Vec::new(),
            letters: Vec::new(),
        }
    }

    fn subject(&self) -> &S {
        self.subject.as_ref().expect("a side has its subject but for the moment of a restart")
    }

    /// Performs an operation and says what came of it, with names in place of ids.
    pub(super) async fn perform(&mut self, op: &Op, setup: &Setup) -> String {
        let answer = match op {
            Op::Settle { changes, twice } => {
                let mut answer = self.settle(changes).await;
                if *twice {
                    answer += &self.settle(changes).await;
                }
                answer
            }
            Op::Reopen | Op::Crash => self.restart(matches!(op, Op::Crash), setup).await,
            Op::Create(selection, rate) => {
                let new = NewReplay { selection: selection.clone(), rate: *rate, test: false, act: act() };
                let made = self.subject().replays().create(new).await;
                if let Ok(replay) = &made {
                    self.learn(replay).await;
                }
                said(made)
            }
            Op::Adopt(..) | Op::Due { .. } | Op::Behind { .. } | Op::HeldCount(_) | Op::OfEvent(_) => {
                self.read_held(op).await
            }
            Op::Items(_) | Op::Replays(_) | Op::Change(..) | Op::Rate(..) => self.replay(op).await,
            Op::Groups(..) | Op::Letters(..) | Op::Count(_) | Op::Discard(_) | Op::Letter(_) => {
                self.letter(op).await
            }
        };
        self.named(answer)
    }

    /// Ends and begins anew, and asks for what is unfinished, as a hub does when it starts.
    async fn restart(&mut self, crash: bool, setup: &Setup) -> String {
        let subject = self.subject.take().expect("restarts follow each other");
        let subject = if crash { subject.crash(setup).await } else { subject.reopen(setup).await };
        let mut unfinished = subject.replays().unfinished().await.expect("the store reads");
        unfinished.sort_by(|one, two| one.id.cmp(&two.id));
        self.subject = Some(subject);
        format!("{unfinished:?}")
    }

    async fn settle(&mut self, changes: &[Change]) -> String {
        let batch: Vec<_> = changes.iter().map(|change| self.settlement(change)).collect();
        let settled = self.subject().settlements().settle(None, batch).await.expect("the store settles");
        assert_eq!(settled.len(), changes.len(), "one answer for each settlement");
        let mut words = String::new();
        for (change, settled) in changes.iter().zip(settled) {
            match settled {
                Settled::Held(placed) => {
                    words += &format!("{:?} ", placed.iter().map(|placed| placed.new).collect::<Vec<_>>());
                    let item = if let Change::HoldItem(item, _) = change { Some(item.clone()) } else { None };
                    let new = placed.into_iter().filter(|placed| placed.new);
                    self.held.extend(new.map(|placed| Row { id: placed.id, item: item.clone() }));
                }
                Settled::Done => words += "done ",
            }
            if let Change::Dead { letter, .. } = change {
                self.letters.push(letter.id.clone());
            }
        }
        words
    }

    fn settlement(&self, change: &Change) -> Settlement {
        let id = |row: &Option<usize>| row.map(|row| self.held[row].id);
        match change {
            Change::Hold(rows) => Settlement::Hold(rows.clone()),
            Change::HoldItem(item, due) => {
                let ReplayItem { ticket, letter } = self.item(item).clone();
                let (position, flow) = (letter.position, letter.flow);
                let row = head(position.offset, "a", *due);
                Settlement::Hold(vec![NewHeld { position, flow, replay: Some(ticket), ..row }])
            }
            Change::Again(row, due) => Settlement::Again {
                held: self.held[*row].id,
                attempts: vec![attempt(1, *due), attempt(2, *due)],
                tried: 2,
                first_tried_at: Some(*due),
                due: *due,
            },
            Change::Delivered { held, item } => Settlement::Delivered {
                held: id(held),
                replay: item.as_ref().map(|item| self.item(item).ticket.clone()),
            },
            Change::Dead { letter, held } => {
                Settlement::DeadLetter { letter: letter.clone(), held: id(held), replay: None }
            }
            Change::DeadItem { item, held, status, at } => {
                let ReplayItem { ticket, letter } = self.item(item);
                let letter = Arc::new(died_again(letter, *status, *at, ticket));
                Settlement::DeadLetter { letter, held: id(held), replay: Some(ticket.clone()) }
            }
        }
    }

    fn item(&self, (replay, letter): &Item) -> &ReplayItem {
        &self.items[*replay][letter]
    }

    async fn learn(&mut self, replay: &Replay) {
        let items = items_of(self.subject(), &replay.id).await;
        assert_eq!(items.len() as u64, replay.total, "a replay begins with all of its items");
        self.replays.push(replay.id.clone());
        self.items.push(items.into_iter().map(|item| (item.letter.id.clone(), item)).collect());
    }

    async fn read_held(&self, op: &Op) -> String {
        let port = self.subject().held();
        match op {
            Op::Adopt(flow, partition) => {
                let mut keys = port.adopt(flow, partition).await.expect("the store adopts").keys;
                keys.sort_by_key(|key| key.hash);
                format!("{keys:?}")
            }
            Op::Due { flow, partition, until, after, limit } => {
                let after = after.map(|(due, row)| (due, self.held[row].id));
                self.rows(port.due(flow, partition, *until, after, *limit).await)
            }
            Op::Behind { flow, partition, hash, after, limit } => {
                let after = after.map_or(0, |row| self.held[row].id);
                self.rows(port.behind(flow, partition, *hash, after, *limit).await)
            }
            Op::HeldCount(flow) => said(port.count(flow).await),
            Op::OfEvent(position) => {
                let mut rows = port.of_event(position).await.expect("the store reads");
                rows.sort_by_key(|row| row.id);
                let mut letters =
                    self.subject().dead_letters().of_event(position).await.expect("the store reads");
                letters.sort_by(|one, two| one.id.cmp(&two.id));
                format!("{} {letters:?}", self.rows(Ok(rows)))
            }
            other => unreachable!("{other:?} reads no held events"),
        }
    }

    /// Rows by their names; the number of an item is free where partitions mix, so its letter stands for it.
    fn rows(&self, rows: Result<Vec<HeldEvent>, StoreError>) -> String {
        let name = |HeldEvent { id, held }: HeldEvent| {
            let name = self.held.iter().position(|row| row.id == id);
            let replay = held.replay.clone().map(|ticket: ReplayTicket| (ticket.replay, ticket.letter));
            format!("{name:?} {replay:?} {:?}", NewHeld { replay: None, ..held })
        };
        said(rows.map(|rows| rows.into_iter().map(name).collect::<Vec<_>>()))
    }

    async fn replay(&self, op: &Op) -> String {
        let port = self.subject().replays();
        let id = |replay: &usize| self.replays.get(*replay).cloned().unwrap_or_else(|| "r404".to_owned());
        match op {
            Op::Items(replay) => {
                let items = items_of(self.subject(), &id(replay)).await;
                let mut letters: Vec<_> = items.into_iter().map(|item| item.letter).collect();
                letters.sort_by(|one, two| one.id.cmp(&two.id));
                format!("{letters:?} {}", said(port.get(&id(replay)).await))
            }
            Op::Replays(limit) => pages(async |page| port.list(page).await, *limit).await,
            Op::Change(replay, state) => said(port.change(&id(replay), *state, &act()).await),
            Op::Rate(replay, rate) => said(port.set_rate(&id(replay), *rate, &act()).await),
            other => unreachable!("{other:?} is about no replay"),
        }
    }

    async fn letter(&self, op: &Op) -> String {
        let port = self.subject().dead_letters();
        match op {
            Op::Groups(selection, limit) => {
                pages(async |page| port.groups(selection, page).await, *limit).await
            }
            Op::Letters(selection, limit) => {
                // Letters of one moment may stand in any order.
                let mut lines = all_pages(async |page| port.list(selection, page).await, *limit).await;
                assert!(lines.windows(2).all(|pair| pair[0].failed_at >= pair[1].failed_at), "newest first");
                lines.sort_by(|one, two| one.id.cmp(&two.id));
                format!("{lines:?}")
            }
            Op::Count(selection) => said(port.count(selection).await),
            Op::Discard(selection) => said(port.discard(selection, &act()).await),
            Op::Letter(id) => said(port.get(id).await),
            other => unreachable!("{other:?} is about no letter"),
        }
    }

    fn named(&self, mut answer: String) -> String {
        for (n, id) in self.replays.iter().enumerate() {
            answer = answer.replace(id, &format!("R{n}"));
        }
        answer
    }
}

/// An answer as text; of a refusal, its kind.
fn said<T: Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::Conflict(_)) => "conflict".to_owned(),
        Err(StoreError::NotFound { .. }) => "not found".to_owned(),
        Err(error) => panic!("the store fails: {error:?}"),
    }
}

async fn pages<T: Debug>(
    list: impl AsyncFnMut(PageRequest) -> Result<Page<T>, StoreError>,
    limit: usize,
) -> String {
    format!("{:?}", all_pages(list, limit).await)
}

async fn all_pages<T>(
    mut list: impl AsyncFnMut(PageRequest) -> Result<Page<T>, StoreError>,
    limit: usize,
) -> Vec<T> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = list(PageRequest { limit, cursor }).await.expect("the store reads");
        all.extend(page.items);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return all,
        }
    }
}
