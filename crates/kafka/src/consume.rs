//! Subscribing: a consumer for each member, its partitions each in a queue of its own.
//!
//! ```text
//! member thread   polls the consumer's main queue (rebalances, commits, errors), commits what is finished every 200 ms;
//!                 at the end it leaves the group in good order
//! next()          reads the queues of the partitions that are ours, paused ones left out
//! ```
//!
//! The main queue is polled whatever the engine does, so a slow flow is never thrown out of its group; and a partition that
//! nobody reads fills its own small queue and stops being fetched. Pausing needs no word to the broker.

mod commit;
mod leave;
mod ledger;
mod member;
mod positions;
mod rebalance;
mod shared;
mod subscription;

pub(crate) use ledger::Ledger;
pub(crate) use member::{Member, start};
pub(crate) use positions::{begin, committed};
pub(crate) use shared::{End, Shared};
pub(crate) use subscription::KafkaSubscription;
