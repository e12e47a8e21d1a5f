//! Scenarios over the real binary, with real HTTP on both sides.

mod common;

mod cli;
mod clients;
mod crash;
mod credentials;
mod dead_letters;
mod disk;
mod fields;
mod http;
mod lifecycle;
mod order;
mod receiver;
mod replay;
mod retry;
mod secrets;
