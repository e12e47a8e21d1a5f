//! One page on its way to the broker. Nothing is done per event but moving it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossdock_core::{
    Broker, Event, OutboxEvent, OutboxPage, PageMark, PublishError, Published, RefusedEvent, Topic,
};
use futures::future::join_all;
use tokio::time::timeout;

use super::recovery::Recovery;

/// How long a broker may take for a page; it has limits of its own, which are shorter.
const PUBLISH_MAX: Duration = Duration::from_secs(120);

/// A page, split by topic. Order matters within a topic only, since keys do not reach beyond it.
pub(super) struct Outgoing {
    mark: PageMark,
    parts: Vec<Part>,
    /// Rows that the broker has already.
    passed: Vec<i64>,
    refused: Vec<RefusedEvent>,
}

struct Part {
    topic: Topic,
    rows: Vec<i64>,
    events: Vec<Event>,
}

/// What became of a page.
pub(super) struct Sent {
    pub(super) mark: PageMark,
    /// How many events were on their way.
    pub(super) count: usize,
    /// Rows that the broker has.
    pub(super) taken: Vec<Vec<i64>>,
    /// Rows that it may have or not.
    pub(super) failed: Vec<i64>,
    /// Why the first of them failed.
    pub(super) error: Option<PublishError>,
    /// Rows that can never be published.
    pub(super) refused: Vec<RefusedEvent>,
}

impl Outgoing {
    /// What is to be published of a page.
    pub(super) fn new(page: OutboxPage, recovery: &mut Recovery) -> Self {
        let mut outgoing =
            Self { mark: page.mark, parts: Vec::new(), passed: Vec::new(), refused: page.malformed };
        let (count, recovers) = (page.events.len(), !recovery.is_over());
        let mut at = 0;
        for read in page.events {
            if recovers && !recovery.is_due(&read) {
                outgoing.passed.push(read.seq);
                continue;
            }
            let OutboxEvent { seq, topic, event } = read;
            if outgoing.parts.get(at).is_none_or(|part| part.topic != topic) {
                at = outgoing.part(topic, count);
            }
            let part = &mut outgoing.parts[at];
            part.rows.push(seq);
            part.events.push(event);
        }
        outgoing
    }

    /// The part of a topic.
    fn part(&mut self, topic: Topic, count: usize) -> usize {
        if let Some(at) = self.parts.iter().position(|part| part.topic == topic) {
            return at;
        }
        // A page is of one topic as a rule.
        let room = if self.parts.is_empty() { count } else { 0 };
        self.parts.push(Part { topic, rows: Vec::with_capacity(room), events: Vec::with_capacity(room) });
        self.parts.len() - 1
    }

    pub(super) fn count(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }

    /// Publishes everything; in order, from the first poll on. Says at once when anything fails.
    pub(super) async fn publish(self, broker: Arc<dyn Broker>, failing: Arc<AtomicBool>) -> Sent {
        let count = self.count();
        let mut sent = Sent {
            mark: self.mark,
            count,
            taken: vec![self.passed],
            failed: Vec::new(),
            error: None,
            refused: self.refused,
        };
        let parts = self.parts.into_iter().map(|part| part.publish(broker.as_ref(), &failing));
        let parts = join_all(parts).await;
        for (rows, results) in parts {
            sent.add(rows, results);
        }
        sent
    }
}

type Results = Vec<Result<Published, PublishError>>;

impl Part {
    async fn publish(self, broker: &dyn Broker, failing: &AtomicBool) -> (Vec<i64>, Results) {
        let Self { topic, rows, events } = self;
        let results = timeout(PUBLISH_MAX, broker.publish(&topic, events)).await;
        let mut results = results.unwrap_or_default();
        if results.len() != rows.len() {
            let (asked, answered) = (rows.len(), results.len());
            tracing::error!(%topic, asked, answered, "the broker did not answer for every event");
            results = vec![Err(PublishError::Unknown); asked];
        }
        if results.iter().filter_map(|result| result.as_ref().err()).any(may_pass) {
            failing.store(true, Ordering::Release);
        }
        (rows, results)
    }
}

fn may_pass(error: &PublishError) -> bool {
    match error {
        PublishError::UnknownTopic(_) | PublishError::TooLarge { .. } => false,
        PublishError::Busy | PublishError::Unavailable(_) | PublishError::Unknown => true,
    }
}

impl Sent {
    fn add(&mut self, rows: Vec<i64>, results: Results) {
        if results.iter().all(Result::is_ok) {
            self.taken.push(rows);
            return;
        }
        let mut taken = Vec::new();
        for (seq, result) in rows.into_iter().zip(results) {
            match result {
                Ok(_) => taken.push(seq),
                Err(error) if may_pass(&error) => {
                    self.failed.push(seq);
                    self.error.get_or_insert(error);
                }
                Err(error) => self.refused.push(RefusedEvent { seq, reason: error.to_string() }),
            }
        }
        self.taken.push(taken);
    }
}
