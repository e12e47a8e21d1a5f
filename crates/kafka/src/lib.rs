//! Kafka behind the broker port: publishes, subscribes, settles, owns partitions by consumer group.
//!
//! - **On the wire** events are CloudEvents in binary mode, so that any other consumer can read them; see [`record`].
//! - **Publishing** is done by one idempotent producer; what fails, fails together, so that no event of a key overtakes another.
//! - **A group** is a flow; its members share partitions (cooperative-sticky). Settled is the lowest offset that is not
//!   finished, with the finished ranges above it in the metadata of the commit.
//! - **Positions**: a group that is new begins behind the newest event; one whose position the broker has lost begins at the
//!   oldest event, with an error in the log. Never anywhere else.
//!
//! Must not know: stores (but for [`crossdock_core::Checkpoints`], which it is given), connectors, the engine.
//!
//! What the rows K1 to K15 of the reliability reference ask for is tested in `tests/` and beside the code, in tests that are named
//! as sentences; but for a broker that delays its metadata (K3) and a limit of the processor (K15).

mod broker;
mod client;
mod consume;
mod error;
mod findings;
mod options;
mod provision;
mod publish;
mod record;
mod scan;
mod token;
mod topics;

pub use broker::Kafka;
pub use error::KafkaError;
pub use options::{KafkaOptions, OptionError};
pub use provision::TopicShape;
pub use scan::Scan;
