//! Consuming: shards shared by leases, one channel for each.
//!
//! ```text
//! Member (one task a subscription): renews, takes its share, gives up what is too much ─► leases in the store
//!   └─ Shard (one task an owned shard): channel, consumer, acknowledgements, rebuilt when it ends
//!        └─ Hand: what was received, what is out, what is finished ─► Shared: what the engine asks for
//! ```
//!
//! A shard belongs to whoever has its lease; the queue lets one consumer at a time in besides, so that a worker which has lost
//! a lease without knowing it and its successor never both get events. Leases live in the store: a broker that restarts moves no
//! shard. What is out then comes again and is recognised by its offset: nothing is given twice, and what is finished in the
//! meantime is acknowledged on the new channel.

mod hand;
mod member;
mod shard;
mod share;
mod shared;

pub(crate) use hand::Hand;
pub(crate) use member::{Member, Peers};
pub(crate) use shard::ShardWith;
pub(crate) use shared::{Shared, Subscriber};
