//! RabbitMQ behind the broker port: one quorum queue for each flow and shard, a lease for each shard.
