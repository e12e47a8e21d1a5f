//! Simulated outside systems on loopback: the demo and the tests run against the same ones.
//!
//! | system | what it does |
//! |---|---|
//! | [`Shop`] | sends signed webhooks about orders, as Shopify does |
//! | [`Crm`] | a REST API behind a bearer token, with outages, limits and refusals on command |
//! | [`Warehouse`] | takes signed picks (Standard Webhooks) and knows its SKUs |
//! | [`Sink`] | takes anything, as cheaply as possible, and answers by [`Script`] |
//! | [`github::deliver`] | sends a file as GitHub would |
//! | [`load::Load`] | sends events at a steady rate and measures |
//!
//! Every receiver writes a [`Ledger`] of what arrived and what it answered. The entry is there before the answer
//! leaves, so whatever a sender believes to be delivered is in the ledger. Controls act at once; tests wait on
//! ledgers, never on time. Contents follow from a seed, memory and time are bounded, and nothing leaves loopback.
//!
//! What it must never know: the hub. All it shares with it is HTTP.

mod answer;
mod histogram;
mod ledger;
mod order_check;
mod received;
mod script;
mod server;
mod signature;

mod crm;
pub mod github;
pub mod load;
mod post;
mod shop;
mod sink;
mod warehouse;

pub use answer::Answer;
pub use crm::{Behaviour, Crm, CrmOptions, Lasting};
pub use histogram::Histogram;
pub use ledger::{Counts, Entry, Ledger, LedgerOptions, TimedOut};
pub use order_check::Tally;
pub use post::{PostError, Posted};
pub use received::{Place, Received};
pub use script::{Rule, Script};
pub use server::StartError;
pub use shop::{Quirk, Sent, Shop, ShopOptions, ShopOrder};
pub use signature::{BadSecret, github_signature, shopify_signature, standard_signature};
pub use sink::{SENT_MARKER, Sink, SinkOptions};
pub use warehouse::{Warehouse, WarehouseOptions};
