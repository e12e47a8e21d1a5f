//! The outbox, against a real Postgres.

#[path = "../database/mod.rs"]
mod database;

mod checks;
mod conformance;
mod ledger;
mod schema;
mod trial;
