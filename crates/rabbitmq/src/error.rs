//! What can go wrong when RabbitMQ is opened or made ready.

use std::error::Error as StdError;

use crossdock_core::{BrokerError, Finding, StoreError};

use crate::{
    dial::{Refusal, RefusalKind},
    link::Trouble,
};

/// RabbitMQ cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// The broker did not do what was asked.
    #[error("rabbitmq is not available while {doing}")]
    Unavailable {
        /// What we were doing.
        doing: &'static str,
        /// What went wrong.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Exchanges or queues cannot be used as they are, or could not be made; each is named with what to do.
    #[error("{} exchanges or queues cannot be used", .0.len())]
    Topology(Vec<Finding>),
    /// What is known of the groups cannot be read or written.
    #[error("the store is not available")]
    Store(#[from] StoreError),
}

impl RabbitError {
    /// Whether somebody must change something first: waiting for a broker that is away would not help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => {
                let refusal = match source.downcast_ref() {
                    Some(Trouble::Refused(refusal)) => Some(refusal),
                    _ => source.downcast_ref::<Refusal>(),
                };
                refusal.is_some_and(|refusal| refusal.kind != RefusalKind::Unreachable)
            }
            Self::Topology(_) => true,
            Self::Store(error) => !matches!(error, StoreError::Unavailable { .. }),
        }
    }
}

/// The same for who uses the port.
pub(crate) fn unavailable(
    doing: &'static str,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> BrokerError {
    BrokerError::Unavailable { doing, source: source.into() }
}
