//! What can go wrong when Kafka is opened or made ready.

use crossdock_core::{BrokerError, Finding};

/// Kafka cannot be opened or made ready.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The client cannot be made out of these options.
    #[error("the kafka client cannot be made from these options")]
    Options(#[source] rdkafka::error::KafkaError),
    /// This build carries a client that loses events.
    #[error("{0}")]
    Client(String),
    /// The cluster did not do what was asked.
    #[error("kafka is not available while {doing}")]
    Unavailable {
        /// What we were doing.
        doing: &'static str,
        /// What went wrong.
        source: rdkafka::error::KafkaError,
    },
    /// Topics could not be made as wanted; each is named with what to do.
    #[error("{} topics cannot be used", .0.len())]
    Topics(Vec<Finding>),
    /// A thread of the client could not be started, or ended by itself.
    #[error("a thread of the kafka client could not be started")]
    Thread(#[from] std::io::Error),
}

/// The same for who uses the port.
pub(crate) fn unavailable(
    doing: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> BrokerError {
    BrokerError::Unavailable { doing, source: source.into() }
}
