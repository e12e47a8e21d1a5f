//! Kafka behind the broker port: publishes, subscribes, settles, owns partitions by consumer group.
