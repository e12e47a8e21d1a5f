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

impl KafkaError {
    /// Whether somebody must change something first: waiting for a cluster that is away would not help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unavailable { .. } => false,
            Self::Topics(findings) => findings.iter().any(is_final),
            Self::Options(_) | Self::Client(_) | Self::Thread(_) => true,
        }
    }
}

/// A cluster that does not answer may come back, and so may the leader of a partition; it will not change its mind about a
/// login or a certificate.
fn is_final(finding: &Finding) -> bool {
    let says = |words: &str| finding.detail.contains(words);
    match finding.subject.as_str() {
        "broker" => says("uthentication") || says("certificate verify failed"),
        _ => !says("have no leader"),
    }
}

/// The same for who uses the port.
pub(crate) fn unavailable(
    doing: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> BrokerError {
    BrokerError::Unavailable { doing, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_back_is_told_from_what_somebody_must_change() {
        let of = |subject: &str, detail: &str| {
            KafkaError::Topics(vec![Finding::error(subject, detail, "x")]).is_final()
        };
        assert!(!of(
            "broker",
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused"
        ));
        assert!(!of("topic `a`", "2 of its partitions have no leader"));
        assert!(of("broker", "SASL authentication error: Authentication failed"));
        assert!(of("topic `a`", "this login may not see it"));
    }
}
