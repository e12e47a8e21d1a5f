//! Groups: who owns what, what a slow flow costs, and what becomes of positions that are lost. Needs a real Kafka.

mod house;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use crossdock_core::{Broker, Delivery, Event, Signal, Subscription};
use crossdock_kafka::Kafka;
use house::{House, assigned, batch, event, events, eventually, flow, ids, ids_of, publish, take, topic};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, CommitMode, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::{task::JoinHandle, time::timeout};

/// What the crate has logged in this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().expect("no test panics inside").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn listen() {
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).finish();
    // The first test that asks sets it for all.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The errors that name a group.
fn errors_of(group: &str) -> Vec<String> {
    let log = String::from_utf8_lossy(&LOG.lock().expect("no test panics inside")).into_owned();
    let wanted = format!("group=\"{group}\"");
    log.lines().filter(|line| line.contains("ERROR") && line.contains(&wanted)).map(str::to_owned).collect()
}

async fn join(kafka: &Kafka, group: &str) -> Box<dyn Subscription> {
    kafka.subscribe(&flow(group), &[topic("orders")]).await.expect("it is joined")
}

async fn until_committed(kafka: &Kafka, group: &str) {
    eventually("it is finished", async || {
        let lag = kafka.lag(&flow(group)).await.ok()?;
        lag.iter().all(|lag| lag.pending == 0).then_some(())
    })
    .await;
}

/// K11: the positions of a group are gone, as after a week without members.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_positions_are_gone_begins_at_the_oldest_event_and_says_so() {
    listen();
    let house = House::shared();
    let kafka = house.open(&["orders"], 1).await;
    let mut subscription = join(&kafka, "k11-gone").await;
    publish(&kafka, "orders", events("k", 0..10)).await;
    take(&mut subscription, 10).await.into_iter().take(5).for_each(Delivery::complete);
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
    let admin = house.admin();
    let options = AdminOptions::new();
    eventually("the group is deleted", async || {
        let deleted = admin.delete_groups(&[&house.group("k11-gone")], &options).await.ok()?;
        deleted.into_iter().all(|deleted| deleted.is_ok()).then_some(())
    })
    .await;
    let kafka = house.open(&["orders"], 1).await;
    publish(&kafka, "orders", events("k", 10..12)).await;
    let mut subscription = join(&kafka, "k11-gone").await;
    assert_eq!(ids(&take(&mut subscription, 12).await), ids_of(&events("k", 0..12)));
    let errors = errors_of("k11-gone");
    assert!(errors.len() == 1 && errors[0].contains("has lost the position"), "{errors:?}");
    assert!(errors[0].contains("topic=\"orders\""), "{errors:?}");
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}

/// K11: events that the retention took before they were finished.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_deleted_too_early_are_told_of() {
    listen();
    let house = House::shared();
    let kafka = house.open(&["orders"], 1).await;
    let mut subscription = join(&kafka, "k11-deleted").await;
    publish(&kafka, "orders", events("k", 0..10)).await;
    take(&mut subscription, 10).await.into_iter().take(2).for_each(Delivery::complete);
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
    delete_before(&house, 6).await;
    let kafka = house.open(&["orders"], 1).await;
    let mut subscription = join(&kafka, "k11-deleted").await;
    assert_eq!(ids(&take(&mut subscription, 4).await), ids_of(&events("k", 6..10)));
    let errors = errors_of("k11-deleted");
    assert!(errors.len() == 1 && errors[0].contains("were deleted before"), "{errors:?}");
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}

async fn delete_before(house: &House, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&house.name("orders"), 0, Offset::Offset(offset)).expect("an offset");
    house.admin().delete_records(&list, &AdminOptions::new()).await.expect("records can be deleted");
}

/// K11, while the group reads: a paused partition whose next events the retention takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_deleted_under_a_reader_is_told_of_and_left() {
    listen();
    let house = House::shared();
    let mut options = house.options.clone();
    options.event_bytes_max = 64 << 10;
    let kafka = house.open_with(options, &["orders"], 1).await;
    let mut subscription = join(&kafka, "k11-under").await;
    let partition = assigned(&mut subscription).await.remove(0);
    subscription.pause(&partition);
    // More than the member keeps in its queue.
    let large =
        |number: usize| Event { data: vec![b'x'; 60 << 10].into(), ..event(&format!("k-{number}"), "k") };
    for part in 0..20 {
        publish(&kafka, "orders", (part * 10..part * 10 + 10).map(large).collect()).await;
    }
    delete_before(&house, 198).await;
    subscription.resume(&partition);
    let (mut last, mut revoked) = (None, false);
    while last.as_deref() != Some("k-199") {
        match house::signal(&mut subscription).await {
            Signal::Batch(batch) => last = ids(&batch.deliveries).pop(),
            Signal::Revoked(revocation) => {
                revoked = true;
                revocation.done();
            }
            Signal::Assigned(_) => {}
        }
    }
    assert!(revoked, "the place was gone");
    let errors = errors_of("k11-under");
    assert!(errors.iter().any(|error| error.contains("were deleted before")), "{errors:?}");
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}

/// K11: a topic that was deleted and made anew holds other events at the old places.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_read_from_its_beginning() {
    listen();
    let house = House::shared();
    let kafka = house.open(&["orders"], 1).await;
    let mut subscription = join(&kafka, "k11-anew").await;
    publish(&kafka, "orders", events("old", 0..10)).await;
    take(&mut subscription, 10).await.into_iter().for_each(Delivery::complete);
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
    let (admin, options, name) = (house.admin(), AdminOptions::new(), house.name("orders"));
    admin.delete_topics(&[&name], &options).await.expect("it can be deleted");
    eventually("the topic is made anew", async || {
        let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        admin.create_topics([&new], &options).await.ok()?.remove(0).ok()
    })
    .await;
    // Deleting a topic deletes its positions too; as if a mirror had kept them.
    let config = house.client();
    let committer: BaseConsumer =
        config.clone().set("group.id", house.group("k11-anew")).create().expect("a client can be made");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&name, 0, Offset::Offset(10)).expect("an offset");
    committer.commit(&list, CommitMode::Sync).expect("it is committed");
    drop(committer);
    let kafka = house.open(&["orders"], 1).await;
    publish(&kafka, "orders", events("new", 0..3)).await;
    let mut subscription = join(&kafka, "k11-anew").await;
    assert_eq!(ids(&take(&mut subscription, 3).await), ids_of(&events("new", 0..3)));
    let errors = errors_of("k11-anew");
    assert!(errors.len() == 1 && errors[0].contains("made anew"), "{errors:?}");
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}

/// Partitions that somebody adds are read from their first event, and nobody is alarmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_is_read_from_its_beginning() {
    listen();
    let house = House::shared();
    let kafka = house.open(&["orders"], 1).await;
    let mut subscription = join(&kafka, "grown").await;
    publish(&kafka, "orders", events("k", 0..3)).await;
    take(&mut subscription, 3).await.into_iter().for_each(Delivery::complete);
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
    let name = house.name("orders");
    let grown = NewPartitions::new(&name, 2);
    let made = house.admin().create_partitions([&grown], &AdminOptions::new()).await.expect("it is asked");
    made.into_iter().for_each(|made| drop(made.expect("a partition is added")));
    let producer: BaseProducer = house.client().create().expect("a client can be made");
    eventually("the new partition has an event", async || {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&name).partition(1).payload(b"new");
        producer.send(record).ok()?;
        producer.flush(Duration::from_secs(5)).ok()
    })
    .await;
    let kafka = house.open(&["orders"], 2).await;
    let mut subscription = join(&kafka, "grown").await;
    assert_eq!(batch(&mut subscription).await.deliveries[0].event.data.as_ref(), b"new");
    assert_eq!(errors_of("grown"), [""; 0]);
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}

/// A worker with a new configuration joins a group that has members: the new topic begins where it was first asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_added_while_the_group_has_members_begins_at_once() {
    listen();
    let house = House::shared();
    let kafka = house.open(&["orders", "returns"], 1).await;
    publish(&kafka, "returns", events("before", 0..3)).await;
    let mut old = join(&kafka, "added").await;
    assigned(&mut old).await;
    let new = kafka.subscribe(&flow("added"), &[topic("orders"), topic("returns")]).await;
    let mut new = new.expect("it is joined");
    publish(&kafka, "returns", events("after", 0..3)).await;
    let letting_go = let_go(old);
    assert_eq!(ids(&take(&mut new, 3).await), ids_of(&events("after", 0..3)));
    assert_eq!(errors_of("added"), [""; 0]);
    letting_go.abort();
    drop(new);
    kafka.close(Duration::from_secs(10)).await;
}

/// Lets go of what is revoked, and keeps nothing that comes.
fn let_go(mut subscription: Box<dyn Subscription>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(signal) = subscription.next().await {
            if let Signal::Revoked(revocation) = signal {
                revocation.done();
            }
        }
    })
}

/// K9: a sink that takes longer than Kafka waits for a poll.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_slower_than_the_poll_interval_is_not_thrown_out_of_its_group() {
    let house = House::shared();
    let url = crossdock_testkit::services::kafka();
    let mut options =
        crossdock_kafka::KafkaOptions::parse(&url, [("max.poll.interval.ms", "6000")]).expect("options");
    options.topic_prefix.clone_from(&house.options.topic_prefix);
    options.group_prefix.clone_from(&house.options.group_prefix);
    options.session_timeout = Duration::from_secs(6);
    let kafka = house.open_with(options, &["orders"], 1).await;
    let mut subscription = join(&kafka, "slow").await;
    publish(&kafka, "orders", events("k", 0..10)).await;
    let out = take(&mut subscription, 10).await;
    // The sink is at work: nobody asks for a signal in the meantime.
    tokio::time::sleep(Duration::from_secs(9)).await;
    out.into_iter().for_each(Delivery::complete);
    publish(&kafka, "orders", events("k", 10..11)).await;
    match house::signal(&mut subscription).await {
        Signal::Batch(batch) => assert_eq!(ids(&batch.deliveries), ["k-10"]),
        Signal::Assigned(_) => panic!("partitions were assigned anew"),
        Signal::Revoked(revocation) => panic!("{:?} is revoked", revocation.partitions),
    }
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}

/// K15: a worker with a name of its own restarts, and nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_name_comes_back_without_moving_partitions() {
    let house = House::shared();
    let named = |name: &str| {
        let mut options = house.options.clone();
        options.instance = Some(name.to_owned());
        options.session_timeout = Duration::from_secs(20);
        options
    };
    let first = house.open_with(named("a"), &["orders"], 4).await;
    let second = house.open_with(named("b"), &["orders"], 4).await;
    let (mut one, mut two) = (join(&first, "named").await, join(&second, "named").await);
    let mut owned: [BTreeSet<_>; 2] = Default::default();
    while owned[1].len() != 2 || owned[0].len() != 2 {
        let (side, signal) = tokio::select! {
            signal = house::signal(&mut one) => (0, signal),
            signal = house::signal(&mut two) => (1, signal),
        };
        match signal {
            Signal::Assigned(partitions) => owned[side].extend(partitions),
            Signal::Revoked(revocation) => {
                owned[side].retain(|partition| !revocation.partitions.contains(partition));
                revocation.done();
            }
            Signal::Batch(_) => panic!("nothing was published"),
        }
    }
    drop(two);
    second.close(Duration::from_secs(10)).await;
    let second = house.open_with(named("b"), &["orders"], 4).await;
    let mut two = join(&second, "named").await;
    assert_eq!(assigned(&mut two).await.into_iter().collect::<BTreeSet<_>>(), owned[1]);
    let quiet = timeout(Duration::from_secs(2), one.next()).await;
    assert!(quiet.is_err(), "the other one was told of something");
    drop((one, two));
    first.close(Duration::from_secs(10)).await;
    second.close(Duration::from_secs(10)).await;
}

/// A member that works: holds each event for a moment, finishes it, and lets go when asked, with everything finished or not.
struct Worker {
    task: JoinHandle<()>,
    kafka: Kafka,
}

#[derive(Default)]
struct Ledger {
    /// The ids of each key in the order in which they came first.
    first: BTreeMap<String, Vec<String>>,
    seen: BTreeSet<String>,
    twice: usize,
}

async fn work(house: &House, ledger: &Arc<Mutex<Ledger>>) -> Worker {
    let kafka = house.open(&["orders"], 6).await;
    let mut subscription = join(&kafka, "churn").await;
    let ledger = ledger.clone();
    let task = tokio::spawn(async move {
        loop {
            match subscription.next().await {
                Ok(Signal::Batch(batch)) => {
                    for delivery in batch.deliveries {
                        ledger.lock().expect("no test panics inside").note(&delivery.event);
                        tokio::time::sleep(Duration::from_micros(300)).await;
                        delivery.complete();
                    }
                }
                Ok(Signal::Assigned(_)) => {}
                Ok(Signal::Revoked(revocation)) => revocation.done(),
                Err(_) => return,
            }
        }
    });
    Worker { task, kafka }
}

impl Ledger {
    fn note(&mut self, event: &Event) {
        if self.seen.insert(event.id.clone()) {
            let key = event.key.clone().expect("keyed");
            self.first.entry(key).or_default().push(event.id.clone());
        } else {
            self.twice += 1;
        }
    }
}

/// K7: members come and go under load.
#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_under_load_and_nothing_is_lost_or_turned_around() {
    let house = House::shared();
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let steady = work(&house, &ledger).await;
    let publisher = steady.kafka.clone();
    let publishing = tokio::spawn(async move {
        for page in 0..200 {
            let keyed = |n: usize| event(&format!("{:06}", page * 50 + n), &format!("k{}", n % 25));
            publish(&publisher, "orders", (0..50).map(keyed).collect()).await;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    });
    let mut rounds = 0;
    while !publishing.is_finished() {
        let guest = work(&house, &ledger).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        if rounds % 2 == 0 {
            guest.kafka.close(Duration::from_secs(10)).await;
        } else {
            guest.kafka.sever().await;
        }
        guest.task.await.expect("it ends well");
        rounds += 1;
    }
    publishing.await.expect("it ends well");
    until_committed(&steady.kafka, "churn").await;
    steady.kafka.close(Duration::from_secs(10)).await;
    steady.task.await.expect("it ends well");
    let ledger = ledger.lock().expect("no test panics inside");
    assert_eq!(ledger.seen.len(), 10_000, "lost");
    for (key, ids) in &ledger.first {
        assert!(ids.is_sorted(), "the first deliveries of {key} are out of order: {ids:?}");
    }
    assert!(rounds >= 3, "{rounds} members came and went");
    assert!(ledger.twice <= 1_024 * rounds, "{} came twice in {rounds} rounds", ledger.twice);
}

/// A partition that is paused holds back its own events only, and fetching stops while its queue is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_partition_keeps_nothing_else_waiting() {
    let house = House::shared();
    let kafka = house.open(&["orders"], 2).await;
    let mut subscription = join(&kafka, "paused").await;
    let partitions = assigned(&mut subscription).await;
    subscription.pause(&partitions[0]);
    let many: Vec<_> = (0..200).map(|n| event(&format!("{n}"), &format!("k{n}"))).collect();
    publish(&kafka, "orders", many).await;
    let mut came = 0;
    while let Ok(batch) = timeout(Duration::from_secs(1), batch(&mut subscription)).await {
        assert_eq!(batch.partition, partitions[1]);
        came += batch.deliveries.len();
    }
    assert!(came > 0);
    subscription.resume(&partitions[0]);
    while came < 200 {
        came += batch(&mut subscription).await.deliveries.len();
    }
    drop(subscription);
    kafka.close(Duration::from_secs(10)).await;
}
