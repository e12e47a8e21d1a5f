//! RabbitMQ behind the broker port: one quorum queue for each flow and shard, a lease for each shard.
//!
//! ```text
//! topic `orders`            exchange `crossdock.orders` (direct, durable)
//! flow `billing`, shard 3   queue `crossdock.billing.orders.3`, bound with `3`
//! an event                  is published once, with its shard as the key; every flow's queue of its shard gets a copy
//! ```
//!
//! - **On the wire** events are CloudEvents in binary mode, so that any other consumer can read them; see [`record`].
//! - **Positions.** A partition is a shard of a topic. Queues have no offsets, so the publisher stamps each event with one;
//!   see [`stamp`]. Stamps ascend within a publisher; where a relay on another machine takes over whose clock is behind, those of
//!   its first events are lower. Order is always that of the queue.
//! - **Losses.** A queue says nothing of what it has lost, so events are numbered, and whoever reads a queue tells what is missing; see
//!   [`sequence`].
//! - **Publishing** confirms every event, on channels of their own connection; see [`publish`] for what holds after a failure.
//! - **Consuming** is shared by leases; see [`consume`]. Nothing is ever handed back to a queue to wait for a retry.
//! - **Topology** is declared once and compared for ever: what differs is an error that names it, and nothing is deleted.
//!
//! An event for a topic that no flow reads is taken and dropped, since nobody is there to get it. As soon as a group is known
//! for the topic, an event that finds no queue is refused, and the queues are bound again.
//!
//! Must not know: stores (but for [`crossdock_core::Leases`] and [`crossdock_core::Checkpoints`], which it is given),
//! connectors, the engine.
//!
//! What the rows R1 to R12 of the reliability reference ask for is tested in `tests/` and beside the code, in tests that are named
//! as sentences; but for the delivery limit of version 4 (R5).

mod broker;
mod consume;
mod dial;
mod error;
mod findings;
mod lag;
mod link;
mod management;
mod names;
mod options;
mod provision;
mod publish;
mod record;
mod registry;
mod sequence;
mod stamp;
mod topology;

pub use broker::RabbitMq;
pub use error::RabbitError;
pub use lag::Depth;
pub use options::{OptionError, RabbitOptions};
pub use registry::{TopicShape, Wanted};
