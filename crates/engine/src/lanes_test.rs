//! The lanes against a store that answers late: whatever the order of answers, first attempts of a key keep their order,
//! every delivery is finished once, and in the end every key is free.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crossdock_core::HeldId;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::lanes::{KeyHash, Lanes, Push};

#[derive(Debug, Clone)]
struct Work {
    seq: u64,
    held: Option<HeldId>,
}

#[derive(Debug)]
enum Write {
    Spill { key: KeyHash, head: Work, behind: Vec<Work>, near: bool },
    Append { key: KeyHash, work: Work },
    Remove { key: KeyHash, id: HeldId },
    Again { key: KeyHash, id: HeldId },
}

#[derive(Debug)]
enum Read {
    Behind { key: KeyHash, after: HeldId },
    Due,
}

struct Row {
    key: KeyHash,
    seq: u64,
    head: bool,
}

struct World {
    lanes: Lanes<Work>,
    store: BTreeMap<HeldId, Row>,
    next_id: HeldId,
    writes: VecDeque<Write>,
    reads: VecDeque<Read>,
    running: VecDeque<(KeyHash, Work)>,
    seqs: HashMap<KeyHash, u64>,
    first_started: HashMap<KeyHash, u64>,
    finished: HashMap<(KeyHash, u64), u32>,
    pushed: usize,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            lanes: Lanes::new(),
            store: BTreeMap::new(),
            next_id: 1,
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            running: VecDeque::new(),
            seqs: HashMap::new(),
            first_started: HashMap::new(),
            finished: HashMap::new(),
            pushed: 0,
            now: Instant::now(),
        }
    }

    fn push(&mut self, key: KeyHash) {
        let seq = self.seqs.entry(key).and_modify(|seq| *seq += 1).or_insert(1);
        let work = Work { seq: *seq, held: None };
        self.pushed += 1;
        if let Push::Behind(work) = self.lanes.push(key, work) {
            self.writes.push_back(Write::Append { key, work });
        }
    }

    fn start(&mut self) {
        self.lanes.wake(self.now);
        let Some((key, work)) = self.lanes.start() else { return };
        assert!(
            !self.running.iter().any(|(running, _)| *running == key),
            "two attempts of one key at a time"
        );
        let first = self.first_started.entry(key).or_insert(0);
        assert!(work.seq <= *first + 1, "{} began before {}", work.seq, *first + 1);
        *first = (*first).max(work.seq);
        self.running.push_back((key, work));
    }

    fn answer(&mut self, how: u8) {
        let Some((key, work)) = self.running.pop_front() else { return };
        match (how % 6, work.held) {
            (0, _) => self.lanes.put_back(key, work),
            (1, _) => self.lanes.wait(key, work, self.now + Duration::from_secs(1)),
            (2 | 3, None) => {
                let behind = self.lanes.spill(key);
                self.writes.push_back(Write::Spill { key, head: work, behind, near: how % 6 == 2 });
            }
            (2 | 3, Some(id)) => {
                self.lanes.park(key, id, self.now);
                self.writes.push_back(Write::Again { key, id });
            }
            (_, None) => {
                self.finish(key, work.seq);
                self.lanes.finished(key);
            }
            (_, Some(id)) => {
                self.finish(key, work.seq);
                self.writes.push_back(Write::Remove { key, id });
                self.lanes.finished_held(key);
            }
        }
    }

    fn finish(&mut self, key: KeyHash, seq: u64) {
        *self.finished.entry((key, seq)).or_insert(0) += 1;
    }

    fn insert(&mut self, key: KeyHash, seq: u64, head: bool) -> HeldId {
        let id = self.next_id;
        self.next_id += 1;
        self.store.insert(id, Row { key, seq, head });
        id
    }

    /// The store writes. If its answer was lost, the same is written again, and all of it was there before.
    fn write(&mut self, answer_was_lost: bool) {
        match self.writes.pop_front() {
            None => {}
            Some(Write::Append { key, work }) => {
                self.insert(key, work.seq, false);
                self.lanes.appended(key);
            }
            Some(Write::Remove { key, id }) => {
                self.store.remove(&id).expect("a row is removed once");
                self.lanes.removed(key);
            }
            Some(Write::Again { key, id }) => {
                self.store.get_mut(&id).expect("a parked row is in the store").head = true;
                self.lanes.parked(key);
            }
            Some(Write::Spill { key, head, behind, near }) => {
                let first = self.insert(key, head.seq, true);
                for work in &behind {
                    self.insert(key, work.seq, false);
                }
                if answer_was_lost {
                    return self.lanes.spilled_before(key, behind.len() as u64 + 1, first);
                }
                let until = self.now + Duration::from_secs(1);
                let kept = near.then_some((Work { held: Some(first), ..head }, until));
                self.lanes.spilled(key, behind.len() as u64 + 1, first, kept);
            }
        }
    }

    fn ask(&mut self) {
        if let Some((key, after)) = self.lanes.wants_load() {
            self.reads.push_back(Read::Behind { key, after });
        }
    }

    fn read(&mut self, fails: bool) {
        match self.reads.pop_front() {
            None => {}
            Some(Read::Behind { key, .. }) if fails => self.lanes.load_failed(key),
            Some(Read::Behind { key, after }) => {
                let rows = self.store.iter().filter(|(id, row)| **id > after && row.key == key).take(2);
                let works = rows.map(|(id, row)| (*id, Work { seq: row.seq, held: Some(*id) })).collect();
                self.lanes.loaded(key, works, None);
            }
            Some(Read::Due) => {
                let heads: Vec<_> = self
                    .store
                    .iter()
                    .filter(|(_, row)| row.head)
                    .map(|(id, row)| (*id, row.key, row.seq))
                    .collect();
                for (id, key, seq) in heads {
                    self.lanes.load_head(key, id, Work { seq, held: Some(id) }, self.now);
                }
            }
        }
    }

    fn step(&mut self, step: (u8, u8)) {
        match step.0 % 9 {
            0 | 1 => self.push(u64::from(step.1 % 4)),
            2 => self.start(),
            3 => self.answer(step.1),
            4 => self.write(step.1.is_multiple_of(3)),
            5 => self.ask(),
            6 => self.read(step.1.is_multiple_of(3)),
            7 => self.reads.push_back(Read::Due),
            _ => self.now += Duration::from_millis(u64::from(step.1) * 20),
        }
    }

    /// Everything succeeds from now on.
    fn drain(&mut self) {
        for _ in 0..self.pushed * 20 + 100 {
            self.now += Duration::from_secs(2);
            self.start();
            self.answer(5);
            self.write(false);
            self.ask();
            self.reads.push_back(Read::Due);
            while !self.reads.is_empty() {
                self.read(false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_key_keeps_its_order_through_both_tiers_and_ends_free(steps in prop::collection::vec((any::<u8>(), any::<u8>()), 0..400)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.drain();
        prop_assert_eq!(world.finished.len(), world.pushed, "every delivery is finished");
        prop_assert!(world.finished.values().all(|times| *times == 1), "and finished once");
        prop_assert!(world.store.is_empty(), "and no row is left");
        prop_assert_eq!(world.lanes.len(), (0, 0), "and every key is free");
    }
}

#[test]
fn a_row_behind_a_head_in_the_store_is_not_stranded_by_a_lost_answer() {
    let mut world = World::new();
    let (push, start, spill, write, lost) = ((0, 0), (2, 0), (3, 3), (4, 1), (4, 0));
    [push, start, spill, write, push, lost].into_iter().for_each(|step| world.step(step));
    world.drain();
    assert_eq!((world.finished.len(), world.store.len(), world.lanes.len()), (2, 0, (0, 0)));
}

#[test]
fn a_row_that_was_counted_already_does_not_keep_its_key_held() {
    let mut world = World::new();
    for seq in 1..=2 {
        world.insert(7, seq, seq == 1);
        world.pushed += 1;
    }
    world.lanes.adopt(7, 2);
    let again = world.lanes.push(7, Work { seq: 2, held: None });
    assert!(matches!(again, Push::Behind(_)), "it came again after a crash");
    world.lanes.appended(7);
    world.drain();
    assert_eq!((world.finished.len(), world.store.len(), world.lanes.len()), (2, 0, (0, 0)));
}

#[test]
fn adopted_rows_run_in_order_before_anything_new() {
    let mut world = World::new();
    for _ in 0..3 {
        world.seqs.entry(7).and_modify(|seq| *seq += 1).or_insert(1);
        let (seq, head) = (world.seqs[&7], world.seqs[&7] == 1);
        world.insert(7, seq, head);
        world.pushed += 1;
    }
    world.lanes.adopt(7, 3);
    world.push(7);
    world.drain();
    assert_eq!(world.finished.len(), 4);
    assert_eq!(world.lanes.len(), (0, 0));
}

#[test]
fn a_parked_head_comes_back_when_it_is_due_and_not_by_its_stale_row() {
    let mut lanes = Lanes::new();
    let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
    lanes.adopt(7, 1);
    assert!(lanes.load_head(7, 1, "first", now));
    lanes.wake(now);
    lanes.start().expect("it is due");
    lanes.park(7, 1, due);
    assert!(!lanes.load_head(7, 1, "read before the write, answered before it", now));
    lanes.parked(7);
    assert!(!lanes.load_head(7, 1, "read before the write, answered after it", now));
    assert!(lanes.load_head(7, 1, "read after the write", due));
}
