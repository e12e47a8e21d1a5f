//! Leaving a group in good order: what is finished is committed whatever the group is doing, and the others go on at once.
//! Needs a real Kafka.

mod house;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossdock_core::{Broker, Delivery, Partition, Signal, Subscription};
use crossdock_kafka::Kafka;
use house::{House, assigned, batch, event, eventually, flow, publish, signal, topic};
use rdkafka::{
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use tokio::time::timeout;

/// Longer than any of these tests may wait for the others of a group.
const SESSION: Duration = Duration::from_secs(60);
/// How soon the others must have what a member has left behind: heartbeats are a second apart.
const SOON: Duration = Duration::from_secs(8);

async fn open(house: &House, partitions: u32) -> Kafka {
    let mut options = house.options.clone();
    options.session_timeout = SESSION;
    house.open_with(options, &["orders"], partitions).await
}

async fn join(kafka: &Kafka) -> Box<dyn Subscription> {
    kafka.subscribe(&flow("leaving"), &[topic("orders")]).await.expect("it is joined")
}

/// What the broker says of the group: its state, and how many members it has.
fn group(house: &House) -> Option<(String, usize)> {
    let asker: BaseConsumer = house.client().create().expect("a client can be made");
    let name = house.group("leaving");
    let list = asker.fetch_group_list(Some(&name), Duration::from_secs(5)).ok()?;
    let found = list.groups().iter().find(|group| group.name() == name)?;
    Some((found.state().to_owned(), found.members().len()))
}

async fn until_group(house: &House, wanted: (&str, usize)) {
    eventually(&format!("the group is {wanted:?}"), async || {
        let (state, members) = group(house)?;
        ((state.as_str(), members) == wanted).then_some(())
    })
    .await;
}

/// A member that joins and is given partitions, and does not take them before it is told to. Meanwhile it does not join again,
/// so the next rebalance waits for it.
struct Stubborn {
    consumer: Arc<BaseConsumer>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stubborn {
    fn join(house: &House) -> Self {
        let mut config: ClientConfig = house.client();
        config
            .set("group.id", house.group("leaving"))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", "500")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a client can be made");
        consumer.subscribe(&[&house.name("orders")]).expect("it subscribes");
        Self { consumer: Arc::new(consumer), stop: Arc::default(), thread: None }
    }

    /// From now on it does what is expected of a member.
    fn give_in(&mut self) {
        let (consumer, stop) = (self.consumer.clone(), self.stop.clone());
        self.thread = Some(thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let _ = consumer.poll(Duration::from_millis(50));
            }
        }));
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A member that has all four partitions, and another one to which two of them go. The group then waits for the other one,
/// and the first has asked to join again. Gives what it has kept.
async fn in_a_rebalance(house: &House, first: &mut Box<dyn Subscription>) -> (Stubborn, BTreeSet<Partition>) {
    let mut kept: BTreeSet<_> = assigned(first).await.into_iter().collect();
    let stubborn = Stubborn::join(house);
    match signal(first).await {
        Signal::Revoked(revocation) => {
            kept.retain(|partition| !revocation.partitions.contains(partition));
            revocation.done();
        }
        Signal::Assigned(_) | Signal::Batch(_) => panic!("partitions go to the other member first"),
    }
    assert_eq!(kept.len(), 2);
    until_group(house, ("PreparingRebalance", 2)).await;
    (stubborn, kept)
}

/// Publishes, and finishes what comes of these partitions.
async fn finish_some(kafka: &Kafka, subscription: &mut Box<dyn Subscription>, kept: &BTreeSet<Partition>) {
    let mut open = kept.clone();
    for n in 0..40 {
        publish(kafka, "orders", vec![event(&format!("{n}"), &format!("k{n}"))]).await;
    }
    while !open.is_empty() {
        let batch = batch(subscription).await;
        open.remove(&batch.partition);
        batch.deliveries.into_iter().for_each(Delivery::complete);
    }
    // What is left of them.
    while let Ok(batch) = timeout(Duration::from_millis(500), batch(subscription)).await {
        batch.deliveries.into_iter().for_each(Delivery::complete);
    }
}

/// A member that has finished some events while its group waits for another one, and the partitions of these events.
async fn finished_in_a_rebalance() -> (Arc<House>, Kafka, Box<dyn Subscription>, Stubborn, BTreeSet<Partition>)
{
    let house = House::shared();
    let kafka = open(&house, 4).await;
    let mut subscription = join(&kafka).await;
    let (stubborn, kept) = in_a_rebalance(&house, &mut subscription).await;
    finish_some(&kafka, &mut subscription, &kept).await;
    (house, kafka, subscription, stubborn, kept)
}

async fn assert_committed(house: &House, kept: &BTreeSet<Partition>) {
    let kafka = open(house, 4).await;
    let lag = kafka.lag(&flow("leaving")).await.expect("the broker answers");
    for lag in lag.iter().filter(|lag| kept.contains(&lag.partition)) {
        assert!(lag.end > 0 && lag.pending == 0, "finished, and not committed: {lag:?}");
    }
    kafka.close(Duration::from_secs(5)).await;
}

/// K7: while a member waits for the others in a rebalance, the broker answers none of its commits, and refuses them then.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_in_a_rebalance_has_committed_what_it_finished() {
    let (house, kafka, subscription, mut stubborn, kept) = finished_in_a_rebalance().await;
    drop(subscription);
    let closing = tokio::spawn(async move { kafka.close(Duration::from_secs(20)).await });
    // Long enough for what is given up too early to be given up.
    tokio::time::sleep(Duration::from_millis(700)).await;
    stubborn.give_in();
    closing.await.expect("it ends well");
    assert_committed(&house, &kept).await;
}

/// K7: nothing comes after it that would commit it as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_in_a_rebalance_is_committed_after_it() {
    let (house, kafka, subscription, mut stubborn, kept) = finished_in_a_rebalance().await;
    stubborn.give_in();
    until_group(&house, ("Stable", 2)).await;
    let another = open(&house, 4).await;
    eventually("what is finished is committed", async || {
        let lag = another.lag(&flow("leaving")).await.ok()?;
        lag.iter().filter(|lag| kept.contains(&lag.partition)).all(|lag| lag.pending == 0).then_some(())
    })
    .await;
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
    another.close(Duration::from_secs(10)).await;
}

/// The same, and the partitions are taken away in that rebalance: others are at work already when it leaves.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_while_a_member_leaves_is_committed_before() {
    let (house, kafka, subscription, mut stubborn, kept) = finished_in_a_rebalance().await;
    // More members than before: with them, one of the partitions that were kept goes in the rebalance that is under way.
    let (second, third) = (open(&house, 4).await, open(&house, 4).await);
    let others = [join(&second).await, join(&third).await];
    until_group(&house, ("PreparingRebalance", 4)).await;
    drop(subscription);
    let closing = tokio::spawn(async move { kafka.close(Duration::from_secs(20)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    stubborn.give_in();
    closing.await.expect("it ends well");
    assert_committed(&house, &kept).await;
    drop(others);
    second.close(Duration::from_secs(10)).await;
    third.close(Duration::from_secs(10)).await;
}

/// A member without partitions: librdkafka by itself does not leave then, and the others wait for it in the next rebalance
/// until its session is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_partitions_leaves_at_once() {
    let house = House::shared();
    let (first, second) = (open(&house, 1).await, open(&house, 1).await);
    let mut one = join(&first).await;
    assigned(&mut one).await;
    let two = join(&second).await;
    until_group(&house, ("Stable", 2)).await;
    drop(two);
    second.close(Duration::from_secs(10)).await;
    timeout(SOON, until_group(&house, ("Stable", 1))).await.expect("it has left");
    drop(one);
    first.close(Duration::from_secs(10)).await;
}

/// A member that leaves while it waits to be let in is waited for by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_before_it_was_let_in_holds_nobody_up() {
    let house = House::shared();
    let (first, second) = (open(&house, 4).await, open(&house, 4).await);
    let mut one = join(&first).await;
    let (mut stubborn, _) = in_a_rebalance(&house, &mut one).await;
    let two = join(&second).await;
    until_group(&house, ("PreparingRebalance", 3)).await;
    drop(two);
    let closing = tokio::spawn(async move { second.close(Duration::from_secs(20)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    stubborn.give_in();
    closing.await.expect("it ends well");
    let rests = async {
        loop {
            tokio::select! {
                () = until_group(&house, ("Stable", 2)) => return,
                signal = signal(&mut one) => if let Signal::Revoked(revocation) = signal {
                    revocation.done();
                },
            }
        }
    };
    timeout(SOON, rests).await.expect("the group rests");
    drop(one);
    first.close(Duration::from_secs(10)).await;
}
