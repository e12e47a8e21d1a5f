//! Queues and connections that are there and say nothing.

mod house;

use std::time::Duration;

use crossdock_core::{Broker, Delivery, PublishError, Severity};
use crossdock_testkit::{
    eventually,
    services::{self, private::RabbitMq},
};
use house::{House, Reader, events, lines, publish, publish_somehow, topic};
use lapin::{options::QueuePurgeOptions, types::FieldTable};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};

/// Does something to the process `P` that leads a queue.
async fn to_leader(server: &RabbitMq, what: &str, queue: &str) {
    let queue = format!("rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>))");
    let said = server.ctl(&["eval", &format!("{{ok, Q}} = {queue}, P = amqqueue:get_pid(Q), {what}.")]).await;
    assert!(said.contains("ok"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_a_leader_is_named_and_goes_on_when_it_has_one() {
    goes_on("ra:stop_server(quorum_queues, P)", "ra:restart_server(quorum_queues, P)").await;
}

/// As a node that is killed soon after a queue was declared leaves it (seen with 3.10.8): it is there, and leads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_answer_is_named_and_goes_on_when_it_does() {
    goes_on("sys:suspend(element(1, P))", "sys:resume(element(1, P))").await;
}

async fn goes_on(breaks: &str, mends: &str) {
    lines::record();
    let server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 8)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[("publish_timeout", "3s")]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let keys: Vec<_> = (0..64).map(|number| format!("k{number}")).collect();
    let page = |from: usize| {
        let numbers = from..from + 5;
        numbers.flat_map(|number| keys.iter().map(move |key| house::event(key, number))).collect::<Vec<_>>()
    };
    publish(&worker.rabbit, "orders", page(0)).await;
    reader.until(page(0)).await;

    let queue = house.queue("billing", "orders", 3);
    to_leader(&server, breaks, &queue).await;
    let mut taken = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        let answers = worker.rabbit.publish(&topic("orders"), page(5)).await;
        assert!(began.elapsed() < Duration::from_secs(12), "it waited {:?}", began.elapsed());
        let (good, failed): (Vec<_>, Vec<_>) =
            page(5).into_iter().zip(answers).partition(|(_, answer)| answer.is_ok());
        assert!(!failed.is_empty() && good.len() > failed.len(), "the other queues take theirs: {failed:?}");
        let may_pass = |answer: &Result<_, _>| {
            matches!(answer, Err(PublishError::Unknown | PublishError::Unavailable(_)))
        };
        assert!(failed.iter().all(|(_, answer)| may_pass(answer)), "{failed:?}");
        taken = good.into_iter().map(|(event, _)| event).collect();
    }
    let told = lines::with(&["ERROR", &queue, "has no leader"]);
    assert!(told.len() == 1 && told[0].contains("ra:trigger_election"), "{told:?}");
    assert!(!told[0].contains(&house.queue("billing", "orders", 4)), "{told:?}");

    // A worker that starts meanwhile goes on with the other queues, and says which one it cannot read.
    let later = house.open_as_it_is(house.options(&[]));
    later.rabbit.provision(&wanted).await.expect("the queue is there");
    drop(reader);
    let mut reader = Reader::join(&later.rabbit, "billing", &["orders"]).await;
    lines::wait(&["WARN", &queue, "the consumer ended"]).await;
    reader.until(taken).await;

    to_leader(&server, mends, &queue).await;
    publish_somehow(&worker.rabbit, "orders", page(5)).await;
    reader.until(page(5)).await;
    for key in &keys {
        assert_eq!(reader.firsts(key), (5..10).collect::<Vec<_>>(), "the order of {key}");
    }
    let again = lines::with(&["INFO", "orders/3", "confirm again"]);
    assert!(again.iter().any(|line| *line > told[0]), "{again:?}");
}

/// R10: a queue tells nobody what it has lost. Whoever reads it does.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_queue_has_lost_are_told() {
    lines::record();
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"]), ("audit", &["orders"])]);
    let worker = house.open(house.options(&[("prefetch", "10")]), &wanted).await;
    let mut billing = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let mut audit = Reader::join(&worker.rabbit, "audit", &["orders"]).await;
    let (queue, other) = (house.queue("billing", "orders", 0), house.queue("audit", "orders", 0));
    publish(&worker.rabbit, "orders", events("k", 0..10)).await;
    let out = billing.take(10).await;
    publish(&worker.rabbit, "orders", events("k", 10..30)).await;
    let stranger = house.stranger().await.create_channel().await.expect("a channel");
    let purged = stranger.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await;
    assert_eq!(purged.expect("it is purged"), 20);
    out.into_iter().for_each(Delivery::complete);
    publish(&worker.rabbit, "orders", events("k", 30..40)).await;
    billing.until(events("k", 30..40)).await;
    let lost = |count: &str| lines::with(&["ERROR", &queue, "events are missing", count]);
    assert_eq!(lost("count=20").len(), 1, "{:?}", lines::with(&[&queue]));

    // Unbound, while the queue of another flow gets every event: nothing comes back to who publishes.
    let exchange = house.exchange("orders");
    let (of, from) = (queue.as_str().into(), exchange.as_str().into());
    stranger.queue_unbind(of, from, "0".into(), FieldTable::default()).await.expect("it is unbound");
    publish(&worker.rabbit, "orders", events("k", 40..45)).await;
    // After some time without an event it is bound again.
    let mut number = 45;
    eventually("it is told", async || {
        publish(&worker.rabbit, "orders", events("k", number..number + 1)).await;
        number += 1;
        if let Ok(more) = timeout(Duration::from_millis(200), billing.batch()).await {
            more.into_iter().for_each(Delivery::complete);
        }
        let lost = lost("events are missing");
        if lost.len() == 2 { Ok(()) } else { Err(format!("{lost:?}")) }
    })
    .await;
    audit.until(events("k", 0..number)).await;
    assert_eq!(lines::with(&[&other, "events are missing"]), [""; 0], "the other queue has everything");
}

/// What a worker leaves behind is no loss to the next one, whatever it had finished of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_finished_is_not_told_as_lost() {
    lines::record();
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    for life in 0..4 {
        let worker = house.open(house.options(&[]), &wanted).await;
        let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
        publish(&worker.rabbit, "orders", events("k", life * 100..life * 100 + 100)).await;
        let out = reader.take(100).await;
        // Every third one is finished.
        out.into_iter().step_by(3).for_each(Delivery::complete);
        worker.rabbit.close(Duration::from_secs(5)).await;
    }
    assert_eq!(lines::with(&[&house.prefix, "events are missing"]), [""; 0]);
}

/// The network swallows everything and closes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_leads_nowhere_is_left_for_a_new_one() {
    lines::record();
    let way = Way::to(&services::amqp()).await;
    let house = House::at(way.url.clone());
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    let options = [("heartbeat", "1s"), ("publish_timeout", "2s"), ("connect_timeout", "2s")];
    let worker = house.open(house.options(&options), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    publish(&worker.rabbit, "orders", events("k", 0..10)).await;
    reader.until(events("k", 0..10)).await;
    for round in 1..4 {
        way.swallow();
        let began = Instant::now();
        let numbers = round * 10..round * 10 + 10;
        publish_somehow(&worker.rabbit, "orders", events("k", numbers.clone())).await;
        reader.until(events("k", numbers)).await;
        assert!(began.elapsed() < Duration::from_secs(15), "round {round} took {:?}", began.elapsed());
    }
    assert_eq!(reader.firsts("k"), (0..40).collect::<Vec<_>>());
    assert_eq!(lines::with(&[&house.prefix, "has no leader"]), [""; 0], "it was the connection");
}

/// A way to the broker on which connections can be made to lead nowhere.
struct Way {
    url: String,
    /// Counts up: connections that were there before lead nowhere.
    swallowed: watch::Sender<u32>,
}

impl Way {
    async fn to(url: &str) -> Self {
        let (login, server) = url.rsplit_once('@').expect("a login");
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("{login}@{}", listener.local_addr().expect("an address"));
        let (swallowed, watched) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut watched) = (server.clone(), watched.clone());
                watched.mark_unchanged();
                tokio::spawn(async move {
                    let mut broker = TcpStream::connect(server).await.expect("the broker answers");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => return,
                        _ = watched.changed() => {}
                    }
                    // Both ends stay open, and nothing comes through, until the test ends.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { url, swallowed }
    }

    fn swallow(&self) {
        self.swallowed.send_modify(|count| *count += 1);
    }
}

/// A hub that ends in good order has nothing to warn of.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_good_order_is_no_trouble() {
    lines::record();
    // A server of its own: warnings name the server.
    let server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    for round in 0..5 {
        let worker = house.open(house.options(&[]), &wanted).await;
        let found = worker.rabbit.findings(&wanted).await;
        assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "{found:?}");
        let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
        publish(&worker.rabbit, "orders", events("k", round * 100..round * 100 + 100)).await;
        reader.take(100).await.into_iter().for_each(Delivery::complete);
        worker.rabbit.close(Duration::from_secs(5)).await;
        drop(worker);
    }
    let port = server.port().to_string();
    for level in ["WARN", "ERROR"] {
        assert_eq!(lines::with(&[level, &port]), [""; 0]);
        assert_eq!(lines::with(&[level, &house.prefix]), [""; 0]);
    }
}
