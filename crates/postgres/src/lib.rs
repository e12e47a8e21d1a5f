//! Postgres behind every store port, and the outbox that applications write to.
