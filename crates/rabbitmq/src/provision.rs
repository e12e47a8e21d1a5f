//! Making exchanges, queues and bindings.

use crossdock_core::{Finding, Group, Topic};

use crate::{
    RabbitError, RabbitMq, Wanted,
    broker::Inner,
    findings,
    link::Trouble,
    names::key,
    topology::{DIFFERS, Desk},
};

/// What was found of the queues of one group and topic.
pub(crate) struct Found {
    /// Whether each shard has its queue, and how many events wait in it.
    pub(crate) ready: Vec<Option<u64>>,
    /// Whether there is a queue of a shard beyond those that are wanted.
    pub(crate) beyond: bool,
}

impl RabbitMq {
    /// Makes the exchanges, queues and bindings that are missing, remembers the groups as begun, and tells what else is
    /// worth a look; nothing that is there is changed. An error among it comes back as [`RabbitError::Topology`]. Doing it
    /// twice, or in two workers at once, changes nothing.
    ///
    /// What is wanted is also what the adapter knows of topics and groups from now on, so this is called before anything is
    /// published or subscribed to.
    pub async fn provision(&self, wanted: &Wanted) -> Result<Vec<Finding>, RabbitError> {
        let inner = &self.inner;
        inner.registry.note(wanted);
        let mut desk = Desk::new(inner.link.clone());
        let (mut made, mut wrong) = (Vec::new(), Vec::new());
        for shape in &wanted.topics {
            let exchange = inner.names.exchange(&shape.topic);
            let there = desk.has_exchange(&exchange).await;
            let there = there.map_err(|error| failed("making topics", error))?;
            match desk.make_exchange(&exchange).await {
                Ok(()) if there => {}
                Ok(()) => made.push(Finding::ok(
                    findings::topic(&shape.topic),
                    format!("made as exchange `{exchange}`"),
                )),
                Err(error) => {
                    wrong.push(inner.refused(findings::topic(&shape.topic), error, "making topics")?)
                }
            }
        }
        for (group, topics) in &wanted.groups {
            for topic in topics {
                let found = inner.find(&mut desk, group, topic).await;
                let found = found.map_err(|error| failed("making queues", error))?;
                if let Some(finding) = found.differs(group, topic) {
                    wrong.push(finding);
                    continue;
                }
                match inner.make_queues(group, std::slice::from_ref(topic)).await {
                    Ok(0) => {}
                    Ok(count) => {
                        made.push(Finding::ok(findings::queues(group, topic), format!("{count} queues made")))
                    }
                    Err(RabbitError::Unavailable { source, .. }) => {
                        let trouble = source
                            .downcast::<Trouble>()
                            .map_err(|source| RabbitError::Unavailable { doing: "making queues", source })?;
                        wrong.push(inner.refused(
                            findings::queues(group, topic),
                            *trouble,
                            "making queues",
                        )?);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if wrong.is_empty() { Ok(made) } else { Err(RabbitError::Topology(wrong)) }
    }
}

fn failed(doing: &'static str, trouble: Trouble) -> RabbitError {
    RabbitError::Unavailable { doing, source: Box::new(trouble) }
}

impl Inner {
    /// Makes the queues of a group that are missing, compares the others with what they should be, and binds them all; then the
    /// group has begun. Answers with how many were made. A queue that was there before the group was lost, and somebody is
    /// told.
    pub(crate) async fn make_queues(&self, group: &Group, topics: &[Topic]) -> Result<usize, RabbitError> {
        let begun = self.checkpoints.begun(group).await?;
        let trouble = |error| failed("making queues", error);
        let (mut desk, mut made) = (Desk::new(self.link.clone()), 0);
        for topic in topics {
            let ready = self.ready(&mut desk, group, topic).await.map_err(trouble)?;
            if begun.contains(topic) {
                self.tell_of_missing(group, topic, &ready);
            }
            made += ready.iter().filter(|ready| ready.is_none()).count();
            for partition in self.partitions(std::slice::from_ref(topic)) {
                let (queue, exchange) = (self.names.queue(group, &partition), self.names.exchange(topic));
                desk.make_queue(&queue).await.map_err(trouble)?;
                desk.bind(&queue, &exchange, &key(partition.number)).await.map_err(trouble)?;
            }
        }
        let new: Vec<_> = topics.iter().filter(|topic| !begun.contains(topic)).cloned().collect();
        if !new.is_empty() {
            self.checkpoints.begin(group, &new).await?;
        }
        Ok(made)
    }

    /// Queues of a group that has begun are gone, or there are to be more shards than before.
    fn tell_of_missing(&self, group: &Group, topic: &Topic, ready: &[Option<u64>]) {
        let queues = self.missing(group, topic, ready).join(" ");
        if queues.is_empty() {
        } else if grown(ready).is_some() {
            tracing::warn!(
                queues, %group, %topic,
                "queues are made beyond those that were there: so be it if `partitions` was raised; if not, they were deleted \
                 with the events in them"
            );
        } else {
            tracing::error!(
                queues, %group, %topic,
                "the queue is gone, and so are the events that were in it: it is made anew; publish them once more with \
                 `crossdock outbox rewind`"
            );
        }
    }

    /// The names of the queues that are not there.
    pub(crate) fn missing(&self, group: &Group, topic: &Topic, ready: &[Option<u64>]) -> Vec<String> {
        let partitions = self.partitions(std::slice::from_ref(topic));
        let missing = partitions.iter().zip(ready).filter(|(_, ready)| ready.is_none());
        missing.map(|(partition, _)| self.names.queue(group, partition)).collect()
    }

    /// For each shard how many events wait in the queue of a group; none where there is no queue.
    pub(crate) async fn ready(
        &self,
        desk: &mut Desk,
        group: &Group,
        topic: &Topic,
    ) -> Result<Vec<Option<u64>>, Trouble> {
        let mut ready = Vec::new();
        for partition in self.partitions(std::slice::from_ref(topic)) {
            let queue = desk.queue(&self.names.queue(group, &partition)).await?;
            ready.push(queue.map(|queue| queue.ready));
        }
        Ok(ready)
    }

    /// What is there of the queues of a group and topic.
    pub(crate) async fn find(&self, desk: &mut Desk, group: &Group, topic: &Topic) -> Result<Found, Trouble> {
        let ready = self.ready(desk, group, topic).await?;
        let number = u32::try_from(ready.len()).unwrap_or(u32::MAX);
        let beyond = crossdock_core::Partition { topic: topic.clone(), number };
        let beyond = desk.queue(&self.names.queue(group, &beyond)).await?.is_some();
        Ok(Found { ready, beyond })
    }

    /// What the broker has refused, as a finding; an error if it was no refusal.
    pub(crate) fn refused(
        &self,
        subject: String,
        trouble: Trouble,
        doing: &'static str,
    ) -> Result<Finding, RabbitError> {
        let detail = crossdock_core::chain(&trouble);
        match trouble.code() {
            Some(DIFFERS) => Ok(Finding::error(
                subject,
                format!("it is there and differs: {detail}"),
                "delete it once it is empty, or choose another `prefix`; the hub deletes nothing",
            )),
            Some(403) => Ok(Finding::error(subject, detail, self.permissions())),
            _ => Err(failed(doing, trouble)),
        }
    }
}

impl Found {
    /// Why the number of shards cannot be what is wanted. With other shards keys move between queues: that keeps their order
    /// only if nothing waits.
    pub(crate) fn differs(&self, group: &Group, topic: &Topic) -> Option<Finding> {
        let wanted = self.ready.len();
        if self.beyond {
            return Some(Finding::error(
                findings::queues(group, topic),
                format!(
                    "there are queues of more than the {wanted} shards that are wanted; nobody would read them"
                ),
                "write the number of `partitions` that the topic was made with, or delete the queues beyond once they are empty",
            ));
        }
        let there = grown(&self.ready)?;
        let waiting: u64 = self.ready.iter().flatten().sum();
        (waiting > 0).then(|| {
            Finding::error(
                findings::queues(group, topic),
                format!("{there} of {wanted} shards have a queue, and {waiting} events wait in them"),
                format!(
                    "write `partitions: {there}` until they are finished: with more shards keys move to other queues, and \
                     their order would be lost"
                ),
            )
        })
    }
}

/// How many shards there were, where only the last ones have no queue.
fn grown(ready: &[Option<u64>]) -> Option<usize> {
    let there = ready.iter().take_while(|ready| ready.is_some()).count();
    (there > 0 && there < ready.len() && ready[there..].iter().all(Option::is_none)).then_some(there)
}
