//! Publishing: one idempotent producer for the whole process.
//!
//! ```text
//! publish ─► Line (batches in the order of their first polls) ─► sender thread ─► librdkafka ─► Kafka
//!    ▲                                                                              │
//!    └────────────── Batch: one answer for each event ◄── poll thread ◄── reports ──┘
//! ```
//!
//! **Order after a failure.** An event that failed must not be overtaken by a later one of its key. librdkafka gives up no
//! event by itself here (`message.timeout.ms` is 0, retries have no end), so failures come all at once: when nothing was
//! acknowledged for the limit, or when the producer is dead. Then *everything* that waits is given back, what is in flight
//! and what is queued, and the line stays closed until each caller has its answers and a moment has passed. An event that
//! the broker refuses for itself (too large, not allowed) is answered alone.

mod batch;
mod line;
mod producer;
mod sender;

pub(crate) use batch::Batch;
pub(crate) use line::Line;
pub(crate) use sender::Sender;

pub(crate) use producer::made as producers_made;
