//! The options of librdkafka: which may be set, and why the others may not.
//!
//! The names are from the table that librdkafka 2.12 is documented with:
//! <https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md>.

/// Our own names.
pub(super) const OWN: [&str; 20] = [
    "partitions",
    "replication",
    "retention",
    "topic_prefix",
    "group_prefix",
    "publish_timeout",
    "session_timeout",
    "instance",
    "tls",
    "tls.ca",
    "tls.certificate",
    "tls.key",
    "tls.key_password",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "sasl.token_url",
    "sasl.client_id",
    "sasl.client_secret",
    "sasl.scope",
];

/// Options that change speed, memory and connections, and no promise.
pub(super) const PASSED: [&str; 40] = [
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.metrics.push",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "isolation.level",
    "linger.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.endpoint.identification.algorithm",
    "topic.metadata.refresh.interval.ms",
];

/// Options of librdkafka that are ours alone, and why.
const RESERVED: [(&str, &str); 26] = [
    ("acks", "an event counts as published only when all replicas in sync have it"),
    ("request.required.acks", "an event counts as published only when all replicas in sync have it"),
    ("auto.commit.enable", "what is finished is committed, not what was read"),
    ("auto.commit.interval.ms", "what is finished is committed, not what was read"),
    ("auto.offset.reset", "a group whose position is lost must not skip anything in silence"),
    ("bootstrap.servers", "the servers stand in the address"),
    ("delivery.timeout.ms", "an event that fails alone would be overtaken by the next one of its key"),
    ("enable.auto.commit", "what is finished is committed, not what was read"),
    ("enable.auto.offset.store", "what is finished is committed, not what was read"),
    ("enable.gapless.guarantee", "order after a failure is kept by the hub"),
    ("enable.idempotence", "without it a lost answer doubles events and turns their order"),
    ("group.id", "the group of a flow is its name behind `group_prefix`"),
    ("group.instance.id", "it is set by `instance`"),
    ("group.protocol", "partitions are handed over by the classic protocol"),
    ("max.in.flight", "more than five requests at a time would turn the order"),
    ("max.in.flight.requests.per.connection", "more than five requests at a time would turn the order"),
    ("message.max.bytes", "it follows from the largest body that the hub takes"),
    ("message.send.max.retries", "an event that fails alone would be overtaken by the next one of its key"),
    ("message.timeout.ms", "an event that fails alone would be overtaken by the next one of its key"),
    ("metadata.broker.list", "the servers stand in the address"),
    ("partition.assignment.strategy", "workers hand partitions over one by one (cooperative-sticky)"),
    ("partitioner", "keys are spread as Java clients spread them (murmur2)"),
    ("retries", "an event that fails alone would be overtaken by the next one of its key"),
    ("security.protocol", "it follows from `tls` and `sasl.mechanism`"),
    ("session.timeout.ms", "it is set by `session_timeout`"),
    ("transactional.id", "events are published by an idempotent producer, without transactions"),
];

/// Why an option of librdkafka may not be set; none if it is not one of those.
pub(super) fn reserved(name: &str) -> Option<&'static str> {
    if name.starts_with("ssl.") {
        return Some("TLS is set by `tls.ca`, `tls.certificate` and `tls.key`");
    }
    if name.starts_with("sasl.oauthbearer.") || name.starts_with("sasl.kerberos.") {
        return Some("the login is set by `sasl.mechanism` and its fields");
    }
    RESERVED.iter().find(|(reserved, _)| *reserved == name).map(|(_, why)| *why)
}

/// The option that was probably meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let names = OWN.iter().chain(&PASSED).copied();
    let scored = names.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    scored.filter(|(score, _)| *score > 0.6).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
