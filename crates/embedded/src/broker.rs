//! The broker and outbox ports: one append for both, since the log is the outbox.

use async_trait::async_trait;
use crossdock_core::{
    Broker, BrokerError, Event, Group, GroupLag, Outbox, PublishError, Published, Subscription, Topic,
};
use tokio::sync::oneshot;

use crate::{
    Embedded, Inner,
    append::{Answers, Append, Prepared},
    errors,
    request::Request,
    subscription::Member,
};

#[async_trait]
impl Outbox for Embedded {
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Answers {
        self.inner.append(topic, events).await
    }

    fn refusal(&self) -> Option<String> {
        self.inner.room.refusal()
    }
}

#[async_trait]
impl Broker for Embedded {
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        self.inner.append(topic, events).await
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        let inner = &self.inner;
        if *inner.closed.borrow() {
            return Err(BrokerError::Closed);
        }
        let mut logs = Vec::new();
        for topic in topics {
            logs.push(
                inner.topics.get(topic).ok_or_else(|| BrokerError::UnknownTopic(topic.clone()))?.clone(),
            );
        }
        let known = inner.groups.get(group).is_some_and(|group| {
            logs.iter().flat_map(|log| &log.partitions).all(|log| group.reads(log.part))
        });
        if !known {
            let (shared, name) = (self.inner.clone(), group.clone());
            let opened = inner.write("joining a group", move |connection| {
                Box::pin(
                    async move { Ok(shared.groups.open(connection, &shared.catalog, &name, &logs).await?) },
                )
            });
            let progress = opened.await.map_err(|error| match error {
                _ if *inner.closed.borrow() => BrokerError::Closed,
                error => BrokerError::Unavailable { doing: "joining a group", source: Box::new(error) },
            })?;
            inner.groups.add(group, progress);
        }
        Ok(Box::new(Member::new(inner.clone(), group, topics)))
    }

    async fn lag(&self, group: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        Ok(self.inner.groups.get(group).map(|group| group.lag()).unwrap_or_default())
    }
}

impl Inner {
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Answers {
        let count = events.len();
        if count == 0 {
            return Vec::new();
        }
        let Some(log) = self.topics.get(topic) else {
            return vec![Err(PublishError::UnknownTopic(topic.clone())); count];
        };
        // Those that can never be taken are answered here, and the others go on without them.
        let mut refused = Vec::new();
        let mut prepared = Vec::with_capacity(count);
        for (index, event) in events.into_iter().enumerate() {
            match Prepared::new(log, event, self.options.event_bytes_max) {
                Ok(event) => prepared.push(event),
                Err(error) => refused.push((index, error)),
            }
        }
        let mut answers =
            if prepared.is_empty() { Vec::new() } else { self.queue(log.clone(), prepared).await };
        for (index, error) in refused {
            answers.insert(index, Err(error));
        }
        answers
    }

    async fn queue(&self, topic: std::sync::Arc<crate::log::TopicLog>, events: Vec<Prepared>) -> Answers {
        let (count, bytes) = (events.len(), events.iter().map(Prepared::bytes).sum());
        if !self.load.take(count, bytes, &self.options) {
            return vec![Err(PublishError::Busy); count];
        }
        let (reply, answered) = oneshot::channel();
        let append = Append { topic, events, bytes, reply };
        if self.requests.send(Request::Append(append)).is_err() {
            self.load.release(count, bytes);
            let why = if *self.closed.borrow() { errors::CLOSED } else { errors::WRITER_ENDED };
            return vec![Err(PublishError::Unavailable(why.to_owned())); count];
        }
        // The writer died in between.
        answered.await.unwrap_or_else(|_| vec![Err(PublishError::Unknown); count])
    }
}
