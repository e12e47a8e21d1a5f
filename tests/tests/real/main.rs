//! Scenarios over the real binary with real Postgres, Kafka and RabbitMQ, several workers of one hub, and an application
//! that writes to the outbox in its own transactions.

mod application;
mod checker;
mod cluster;

mod delivery;
mod operators;
mod outages;
mod storm;
mod workers;
