//! The engine: takes events in, carries them through flows, and keeps the promise.
//!
//! ```text
//! in    webhook / API ─► intake ─► outbox (durable) ─► broker
//! out   runner: subscription ─► dispatcher of (flow, partition) ─► lane of the key
//!         attempt   map ─► action                performs, writes no state
//!         decide    RetryPolicy::decide          pure
//!         settle    done · lane · held · dead    the only writer; the broker is told after the store has it
//! ```
//!
//! First attempts, retries, held events and replays share this one path. The engine owns every loop, wait and retry;
//! it must never know which broker, which store or which connector is behind the ports.

mod limit;
mod plan;
mod reload;
mod roles;
mod status;
mod stores;

mod glance;
mod health;
mod hub;
mod trace;
mod wiring;

mod activity;
mod acts;
mod feed;
mod intake;
mod job;
mod pace;
mod progress;
mod relay;
mod replay;
mod runner;
mod sharing;
mod testing;

mod dispatcher;
mod dispatchers;
mod joining;
mod takeover;

mod attempt;
mod decide;
mod settle;

mod closures;
mod flow;
mod gate;
mod lanes;
#[cfg(test)]
mod lanes_test;
mod standing;
mod work;

pub use acts::{ActError, ReplayChange, TestResult};
pub use hub::Hub;
pub use intake::{Answer, IntakeError};
pub use plan::{ConnectionPlan, FieldPlan, FieldValue, FlowPlan, Order, Plan};
pub use roles::Roles;
pub use status::{ConnectionStatus, FlowStatus, Moment, RelayRole, RelayStatus, Status};
pub use stores::Stores;
pub use trace::{DeliveryView, EventView, LastFailure};
pub use wiring::StartError;
