//! Scenarios over the real binary with real Postgres, Kafka and RabbitMQ, several workers of one hub, and an application
//! that writes to the outbox in its own transactions.

mod alone;
mod application;
mod checker;
mod cluster;

mod connections;
mod databases;
mod delivery;
mod outages;
mod plans;
mod readme;
mod replays;
mod retries;
mod rows;
mod storm;
mod waiting;
mod workers;
