//! A member of a group as the suites use it: checks what every batch must be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crossdock_core::{
    Batch, Broker, Delivery, Event, Group, Offset, Partition, Published, Signal, Subscription, Topic,
};
use tokio::time::timeout;

use crate::{HasBroker, Setup};

/// How long a signal may take, under load.
const SIGNAL_MAX: Duration = Duration::from_secs(10);

/// A subscription, and what came through it.
pub(crate) struct Reader {
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) assigned: BTreeSet<Partition>,
    last: HashMap<Partition, Offset>,
}

impl Reader {
    /// Joins a group on its topics of the setup.
    pub(crate) async fn join<S: HasBroker>(subject: &S, setup: &Setup, group: &Group) -> Self {
        let (_, topics) = setup.groups.iter().find(|(name, _)| name == group).expect("a group of the setup");
        Self::subscribe(subject.broker().as_ref(), group, topics).await
    }

    /// Joins a group on topics.
    pub(crate) async fn subscribe(broker: &dyn Broker, group: &Group, topics: &[Topic]) -> Self {
        let subscription = timeout(SIGNAL_MAX, broker.subscribe(group, topics)).await;
        let subscription = subscription.expect("subscribe answers").expect("the group can be joined");
        Self { subscription, assigned: BTreeSet::new(), last: HashMap::new() }
    }

    /// The next batch; assignments on the way are noted.
    pub(crate) async fn batch(&mut self) -> Batch {
        loop {
            match self.signal().await {
                Signal::Batch(batch) => return batch,
                Signal::Assigned(_) => {}
                Signal::Revoked(revocation) => {
                    panic!("the only member loses {:?}", revocation.partitions)
                }
            }
        }
    }

    /// The next signal, checked and noted.
    pub(crate) async fn signal(&mut self) -> Signal {
        let signal = timeout(SIGNAL_MAX, self.subscription.next()).await;
        let signal = signal.expect("something comes within 10 s").expect("the subscription goes on");
        match &signal {
            Signal::Assigned(partitions) => {
                for partition in partitions {
                    assert!(self.assigned.insert(partition.clone()), "{partition} is assigned twice");
                    self.last.remove(partition);
                }
            }
            Signal::Batch(batch) => self.check(batch),
            Signal::Revoked(revocation) => {
                for partition in &revocation.partitions {
                    assert!(self.assigned.remove(partition), "{partition} is revoked and was never assigned");
                }
            }
        }
        signal
    }

    fn check(&mut self, batch: &Batch) {
        let partition = &batch.partition;
        assert!(!batch.deliveries.is_empty(), "a batch is never empty");
        assert!(self.assigned.contains(partition), "a batch of {partition} came before it was assigned");
        for delivery in &batch.deliveries {
            let position = &delivery.position;
            assert_eq!((&position.topic, position.partition), (&partition.topic, partition.number));
            let last = self.last.insert(partition.clone(), position.offset);
            assert!(last < Some(position.offset), "{position} came after offset {last:?}");
        }
        let weight: usize = batch.deliveries.iter().map(|delivery| delivery.event.weight()).sum();
        assert!(
            weight <= Batch::BYTES_MAX || batch.deliveries.len() == 1,
            "a batch of {} deliveries weighs {weight} bytes",
            batch.deliveries.len()
        );
    }

    /// Deliveries until there are exactly `count`; panics if a batch brings more.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries: Vec<Delivery> = Vec::new();
        while deliveries.len() < count {
            deliveries.extend(self.batch().await.deliveries);
        }
        assert_eq!(deliveries.len(), count, "more came than was asked for: {deliveries:?}");
        deliveries
    }

    /// What comes until a mark, which is published now behind everything of each of the keys. The marks are finished.
    pub(crate) async fn rest(&mut self, broker: &dyn Broker, topic: &Topic, keys: &[&str]) -> Vec<Delivery> {
        let mark = format!("mark-{}-", rand::random::<u64>());
        let marks =
            keys.iter().map(|key| crate::sample::event(&format!("{mark}{key}"), key)).collect::<Vec<_>>();
        let mut missing = marks.len();
        publish(broker, topic, marks).await;
        let mut rest = Vec::new();
        while missing > 0 {
            for delivery in self.batch().await.deliveries {
                if delivery.event.id.starts_with(&mark) {
                    missing -= 1;
                    delivery.complete();
                } else {
                    rest.push(delivery);
                }
            }
        }
        rest
    }

    /// Waits until so many partitions are assigned; panics if a batch comes before.
    pub(crate) async fn until_assigned(&mut self, count: usize) {
        while self.assigned.len() < count {
            match self.signal().await {
                Signal::Assigned(_) => {}
                Signal::Batch(batch) => {
                    panic!("a batch of {} came, and {count} assignments were due", batch.partition)
                }
                Signal::Revoked(revocation) => {
                    panic!("the only member loses {:?}", revocation.partitions)
                }
            }
        }
    }
}

/// Publishes events that must all be taken; answers with what was said.
pub(crate) async fn publish(broker: &dyn Broker, topic: &Topic, events: Vec<Event>) -> Vec<Published> {
    let count = events.len();
    let results = timeout(SIGNAL_MAX, broker.publish(topic, events)).await.expect("publish answers");
    assert_eq!(results.len(), count, "one answer for each event");
    results.into_iter().map(|result| result.expect("the event is taken")).collect()
}

/// The ids of deliveries.
pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.event.id.clone()).collect()
}

/// The ids of deliveries by key, in the order in which they came.
pub(crate) fn by_key(deliveries: &[Delivery]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for delivery in deliveries {
        let key = delivery.event.key.clone().expect("the suites' events have keys");
        keys.entry(key).or_default().push(delivery.event.id.clone());
    }
    keys
}

/// The ids of events.
pub(crate) fn ids_of(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

/// Finishes deliveries.
pub(crate) fn complete(deliveries: Vec<Delivery>) {
    deliveries.into_iter().for_each(Delivery::complete);
}

/// An event as it should have come.
pub(crate) fn assert_same(came: &Arc<Event>, sent: &Event) {
    assert_eq!(came.as_ref(), sent, "the event came as it was sent");
}
