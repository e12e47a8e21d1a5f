//! Names and places: topics, flows, connections, positions.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a name: use 1 to 128 of a-z A-Z 0-9 . _ -")]
pub struct NameError {
    /// What was given.
    pub name: String,
}

fn checked(name: &str) -> Result<Arc<str>, NameError> {
    let fits = (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits { Ok(Arc::from(name)) } else { Err(NameError { name: name.to_owned() }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the characters and the length.
            pub fn new(name: &str) -> Result<Self, NameError> {
                checked(name).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }
    };
}

name!(
    /// A named stream of events in the broker.
    ///
    /// The events of a connection's source travel on the topic `in.<connection>`; every other topic is
    /// named by people, who may not begin a name with `in.`.
    Topic
);
name!(
    /// A flow's name: unique in a configuration, and the name of its consumer group.
    FlowName
);
name!(
    /// A connection's name: unique in a configuration.
    ConnectionName
);

impl Topic {
    /// The prefix of topics that carry a connection's source.
    pub const SOURCE_PREFIX: &'static str = "in.";

    /// The topic on which the events of a connection's source travel.
    pub fn of_source(connection: &ConnectionName) -> Self {
        Self(Arc::from(format!("{}{connection}", Self::SOURCE_PREFIX)))
    }
}

/// The place of an event in its partition. Grows within a partition; numbers may be missing.
pub type Offset = u64;

/// Where an event stands in the broker. With a flow's name it identifies a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The topic.
    pub topic: Topic,
    /// The partition, from 0.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// The hash by which keys are told apart and spread over partitions. Stable over versions and machines.
///
/// Two keys with one hash share a lane, which costs concurrency and never order.
pub fn hash_key(key: &str) -> u64 {
    let digest = Sha256::digest(key.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
}

/// The partition of a key, for brokers that leave the choice to us.
pub fn partition_of(key: &str, partitions: u32) -> u32 {
    u32::try_from(hash_key(key) % u64::from(partitions.max(1))).expect("a remainder of a u32 fits a u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_letters_digits_dots_dashes_and_underscores() {
        assert!(Topic::new("orders.v1_x-2").is_ok());
        assert!(Topic::new("").is_err());
        assert!(Topic::new("a/b").is_err());
        assert!(Topic::new(&"x".repeat(129)).is_err());
    }

    #[test]
    fn a_key_keeps_its_partition_for_ever() {
        // The first eight bytes of SHA-256("abc"), from FIPS 180-2.
        assert_eq!(hash_key("abc"), 0xba78_16bf_8f01_cfea);
        assert_eq!(partition_of("abc", 4), 2);
        assert_eq!(partition_of("abc", 0), 0);
    }
}
