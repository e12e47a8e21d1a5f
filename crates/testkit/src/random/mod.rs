//! Random histories: generated operations with restarts in between, and what must hold after every one of them.
//!
//! `CROSSDOCK_SEED` runs one history, `CROSSDOCK_CASES` runs that many; a failure prints its seed and the history.

mod log;
mod op;
mod side;

use std::{fmt::Write, time::Duration};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    Disk, HasBroker, HasOutbox, HasStore, Memory,
    sample::{now, setup},
};

use self::{op::Op, side::Side};

/// Histories of one run, and operations of one history: some seconds where each write reaches a disk.
const CASES: u64 = 10;
const LENGTH: usize = 150;

/// Settlements, acts of people, reads and restarts: the stores answer as the model does.
pub async fn stores_answer_as_the_model_does<S: HasStore>() {
    for seed in seeds() {
        store_history::<S>(seed).await;
    }
}

/// Events, members that come and go, completions in any order, restarts: nothing is lost, nothing finished comes again,
/// every key keeps its order.
pub async fn the_log_loses_and_repeats_nothing<S: HasBroker + HasOutbox>() {
    for seed in seeds() {
        log::history::<S>(seed).await;
    }
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("CROSSDOCK_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("CROSSDOCK_CASES").unwrap_or(CASES)).map(|_| rand::random()).collect(),
    }
}

async fn store_history<S: HasStore>(seed: u64) {
    let setup = setup();
    let mut random = StdRng::seed_from_u64(seed);
    let mut subject = Side::new(S::create(&setup).await);
    let mut model = Side::new(Memory::open(Disk::default(), &setup));
    let mut history = String::new();
    for step in 0..LENGTH + Op::AT_THE_END {
        setup.clock.advance(Duration::from_millis(1));
        let op = match step.checked_sub(LENGTH) {
            None => Op::any(&mut random, &model, now(&setup)),
            Some(n) => Op::at_the_end(n),
        };
        writeln!(history, "{}", op.line()).expect("a string takes everything");
        let expected = model.perform(&op, &setup).await;
        let answer = subject.perform(&op, &setup).await;
        assert_eq!(answer, expected, "CROSSDOCK_SEED={seed}; the history was:\n{history}");
    }
}
