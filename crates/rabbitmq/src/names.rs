//! What exchanges and queues are called.

use std::fmt::Write as _;

use crossdock_core::{Group, Partition, Topic};
use sha2::{Digest, Sha256};

/// The longest name that AMQP has room for, in bytes.
const NAME_MAX: usize = 255;

/// Names under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The exchange of a topic. Always fits: a prefix has 64 bytes at most, a topic 128.
    pub(crate) fn exchange(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The queue of a group for one shard of a topic. Where the name would be too long, a hash stands for what does not fit.
    pub(crate) fn queue(&self, group: &Group, partition: &Partition) -> String {
        let Partition { topic, number } = partition;
        let name = format!("{}{group}.{topic}.{number}", self.prefix);
        if name.len() <= NAME_MAX {
            return name;
        }
        let hash = hex(&Sha256::digest(format!("{group}/{topic}"))[..16]);
        // Flow and topic have characters of one byte each.
        let group: String = group.as_str().chars().take(96).collect();
        format!("{}{group}.{hash}.{number}", self.prefix)
    }

    /// A name that nothing else has, for what is only looked at.
    pub(crate) fn scratch(&self) -> String {
        format!("{}check-{}", self.prefix, uuid::Uuid::new_v4().simple())
    }
}

/// What the events of a shard are published with, and what its queues are bound with: the shard alone. To match a type in it as well would
/// cost the broker a fifth more processor time for every event; the type is a property of the message, and a header.
pub(crate) fn key(shard: u32) -> String {
    shard.to_string()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let names = Names::new(&"p".repeat(64));
        let group = |name: &str| Group::new(name).expect("a name");
        let partition = |topic: &str| Partition { topic: Topic::new(topic).expect("a name"), number: 999 };
        let (long, longer) = ("x".repeat(127), "x".repeat(128));
        let one = names.queue(&group(&long), &partition(&longer));
        let other = names.queue(&group(&longer), &partition(&long));
        assert!(one.len() <= NAME_MAX && other.len() <= NAME_MAX);
        assert_ne!(one, other);
        assert_eq!(
            Names::new("crossdock.").queue(&group("billing"), &partition("orders")),
            "crossdock.billing.orders.999"
        );
    }
}
