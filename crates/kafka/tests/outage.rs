//! What happens when the broker goes away, comes back, or its answers are lost. Starts brokers of its own.

mod house;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossdock_core::{Broker, Delivery, Event, PublishError, Published, Signal, Topic};
use crossdock_kafka::{Kafka, KafkaOptions};
use crossdock_testkit::services::private::{self, free_port};
use futures::{StreamExt, stream::FuturesOrdered};
use house::{House, event, eventually, flow, ids, proxy::Proxy, publish, resident_mebibytes, take, topic};
use tokio::time::timeout;

type Answers = Vec<Result<Published, PublishError>>;

/// Publishes page by page as the relay does, three on their way; a page that fails is published again, and so is every page
/// behind it.
async fn relay(kafka: &Kafka, topic: &Topic, pages: Vec<Vec<Event>>) -> usize {
    let (mut waiting, mut failures): (VecDeque<_>, _) = (pages.into(), 0);
    while !waiting.is_empty() {
        let mut flying = FuturesOrdered::new();
        let (mut done, mut sent) = (0, 0);
        loop {
            while flying.len() < 3 && sent < waiting.len() {
                flying.push_back(kafka.publish(topic, waiting[sent].clone()));
                sent += 1;
            }
            let Some(answers): Option<Answers> = flying.next().await else { break };
            if answers.iter().any(Result::is_err) {
                failures += 1;
                // What is still on its way is waited for, as a relay does that begins again.
                while flying.next().await.is_some() {}
                break;
            }
            done += 1;
        }
        waiting.drain(..done);
        if !waiting.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    failures
}

fn pages(count: usize, size: usize, keys: usize) -> Vec<Vec<Event>> {
    let number = |page: usize, place: usize| page * size + place;
    let keyed = |number: usize| event(&format!("{number:06}"), &format!("k{}", number % keys));
    (0..count).map(|page| (0..size).map(|place| keyed(number(page, place))).collect()).collect()
}

/// Reads until every id came, and checks that the first deliveries of each key are in order. How many came twice.
async fn check(kafka: &Kafka, group: &str, count: usize) -> usize {
    let mut subscription = kafka.subscribe(&flow(group), &[topic("orders")]).await.expect("it is joined");
    let (mut first, mut last, mut twice): (BTreeMap<String, ()>, BTreeMap<String, String>, usize) =
        Default::default();
    while first.len() < count {
        for delivery in house::batch(&mut subscription).await.deliveries {
            let (id, key) = (delivery.event.id.clone(), delivery.event.key.clone().expect("keyed"));
            delivery.complete();
            if first.insert(id.clone(), ()).is_some() {
                twice += 1;
                continue;
            }
            let before = last.insert(key.clone(), id.clone());
            assert!(before.as_ref() < Some(&id), "{id} of {key} came after {before:?}");
        }
    }
    twice
}

/// K1: a broker that is down for longer than events may wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_while_the_broker_is_down_is_not_overtaken() {
    let mut server = private::Kafka::start().await;
    let house = House::at(&server.url());
    let mut options = house.options.clone();
    options.publish_timeout = Duration::from_secs(2);
    let kafka = house.open_with(options, &["orders"], 4).await;
    drop(kafka.subscribe(&flow("reader"), &[topic("orders")]).await.expect("the group begins"));
    let publisher = kafka.clone();
    let relay = tokio::spawn(async move {
        let mut failures = 0;
        for part in pages(600, 100, 50).chunks(60) {
            failures += relay(&publisher, &topic("orders"), part.to_vec()).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        failures
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.kill();
    // Longer than events may wait, so that some are given back, more than once.
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.restart().await;
    let failures =
        timeout(Duration::from_secs(60), relay).await.expect("it catches up").expect("it ends well");
    assert!(failures > 0, "the outage was longer than events may wait");
    check(&kafka, "reader", 60_000).await;
    kafka.close(Duration::from_secs(10)).await;
}

/// K2: answers that are lost make librdkafka send again, and the broker drops what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_makes_no_duplicate() {
    let (inside, (listener, outside)) = (free_port(), Proxy::listen().await);
    let server = private::Kafka::options()
        .listener("PROXIED", "PLAINTEXT", inside)
        .line(format!(
            "advertised.listeners=PLAINTEXT://127.0.0.1:{},PROXIED://127.0.0.1:{outside}",
            free_port()
        ))
        .start()
        .await;
    let proxy = Proxy::start(listener, inside);
    let url = format!("kafka://127.0.0.1:{outside}");
    // A hundred cuts, and none of them waited out for long.
    let quick =
        [("reconnect.backoff.ms", "10"), ("reconnect.backoff.max.ms", "20"), ("retry.backoff.ms", "10")];
    let house = House::with(KafkaOptions::parse(&url, quick).expect("options"), &url);
    let kafka = house.open(&["orders"], 2).await;
    drop(kafka.subscribe(&flow("reader"), &[topic("orders")]).await.expect("the group begins"));
    let mut sent = 0;
    while proxy.cuts() < 100 {
        proxy.cut();
        let batch: Vec<_> =
            (sent..sent + 20).map(|n| event(&format!("{n:06}"), &format!("k{}", n % 7))).collect();
        publish(&kafka, "orders", batch).await;
        sent += 20;
        assert!(sent < 20_000, "only {} connections were cut", proxy.cuts());
    }
    assert_eq!(check(&kafka, "reader", sent).await, 0, "nothing came twice");
    kafka.close(Duration::from_secs(10)).await;
    drop(server);
}

/// K5: what waits is bounded, and so is the memory that it takes; every call is answered.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_at_full_rate_while_the_broker_is_down() {
    let mut server = private::Kafka::start().await;
    let house = House::at(&server.url());
    let mut options = house.options.clone();
    options.publish_timeout = Duration::from_secs(3);
    let kafka = house.open_with(options, &["orders"], 4).await;
    publish(&kafka, "orders", vec![event("first", "k")]).await;
    server.kill();
    let before = resident_mebibytes();
    let data = Bytes::from(vec![b'x'; 4096]);
    let (mut flying, mut busy, mut given_back) = (futures::stream::FuturesUnordered::new(), 0, 0);
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        let page = (0..500).map(|n| Event { data: data.clone(), ..event(&format!("{n}"), &format!("k{n}")) });
        let publisher = kafka.clone();
        let page = page.collect();
        flying.push(tokio::spawn(async move { publisher.publish(&topic("orders"), page).await }));
        if flying.len() > 100
            && let Some(Ok(answers)) = flying.next().await
        {
            busy += answers.iter().filter(|answer| matches!(answer, Err(PublishError::Busy))).count();
            given_back += answers.iter().filter(|answer| answer.is_err()).count();
        }
    }
    let grown = resident_mebibytes().saturating_sub(before);
    assert!(busy > 0 && given_back > busy, "{busy} of {given_back} were told that too much waits");
    assert!(grown < 256, "it has grown by {grown} MiB");
    kafka.close(Duration::from_secs(5)).await;
}

/// K8: a broker that restarts again and again, and a reader that goes on each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_each_time_its_broker_has_restarted() {
    let mut server = private::Kafka::start().await;
    let house = House::at(&server.url());
    let kafka = house.open(&["orders"], 2).await;
    let mut subscription = kafka.subscribe(&flow("reader"), &[topic("orders")]).await.expect("it is joined");
    for round in 0..3 {
        if round % 2 == 0 {
            server.stop().await
        } else {
            server.kill()
        }
        server.restart().await;
        let sent: Vec<_> = (0..20).map(|n| event(&format!("{round}-{n}"), &format!("k{n}"))).collect();
        eventually("the event is taken", async || {
            let answers = kafka.publish(&topic("orders"), sent.clone()).await;
            answers.iter().all(Result::is_ok).then_some(())
        })
        .await;
        let came = came(&mut subscription, round, 20).await;
        came.into_iter().for_each(Delivery::complete);
        eventually("it is committed", async || {
            let lag = kafka.lag(&flow("reader")).await.ok()?;
            lag.iter().all(|lag| lag.pending == 0).then_some(())
        })
        .await;
    }
    kafka.close(Duration::from_secs(10)).await;
}

/// The deliveries of a round, once each; what was not committed before a kill may come again.
async fn came(
    subscription: &mut Box<dyn crossdock_core::Subscription>,
    round: usize,
    count: usize,
) -> Vec<Delivery> {
    let mut came: Vec<Delivery> = Vec::new();
    while came.len() < count {
        match house::signal(subscription).await {
            Signal::Batch(batch) => {
                for delivery in batch.deliveries {
                    if delivery.event.id.starts_with(&format!("{round}-")) {
                        came.push(delivery);
                    } else {
                        delivery.complete();
                    }
                }
            }
            Signal::Assigned(_) => {}
            Signal::Revoked(revocation) => revocation.done(),
        }
    }
    let mut unique = ids(&came);
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), count, "{:?}", ids(&came));
    came
}

/// K10: leaving a group and closing wait for nobody who does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn closing_takes_no_longer_than_it_may_while_the_broker_is_down() {
    let mut server = private::Kafka::start().await;
    let house = House::at(&server.url());
    let mut opened = Vec::new();
    for number in 0..5 {
        let kafka = house.open(&["orders"], 2).await;
        let name = format!("reader{number}");
        let mut subscription = kafka.subscribe(&flow(&name), &[topic("orders")]).await.expect("it is joined");
        house::assigned(&mut subscription).await;
        publish(&kafka, "orders", vec![event(&format!("{number}"), "k")]).await;
        take(&mut subscription, 1).await.remove(0).complete();
        opened.push((kafka, subscription));
    }
    server.kill();
    for (kafka, subscription) in opened {
        let begun = Instant::now();
        drop(subscription);
        assert!(begun.elapsed() < Duration::from_secs(1), "leaving took {:?}", begun.elapsed());
        kafka.close(Duration::from_secs(3)).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "closing took {:?}", begun.elapsed());
    }
}

/// A hub that starts before its broker waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_yet_is_waited_for() {
    let server = private::Kafka::start().await;
    let house = House::at(&server.url());
    house.open(&["orders"], 1).await.close(Duration::from_secs(5)).await;
    let mut server = server;
    server.kill();
    let kafka = Kafka::open(house.options.clone(), house.checkpoints.clone()).expect("it asks nobody");
    let refused = kafka.subscribe(&flow("reader"), &[topic("orders")]).await;
    assert!(matches!(refused, Err(crossdock_core::BrokerError::Unavailable { .. })), "nobody answers");
    let publisher = kafka.clone();
    let publishing =
        tokio::spawn(async move { publisher.publish(&topic("orders"), vec![event("1", "k")]).await });
    server.restart().await;
    let answers = timeout(house::SOON, publishing).await.expect("it is answered").expect("it ends well");
    assert!(matches!(answers.as_slice(), [Ok(Published::New(_))]), "{answers:?}");
    kafka.close(Duration::from_secs(5)).await;
}
