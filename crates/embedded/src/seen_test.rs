//! Ids against a map that forgets nothing.

use std::{collections::HashMap, path::Path};

use crossdock_core::{Event, Topic};
use proptest::prelude::*;
use sqlx::{Connection, SqliteConnection};

use crate::{
    Options,
    place::Place,
    schema,
    seen::{self, Recent, Runs, SeenId},
};

/// What the memory holds before it becomes a run; see [`Options::recent_ids_max`].
const RECENT_MAX: usize = 50;

fn id_of(number: u64) -> SeenId {
    let topic = Topic::new("orders").expect("a name");
    let json = format!(r#"{{"id":"{number}","source":"s","type":"t"}}"#);
    let event: Event = serde_json::from_str(&json).expect("an event");
    SeenId::of(&topic, &event)
}

/// Runs on a file, their memory, and the truth.
struct Subject {
    connection: SqliteConnection,
    recent: Recent,
    runs: Runs,
    model: HashMap<u64, Place>,
}

impl Subject {
    async fn open(folder: &Path) -> Self {
        let file = folder.join("crossdock.db");
        let options = Options::default();
        let mut connection = schema::writer(&file, true, &options).await.expect("it opens");
        schema::migrate(&mut connection, &file).await.expect("it migrates");
        // Nothing here is about the disk.
        sqlx::query("PRAGMA synchronous = OFF").execute(&mut connection).await.expect("it is set");
        let runs = Runs::load(&mut connection, RECENT_MAX).await.expect("runs load");
        Self { connection, recent: Recent::default(), runs, model: HashMap::new() }
    }

    fn add(&mut self, count: u64) {
        for _ in 0..count {
            let number = self.model.len() as u64;
            let place = Place(number as i64 * 3);
            self.recent.lock().insert(id_of(number), place);
            self.model.insert(number, place);
        }
    }

    async fn merge(&mut self, now: i64) {
        let ids = std::mem::take(&mut *self.recent.lock());
        if !ids.is_empty() {
            let merged = self.runs.merge(&mut self.connection, &ids, now).await.expect("merged");
            self.runs.merged(merged);
        }
    }

    /// Adds a run of so many ids.
    async fn run_of(&mut self, count: u64, now: i64) {
        self.add(count);
        self.merge(now).await;
    }

    /// Steps until there is nothing to do; gives back how many it took.
    async fn settle(&mut self) -> usize {
        let mut steps = 0;
        while self.runs.has_work() {
            self.step().await;
            steps += 1;
        }
        steps
    }

    async fn step(&mut self) {
        self.runs.step(&mut self.connection).await.expect("a step");
    }

    /// As after the end of the process: what is in memory comes from the log, the rest from the file.
    async fn reopen(&mut self) {
        self.runs = Runs::load(&mut self.connection, RECENT_MAX).await.expect("runs load");
    }

    async fn knows(&mut self, number: u64) -> Option<Place> {
        let recent = self.recent.lock().get(&id_of(number)).copied();
        match recent {
            Some(place) => Some(place),
            None => self.runs.lookup(&mut self.connection, id_of(number)).await.expect("a look-up"),
        }
    }

    /// Every id is known at its place, by itself and by what people look up; no other is.
    async fn check(&mut self) {
        let count = self.model.len() as u64;
        for number in 0..count {
            assert_eq!(self.knows(number).await, self.model.get(&number).copied(), "id {number} of {count}");
        }
        for stranger in count..count + 20 {
            assert_eq!(self.knows(stranger).await, None, "id {stranger} never came");
        }
        for number in [0, count / 2, count.saturating_sub(1)] {
            let expected: Vec<_> = self.model.get(&number).copied().into_iter().collect();
            assert_eq!(self.find(number).await, expected);
        }
    }

    async fn find(&mut self, number: u64) -> Vec<Place> {
        seen::find(&self.recent, &mut self.connection, &number.to_string()).await.expect("a look-up")
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.connection).await.expect("a number")
    }

    async fn count_runs(&mut self) -> i64 {
        self.number("/* a test */ SELECT count(*) FROM seen_runs").await
    }

    /// Nothing of a run that is gone stays behind.
    async fn check_clean(&mut self) {
        let left =
            "/* a test */ SELECT count(*) FROM seen WHERE place >> 10 NOT IN (SELECT run FROM seen_runs)";
        assert_eq!(self.number(left).await, 0);
    }
}

#[tokio::test]
async fn eight_small_runs_become_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    for now in 0..7 {
        subject.run_of(60, now).await;
    }
    assert!(!subject.runs.has_work(), "seven stay as they are");
    subject.run_of(60, 7).await;
    let mut steps = 0;
    while subject.runs.has_work() {
        subject.step().await;
        steps += 1;
        if steps % 9 == 0 {
            subject.check().await;
        }
    }
    subject.check().await;
    assert_eq!((subject.count_runs().await, steps > 8), (1, true), "{steps} steps");
    subject.check_clean().await;
    subject.connection.close().await.expect("closed");
}

#[tokio::test]
async fn however_small_they_are_there_are_never_many_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    for now in 0..90 {
        subject.run_of(2, now).await;
        subject.settle().await;
    }
    let runs = subject.count_runs().await;
    assert!(runs <= 14, "{runs} runs of 180 ids");
    subject.check().await;
    subject.connection.close().await.expect("closed");
}

#[tokio::test]
async fn large_runs_stay_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    for now in 0..9 {
        subject.run_of(2 * RECENT_MAX as u64, now).await;
    }
    assert!(!subject.runs.has_work());
    assert_eq!(subject.count_runs().await, 9);
    subject.connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_compaction_that_was_interrupted_begins_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    for now in 0..8 {
        subject.run_of(60, now).await;
    }
    for steps in [1, 2, 9, 16] {
        for _ in 0..steps {
            subject.step().await;
        }
        subject.reopen().await;
        subject.check().await;
    }
    subject.settle().await;
    subject.check().await;
    subject.check_clean().await;
    subject.run_of(10, 9).await;
    subject.check().await;
    subject.connection.close().await.expect("closed");
}

#[tokio::test]
async fn ids_that_are_older_than_the_window_are_forgotten_with_their_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    for now in [10, 20, 30] {
        subject.run_of(20, now).await;
    }
    subject.runs.expire(&mut subject.connection, 30, u64::MAX).await.expect("expired");
    subject.settle().await;
    subject.check_clean().await;
    for number in 0..60 {
        assert_eq!(subject.knows(number).await.is_some(), number >= 40, "id {number}");
        assert_eq!(subject.find(number).await.is_empty(), number < 40, "id {number}");
    }
    subject.connection.close().await.expect("closed");
}

#[tokio::test]
async fn more_ids_than_are_kept_push_the_oldest_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    for now in 0..5 {
        subject.run_of(20, now).await;
    }
    subject.runs.expire(&mut subject.connection, i64::MIN, 50).await.expect("expired");
    subject.settle().await;
    for number in 0..100 {
        assert_eq!(subject.knows(number).await.is_some(), number >= 60, "id {number}");
    }
    subject.connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_look_up_by_id_finds_every_source_over_memory_and_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    let topic = Topic::new("orders").expect("a name");
    for (n, source) in ["a", "b", "c"].into_iter().enumerate() {
        let json = format!(r#"{{"id":"same","source":"{source}","type":"t"}}"#);
        let event: Event = serde_json::from_str(&json).expect("an event");
        subject.recent.lock().insert(SeenId::of(&topic, &event), Place(n as i64));
        if source != "c" {
            subject.merge(0).await;
        }
    }
    let found = seen::find(&subject.recent, &mut subject.connection, "same").await.expect("a look-up");
    assert_eq!(found, [Place(0), Place(1), Place(2)]);
    subject.connection.close().await.expect("closed");
}

#[derive(Debug, Clone)]
enum Op {
    Add(u64),
    Merge,
    Steps(usize),
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1u64..70).prop_map(Op::Add),
        6 => Just(Op::Merge),
        3 => (1usize..12).prop_map(Op::Steps),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..60)
}

async fn history(ops: &[Op]) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut subject = Subject::open(folder.path()).await;
    for (now, op) in ops.iter().enumerate() {
        match op {
            Op::Add(count) => subject.add(*count),
            Op::Merge => subject.merge(now as i64).await,
            Op::Steps(count) => {
                for _ in 0..*count {
                    subject.step().await;
                }
            }
            Op::Reopen => subject.reopen().await,
        }
    }
    subject.check().await;
    subject.settle().await;
    subject.check().await;
    subject.check_clean().await;
    subject.connection.close().await.expect("closed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_history_remembers_what_a_map_does(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(history(&ops));
    }
}
