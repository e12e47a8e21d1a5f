//! What every broker and every store must pass, and a small one in memory to measure the others by.
//!
//! - **Suites**: one macro for each group of ports, one test for each promise. An adapter writes how it is opened
//!   ([`Subject`]) and which ports it has ([`HasBroker`], [`HasOutbox`], [`HasStore`], [`HasEventLog`], [`HasOutboxLog`],
//!   [`HasLeases`], [`HasCheckpoints`]), then names the suites:
//!
//!   ```text
//!   mod broker {
//!       crossdock_testkit::broker_suite!(super::Kafka);
//!       crossdock_testkit::sharing_suite!(super::Kafka);
//!   }
//!   ```
//!
//! - **Random histories** ([`random`]): generated operations against the subject and against [`Memory`], compared step by
//!   step. A failure prints its seed and the history.
//! - [`Memory`]: broker and stores in memory, deliberately simple; the model that the others are compared with, and a
//!   store for the tests of crates that may not know an adapter.
//! - [`OutboxRows`]: an outbox in memory that a relay reads.
//! - [`services`]: the real servers that `make up` starts, and private ones that a test may kill.
//! - [`ManualClock`]: the time is what the test says.
//!
//! Used in dev-dependencies only; knows `crossdock-core` and nothing else of the house. A failed promise panics.

mod clock;
mod eventually;
mod memory;
mod outbox_rows;
mod reader;
mod run;
mod sample;
mod subject;
mod suites;

/// Broker: batches, what an event keeps, flow control.
pub mod broker;
/// Checkpoints.
pub mod checkpoints;
/// Connections.
pub mod connections;
/// Dead letters: lists, groups, selections, discarding.
pub mod dead_letters;
/// Event log.
pub mod event_log;
/// Broker: groups and where they begin.
pub mod groups;
/// Held events and their settlements.
pub mod held;
/// Broker: lag.
pub mod lag;
/// Leases.
pub mod leases;
/// Dead letters: settlements.
pub mod letters;
/// Outbox.
pub mod outbox;
/// Outbox: the relay's side.
pub mod outbox_log;
/// Held events: who owns a partition.
pub mod owners;
/// Random histories against the model.
pub mod random;
/// Replays: state and rate.
pub mod replay_jobs;
/// Replays: items and their settlements.
pub mod replays;
/// Broker: what is finished and what comes again.
pub mod resume;
/// The real servers that tests run against.
pub mod services;
/// Broker: several members of a group.
pub mod sharing;

pub use clock::ManualClock;
pub use eventually::eventually;
pub use memory::{Defect, Disk, Memory};
pub use outbox_rows::{OutboxDefect, OutboxRows};
pub use run::run;
pub use subject::{
    HasBroker, HasCheckpoints, HasEventLog, HasLeases, HasOutbox, HasOutboxLog, HasStore, Setup, Subject,
};
