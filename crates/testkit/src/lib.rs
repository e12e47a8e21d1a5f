//! What every broker and every store must pass, and a small one in memory to measure the others by.
//!
//! - **Suites**: one macro for each group of ports, one test for each promise. An adapter writes how it is opened
//!   ([`Subject`]) and which ports it has ([`HasBroker`], [`HasOutbox`], [`HasStore`], [`HasEventLog`]), then names the suites:
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
//! - [`ManualClock`]: the time is what the test says.
//!
//! Used in dev-dependencies only; knows `crossdock-core` and nothing else of the house. A failed promise panics.

mod clock;
mod eventually;
mod memory;
mod reader;
mod run;
mod sample;
mod subject;
mod suites;

/// Broker: batches, what an event keeps, flow control.
pub mod broker;
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
/// Dead letters: settlements.
pub mod letters;
/// Outbox.
pub mod outbox;
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
pub use memory::{Defect, Disk, Memory};
pub use run::run;
pub use subject::{HasBroker, HasEventLog, HasOutbox, HasStore, Setup, Subject};
