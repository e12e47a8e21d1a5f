//! Rows over real servers: Postgres with Kafka or RabbitMQ, those that `make up` starts.
//!
//! Each row has a database, topics and queues of its own. What the machine gives by itself is measured in the same run
//! (a bare loop of page reads and librdkafka; RabbitMQ's own PerfTest), so that a noisy machine does not decide.

mod bare;
mod delivery;
mod latency;
mod outbox;
mod perf_test;
mod queues;
mod world;

use crate::rows::Row;

/// The rows, in the order of the table.
pub fn rows() -> [Row; 7] {
    [
        Row {
            name: "outbox-kafka",
            about: "outbox → Kafka, backlog of 2 M × 512 B, 10,000 keys, 8 partitions, acks=all",
            target: "≥ 180,000 events/s, ≤ 120 MiB",
            run: |size| Box::pin(outbox::to_kafka(size)),
        },
        Row {
            name: "outbox-rabbitmq",
            about: "outbox → one RabbitMQ quorum queue, confirms",
            target: "≥ 1.0 × PerfTest in the same run",
            run: |size| Box::pin(outbox::to_rabbitmq(size)),
        },
        Row {
            name: "outbox-latency",
            about: "outbox commit → Kafka at 2,000 commits/s beside a 10 s transaction that holds its own event",
            target: "p50 ≤ 8 ms, p99 ≤ 30 ms, 0 lost, 0 inverted",
            run: |size| Box::pin(latency::commit_to_kafka(size)),
        },
        Row {
            name: "kafka-http-10ms",
            about: "Kafka → HTTP, 8 partitions, 10,000 keys, receiver at 10 ms, in key order",
            target: "≥ 15,000 deliveries/s, ≤ 200 MiB",
            run: |size| Box::pin(delivery::from_kafka(size, 10)),
        },
        Row {
            name: "kafka-http-100ms",
            about: "the same, receiver at 100 ms",
            target: "≥ 15,000 deliveries/s, ≤ 200 MiB",
            run: |size| Box::pin(delivery::from_kafka(size, 100)),
        },
        Row {
            name: "rabbitmq-http",
            about: "RabbitMQ → HTTP, 8 shards, 10,000 keys, receiver at 10 ms, in key order",
            target: "≥ 8,000 deliveries/s",
            run: |size| Box::pin(delivery::from_rabbitmq(size)),
        },
        Row {
            name: "kafka-start",
            about: "start of a worker with Kafka: the group's assignment → first delivery",
            target: "≤ 2 s",
            run: |_| Box::pin(delivery::first_after_start()),
        },
    ]
}
