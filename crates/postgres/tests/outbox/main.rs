//! The outbox, against a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test fails where something goes wrong")]

#[path = "../database/mod.rs"]
mod database;

mod application;
mod checks;
mod conformance;
mod faults;
mod late;
mod ledger;
mod load;
mod proxy;
mod reading;
mod schema;
mod security;
mod trial;
mod upkeep;
