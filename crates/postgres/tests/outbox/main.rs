//! The outbox, against a real Postgres.

#[path = "../database/mod.rs"]
mod database;

mod checks;
mod conformance;
mod faults;
mod late;
mod ledger;
mod proxy;
mod reading;
mod schema;
mod trial;
