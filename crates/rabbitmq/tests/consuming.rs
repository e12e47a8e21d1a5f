//! What is promised to whoever consumes, on real brokers whose connections, queues and nodes go away.

mod house;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crossdock_core::{
    Broker, Delivery, Event, Holdings, Lease, Leases, Partition, Signal, StoreError, WorkerId,
};
use crossdock_testkit::{
    Memory, eventually,
    services::{self, private::RabbitMq},
};
use house::{House, Reader, events, lines, publish, publish_somehow};
use lapin::options::QueueDeleteOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// R3: after every restart the consumer is back, and in one process nothing that was given is given again.
#[tokio::test(flavor = "multi_thread")]
async fn consuming_goes_on_after_every_restart_and_nothing_is_given_twice() {
    let mut server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let mut published = 0;
    let mut out: Vec<Delivery> = Vec::new();
    for round in 0..4 {
        publish_somehow(&worker.rabbit, "orders", events("k", published..published + 100)).await;
        published += 100;
        out.extend(reader.take(100).await);
        // Some are finished before the restart, some while the broker is away, some after it.
        out.drain(..30).for_each(Delivery::complete);
        server.stop().await;
        out.drain(..30).for_each(Delivery::complete);
        server.restart().await;
        let began = Instant::now();
        publish_somehow(&worker.rabbit, "orders", events("mark", round..round + 1)).await;
        let mark = reader.take(1).await;
        assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        mark.into_iter().for_each(Delivery::complete);
    }
    out.into_iter().for_each(Delivery::complete);
    let distinct: HashSet<_> = reader.came.iter().collect();
    assert_eq!((distinct.len(), reader.came.len()), (404, 404), "each came once");
    eventually("everything is acknowledged", async || {
        let lag = worker.rabbit.lag(&house::group("billing")).await.map_err(|error| error.to_string())?;
        if lag.iter().all(|lag| lag.pending == 0) { Ok(()) } else { Err(format!("{lag:?}")) }
    })
    .await;
    worker.rabbit.close(Duration::from_secs(5)).await;
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    publish(&worker.rabbit, "orders", events("k", 1_000..1_001)).await;
    reader.take(1).await;
    assert_eq!(reader.came, ["k-1000"], "what was finished stays finished");
}

/// R4: the broker closes the channel of a consumer that has not answered for long; that costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_takes_long_comes_once_and_is_finished_in_the_end() {
    let server = RabbitMq::start().await;
    let quick = "application:set_env(rabbit, channel_tick_interval, 500), application:set_env(rabbit, consumer_timeout, 1000).";
    server.ctl(&["eval", quick]).await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    publish(&worker.rabbit, "orders", events("k", 0..50)).await;
    let out = reader.take(50).await;
    // The broker logs each channel that it closes.
    eventually("the broker has closed the channel", async || {
        let log = std::fs::read_to_string(server.folder().join("log")).map_err(|error| error.to_string())?;
        if log.contains("Timeout value used") || log.contains("timed out") { Ok(()) } else { Err(log) }
    })
    .await;
    publish(&worker.rabbit, "orders", events("k", 50..60)).await;
    let more = reader.take(10).await;
    out.into_iter().chain(more).for_each(Delivery::complete);
    assert_eq!(reader.came.len(), 60, "each came once: {:?}", reader.came);
    eventually("everything is acknowledged", async || {
        let listed = server.ctl(&["list_queues", "messages"]).await;
        if listed.lines().any(|line| line == "0") { Ok(()) } else { Err(listed) }
    })
    .await;
}

/// R5: a worker dies again and again with the same events in hand.
#[tokio::test(flavor = "multi_thread")]
async fn events_survive_a_worker_that_dies_twenty_five_times() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    house.open(house.options(&[]), &wanted).await.rabbit.close(Duration::from_secs(5)).await;
    for life in 0..25 {
        // Leases of its own: to wait for those of the dead one is another test.
        let worker = house.open_with(house.options(&[("prefetch", "100")]), Arc::new(house::new_store()));
        worker.rabbit.provision(&wanted).await.expect("what is there fits");
        let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
        if life == 0 {
            publish(&worker.rabbit, "orders", events("k", 0..100)).await;
        }
        let out = reader.take(100).await;
        let ids: Vec<_> = (0..100).map(|number| format!("k-{number}")).collect();
        assert_eq!(reader.came, ids, "life {life}");
        worker.kill();
        drop(out);
    }
}

/// R9: tags die with their channel; finishing a delivery of a dead one harms nothing.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_closed_cost_nothing_but_time() {
    lines::record();
    let server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let keys = ["a", "b", "c"];
    let publishers = keys.map(|key| {
        let rabbit = worker.rabbit.clone();
        tokio::spawn(async move {
            for page in 0..40 {
                publish_somehow(&rabbit, "orders", events(key, page * 50..page * 50 + 50)).await;
            }
        })
    });
    let all: Vec<Event> = keys.iter().flat_map(|key| events(key, 0..2_000)).collect();
    let reading = tokio::spawn(async move {
        reader.until(all).await;
        reader
    });
    for _ in 0..4 {
        server.ctl(&["close_all_connections", "a test"]).await;
    }
    for publisher in publishers {
        publisher.await.expect("it ends well");
    }
    let reader = reading.await.expect("all comes");
    for key in keys {
        assert_eq!(reader.firsts(key), (0..2_000).collect::<Vec<_>>(), "the order of {key}");
    }
    assert_eq!(lines::with(&[&house.prefix, "events are missing"]), [""; 0], "nothing is said to be lost");
}

/// R10, as far as it is the adapter's: a queue that somebody deletes is made anew. What it held is for the reconciler to find.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_is_made_anew() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    publish(&worker.rabbit, "orders", events("k", 0..10)).await;
    reader.until(events("k", 0..10)).await;
    let stranger = house.stranger().await.create_channel().await.expect("a channel");
    let queue = house.queue("billing", "orders", 0);
    stranger.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("it is deleted");
    publish_somehow(&worker.rabbit, "orders", events("k", 10..20)).await;
    reader.until(events("k", 10..20)).await;
}

/// R11: what is not finished is left where it is; it is not handed back to come again in a loop.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished_does_not_go_round() {
    let server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    publish(&worker.rabbit, "orders", events("k", 0..100)).await;
    let mut out = reader.take(100).await;
    let rest = out.split_off(1);
    rest.into_iter().for_each(Delivery::complete);
    // Everything but the first is acknowledged, one by one, and nothing is delivered again.
    eventually("the others are acknowledged", async || {
        let listed = server.ctl(&["list_queues", "messages_ready", "messages_unacknowledged"]).await;
        if listed.lines().any(|line| line == "0\t1") { Ok(()) } else { Err(listed) }
    })
    .await;
    assert!(timeout(Duration::from_secs(2), reader.subscription.next()).await.is_err());
    assert_eq!(reader.came.len(), 100);
}

/// A worker that is killed says nothing; its shards move when its leases run out.
#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_killed_worker_move_to_the_other() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 4)], &[("billing", &["orders"])]);
    let (one, other) =
        (house.open(house.options(&[]), &wanted).await, house.open(house.options(&[]), &wanted).await);
    let mut first = Reader::join(&one.rabbit, "billing", &["orders"]).await;
    let mut second = Reader::join(&other.rabbit, "billing", &["orders"]).await;
    let (mut of_first, mut of_second) = (BTreeSet::new(), BTreeSet::new());
    let settling = async {
        while of_first.len() != 2 || of_second.len() != 2 {
            tokio::select! {
                signal = first.subscription.next() => note(signal, &mut of_first),
                signal = second.subscription.next() => note(signal, &mut of_second),
            }
        }
    };
    timeout(Duration::from_secs(20), settling).await.expect("they share");
    let all: Vec<Event> = (0..16).flat_map(|key| events(&format!("k{key}"), 0..10)).collect();
    publish(&other.rabbit, "orders", all.clone()).await;
    one.kill();
    let began = Instant::now();
    second.until(all).await;
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    (0..16).for_each(|key| assert!(second.firsts(&format!("k{key}")).is_sorted()));
}

fn note(signal: Result<Signal, crossdock_core::BrokerError>, owned: &mut BTreeSet<Partition>) {
    match signal.expect("the subscription goes on") {
        Signal::Assigned(partitions) => owned.extend(partitions),
        Signal::Revoked(revocation) => {
            revocation.partitions.iter().for_each(|partition| {
                owned.remove(partition);
            });
            revocation.done();
        }
        Signal::Batch(_) => panic!("nothing was published"),
    }
}

/// Leases that can be cut off.
struct CutOff {
    memory: Memory,
    away: Arc<AtomicBool>,
}

impl CutOff {
    fn answers(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable { doing: "being cut off", source: "by the test".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Leases for CutOff {
    async fn renew(&self, scope: &str, worker: &WorkerId, ttl: Duration) -> Result<Holdings, StoreError> {
        self.answers()?;
        self.memory.renew(scope, worker, ttl).await
    }

    async fn take(
        &self,
        scope: &str,
        worker: &WorkerId,
        names: &[String],
        ttl: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        self.answers()?;
        self.memory.take(scope, worker, names, ttl).await
    }

    async fn release(&self, scope: &str, worker: &WorkerId, names: &[String]) -> Result<(), StoreError> {
        self.answers()?;
        self.memory.release(scope, worker, names).await
    }

    async fn leave(&self, scope: &str, worker: &WorkerId) -> Result<(), StoreError> {
        self.answers()?;
        self.memory.leave(scope, worker).await
    }
}

/// A worker that cannot renew gives its shards up before others may take them, and takes them again later.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_renew_lets_go_in_time() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    let away = Arc::new(AtomicBool::new(false));
    let leases = CutOff { memory: house.memory.clone(), away: away.clone() };
    let worker = house.open_with(house.options(&[("lease_ttl", "3s")]), Arc::new(leases));
    house.note(&wanted);
    worker.rabbit.provision(&wanted).await.expect("it is made");
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    publish(&worker.rabbit, "orders", events("k", 0..10)).await;
    let out = reader.take(10).await;
    away.store(true, Ordering::Relaxed);
    let cut = Instant::now();
    let revoked = timeout(Duration::from_secs(5), reader.subscription.next()).await.expect("in time");
    let Ok(Signal::Revoked(revocation)) = revoked else { panic!("the shards are to be let go") };
    assert!(cut.elapsed() < Duration::from_secs(3), "it took {:?}", cut.elapsed());
    assert_eq!(revocation.partitions.len(), 2);
    // What is finished until it lets go is finished.
    out.into_iter().for_each(Delivery::complete);
    revocation.done();
    away.store(false, Ordering::Relaxed);
    publish(&worker.rabbit, "orders", events("k", 10..20)).await;
    let reading = reader.until(events("k", 10..20));
    timeout(Duration::from_secs(15), reading).await.expect("they are taken again");
    assert_eq!(reader.came.len(), 20, "nothing came twice: {:?}", reader.came);
}

/// A consumer that is cancelled keeps what it has out, and the queue gives what comes next to the next consumer: then the order of
/// a key turns. So a consumer ends with its channel, whose end gives back what was out in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_never_cancelled() {
    const CONSUME: [u8; 4] = [0, 60, 0, 20];
    const CANCEL: [u8; 4] = [0, 60, 0, 30];
    const CLOSE_CHANNEL: [u8; 4] = [0, 20, 0, 40];
    let (url, sent) = recorded(&services::amqp()).await;
    let house = House::at(url);
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    for round in 0..10 {
        let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
        publish(&worker.rabbit, "orders", events("k", round * 100..round * 100 + 100)).await;
        // One stays out, the others are to be acknowledged when it is left.
        reader.take(100).await.into_iter().skip(1).for_each(Delivery::complete);
    }
    eventually("the channel of the consumer ends", async || {
        let methods: Vec<_> =
            sent.lock().expect("no holder panics").iter().flat_map(|bytes| methods(bytes)).collect();
        assert!(methods.iter().any(|(_, method)| *method == CONSUME), "{methods:?}");
        assert!(!methods.iter().any(|(_, method)| *method == CANCEL), "{methods:?}");
        let of =
            |wanted| methods.iter().filter(move |(_, method)| *method == wanted).map(|(channel, _)| *channel);
        if of(CONSUME).all(|consumes| of(CLOSE_CHANNEL).any(|closed| closed == consumes)) {
            Ok(())
        } else {
            Err(format!("{methods:?}"))
        }
    })
    .await;
    worker.rabbit.close(Duration::from_secs(5)).await;
}

type Recorded = Arc<Mutex<Vec<Vec<u8>>>>;

/// Another way to the broker, and what each connection sends on it.
async fn recorded(url: &str) -> (String, Recorded) {
    let (login, server) = url.rsplit_once('@').expect("a login");
    let (login, server) = (login.to_owned(), server.to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let way = format!("{login}@{}", listener.local_addr().expect("an address"));
    let sent = Recorded::default();
    let keep = sent.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let number = {
                let mut sent = keep.lock().expect("no holder panics");
                sent.push(Vec::new());
                sent.len() - 1
            };
            tokio::spawn(pass(client, server.clone(), keep.clone(), number));
        }
    });
    (way, sent)
}

async fn pass(client: TcpStream, server: String, sent: Recorded, number: usize) {
    let (mut from, mut to) = client.into_split();
    let (mut answers, mut asks) = TcpStream::connect(server).await.expect("the broker answers").into_split();
    tokio::spawn(async move { tokio::io::copy(&mut answers, &mut to).await });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        sent.lock().expect("no holder panics")[number].extend(&bytes[..count]);
        if asks.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// The methods in what a client has sent, with their channels: behind the eight bytes that name the protocol, frames of a type, a
/// channel, a length, so many bytes and an end.
fn methods(sent: &[u8]) -> Vec<(u16, [u8; 4])> {
    let (mut rest, mut methods) = (sent.get(8..).unwrap_or_default(), Vec::new());
    while let [kind, c1, c2, l1, l2, l3, l4, more @ ..] = rest {
        let length = u32::from_be_bytes([*l1, *l2, *l3, *l4]) as usize;
        if let (1, Some(method)) = (kind, more.first_chunk::<4>()) {
            methods.push((u16::from_be_bytes([*c1, *c2]), *method));
        }
        rest = more.get(length + 1..).unwrap_or_default();
    }
    methods
}
