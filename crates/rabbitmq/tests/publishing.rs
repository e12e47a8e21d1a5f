//! What is promised to whoever publishes, on real brokers that are restarted, killed, filled up and misconfigured.

mod house;

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use crossdock_core::{Broker, Event, PublishError, Severity};
use crossdock_testkit::{
    eventually,
    services::{self, private::RabbitMq},
};
use house::{House, Reader, event, events, lines, publish, publish_somehow, topic};
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::{Instant, timeout};

/// R1, and that nobody else's events are refused with them.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_finds_no_queue_is_refused_and_its_queue_is_bound_anew() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1), ("returns", 8)], &[("billing", &["orders", "returns"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let stranger = house.stranger().await.create_channel().await.expect("a channel");
    let (queue, exchange) = (house.queue("billing", "orders", 0), house.exchange("orders"));
    let unbound = stranger.queue_unbind(queue.into(), exchange.into(), "0".into(), FieldTable::default());
    unbound.await.expect("it is unbound");
    let keys: Vec<_> = (0..64).map(|n| format!("k{n}")).collect();
    let many: Vec<Event> = keys.iter().flat_map(|key| events(key, 0..20)).collect();
    let (orders, returns) = (topic("orders"), topic("returns"));
    // At once, in the same lane too: a message that comes back is told with whatever confirm comes next.
    let (unrouted, routed) = tokio::join!(
        worker.rabbit.publish(&orders, events("a", 0..500)),
        worker.rabbit.publish(&returns, many.clone()),
    );
    assert!(routed.iter().all(Result::is_ok), "{:?}", routed.iter().find(|answer| answer.is_err()));
    for answer in unrouted {
        let Err(PublishError::Unavailable(why)) = answer else { panic!("it went nowhere: {answer:?}") };
        assert!(why.contains("no queue"), "{why}");
    }
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders", "returns"]).await;
    publish_somehow(&worker.rabbit, "orders", events("a", 0..500)).await;
    reader.until(many.into_iter().chain(events("a", 0..500))).await;
    assert!(reader.firsts("a").is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_topic_that_nobody_reads_is_taken() {
    let house = House::shared();
    let worker = house.open(house.options(&[]), &house.wanted(&[("orders", 2)], &[])).await;
    publish(&worker.rabbit, "orders", events("a", 0..100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_is_unknown_and_others_go_on() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1), ("returns", 1)], &[("billing", &["orders", "returns"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    publish(&worker.rabbit, "orders", events("a", 0..1)).await;
    let stranger = house.stranger().await.create_channel().await.expect("a channel");
    let deleted = stranger.exchange_delete(house.exchange("orders").into(), Default::default());
    deleted.await.expect("it is deleted");
    let answers = worker.rabbit.publish(&topic("orders"), events("a", 1..2)).await;
    assert_eq!(answers, [Err(PublishError::Unknown)]);
    let answers = worker.rabbit.publish(&topic("orders"), events("a", 1..2)).await;
    assert_eq!(answers, [Err(PublishError::UnknownTopic(topic("orders")))]);
    publish_somehow(&worker.rabbit, "returns", events("a", 0..1)).await;
}

/// R2: confirms that will never come are given up, and what is published again keeps its order.
#[tokio::test(flavor = "multi_thread")]
async fn no_publisher_hangs_when_the_broker_is_killed() {
    lines::record();
    let mut server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 4)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[("publish_timeout", "5s")]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let keys = ["a", "b", "c", "d"];
    let publishers = keys.map(|key| {
        let rabbit = worker.rabbit.clone();
        tokio::spawn(async move {
            for page in 0..60 {
                publish_somehow(&rabbit, "orders", events(key, page * 50..page * 50 + 50)).await;
            }
        })
    });
    let all: Vec<Event> = keys.iter().flat_map(|key| events(key, 0..3_000)).collect();
    let read = reader.count.clone();
    let reading = tokio::spawn(async move {
        reader.until(all).await;
        reader
    });
    for kill in 1..=3 {
        eventually("events are read", async || match read.load(Ordering::Relaxed) {
            count if count >= kill * 500 => Ok(()),
            count => Err(format!("{count} are read")),
        })
        .await;
        server.kill();
        server.restart().await;
    }
    for publisher in publishers {
        publisher.await.expect("it was not kept waiting");
    }
    let reader = reading.await.expect("all comes");
    for key in keys {
        assert_eq!(reader.firsts(key), (0..3_000).collect::<Vec<_>>(), "the order of {key}");
    }
    assert_eq!(lines::with(&[&house.prefix, "events are missing"]), [""; 0], "nothing is said to be lost");
}

/// R6: queues have no limit and no dead-letter exchange, so that the broker moves nothing on its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_drops_nothing_and_hands_nothing_on() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let listed = services::rabbitmqctl(&["list_queues", "name", "durable", "arguments"]).await;
    let queue = house.queue("billing", "orders", 0);
    let line = listed.lines().find(|line| line.starts_with(&queue)).expect("the queue is there");
    // A limit of -1 is none only from version 4 on; before, it drops what is delivered a second time.
    let expected = "true\t[{\"x-overflow\",\"reject-publish\"},{\"x-queue-type\",\"quorum\"},{\"x-single-active-consumer\",true}]";
    assert_eq!(line.split_once('\t').map(|(_, rest)| rest), Some(expected));
    drop(worker);
}

/// R7: a queue that is full by a policy refuses; what was taken is all there.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_drops_nothing() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let (policy, pattern) = (house.prefix.clone(), format!("^{}", house.prefix));
    let rules = r#"{"max-length": 50}"#;
    services::rabbitmqctl(&["set_policy", &policy, &pattern, rules, "--apply-to", "queues"]).await;
    let mut taken = Vec::new();
    let refused = eventually("the queue is full", async || {
        let number = taken.len();
        let answers = worker.rabbit.publish(&topic("orders"), vec![event("a", number)]).await;
        match answers.into_iter().next().expect("an answer") {
            Ok(_) => {
                taken.push(number);
                Err(format!("{number} are taken"))
            }
            Err(refused) => Ok(refused),
        }
    })
    .await;
    assert!(matches!(&refused, PublishError::Unavailable(why) if why.contains("full")), "{refused:?}");
    // Of one key nothing counts as taken behind what was refused.
    let answers = worker.rabbit.publish(&topic("orders"), events("b", 0..100)).await;
    let first = answers.iter().position(Result::is_err).expect("it is full");
    assert!(answers[first..].iter().all(Result::is_err), "{answers:?}");
    services::rabbitmqctl(&["clear_policy", &policy]).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    reader.until(events("a", 0..taken.len())).await;
    publish_somehow(&worker.rabbit, "orders", events("c", 0..100)).await;
    reader.until(events("c", 0..100)).await;
}

/// R8: a broker that is short of memory stops reading from whoever publishes, and from nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_short_of_memory_nothing_hangs_and_nothing_is_lost() {
    let server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[("publish_timeout", "2s")]), &wanted).await;
    publish(&worker.rabbit, "orders", events("a", 0..100)).await;
    for round in 0..2 {
        server.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]).await;
        let (number, until) = (1_000 + round, Instant::now() + Duration::from_secs(15));
        // The broker says so at the next event that it is sent.
        let refused = loop {
            let began = Instant::now();
            let answers = worker.rabbit.publish(&topic("orders"), vec![event("b", number)]).await;
            assert!(began.elapsed() < Duration::from_secs(8), "it waited {:?}", began.elapsed());
            match answers.into_iter().next().expect("an answer") {
                Err(PublishError::Unavailable(why)) => break why,
                answer => assert!(Instant::now() < until, "it goes on taking events: {answer:?}"),
            }
        };
        assert!(refused.contains("takes no events"), "{refused}");
        // Meanwhile what is there is delivered and finished.
        if round == 0 {
            let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
            let reading = reader.until(events("a", 0..100));
            timeout(Duration::from_secs(10), reading).await.expect("reading goes on");
        }
        let found = worker.rabbit.findings(&wanted).await;
        assert!(found.iter().any(|finding| finding.detail.contains("it takes no events")), "{found:?}");
        server.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
        publish_somehow(&worker.rabbit, "orders", vec![event("b", number)]).await;
    }
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    reader.until(events("b", 1_000..1_002)).await;
    assert!(
        reader.came.iter().all(|id| id.starts_with('b')),
        "what was finished stays so: {:?}",
        reader.came
    );
}

/// R12: at the limit and above it, of the data and of the attributes.
#[tokio::test(flavor = "multi_thread")]
async fn events_up_to_the_limit_pass_and_larger_ones_harm_nothing() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let mut options = house.options(&[]);
    options.event_bytes_max = 4 << 20;
    let worker = house.open(options, &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let sized = |number, bytes| Event { data: Bytes::from(vec![b'x'; bytes]), ..event("a", number) };
    let attribute = "y".repeat(Event::ATTRIBUTE_BYTES_MAX);
    let attributed = |number, count: usize| Event {
        extensions: (0..count).map(|n| (format!("e{n:03}"), attribute.clone())).collect(),
        ..event("a", number)
    };
    let sent =
        vec![sized(0, 0), sized(1, 4 << 20), sized(2, (4 << 20) + 1), attributed(3, 50), attributed(4, 200)];
    let answers = worker.rabbit.publish(&topic("orders"), sent).await;
    let taken: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false, true, false], "{answers:?}");
    let too_large = |answer: &Result<_, _>| matches!(answer, Err(PublishError::TooLarge { bytes, bytes_max }) if bytes > bytes_max);
    assert!(too_large(&answers[2]) && too_large(&answers[4]), "{answers:?}");
    let came = reader.take(3).await;
    let sizes: Vec<_> = came.iter().map(|delivery| delivery.event.data.len()).collect();
    assert_eq!((sizes, came[2].event.extensions.len()), (vec![0, 4 << 20, event("a", 3).data.len()], 50));
}

/// A server that is not there costs no publisher its patience.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_at_once_and_found_again() {
    let mut server = RabbitMq::start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    publish(&worker.rabbit, "orders", events("a", 0..1)).await;
    server.stop().await;
    for _ in 0..20 {
        let began = Instant::now();
        let answers = worker.rabbit.publish(&topic("orders"), events("a", 1..2)).await;
        assert!(
            matches!(&answers[..], [Err(PublishError::Unavailable(_) | PublishError::Unknown)]),
            "{answers:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    }
    server.restart().await;
    publish_somehow(&worker.rabbit, "orders", events("a", 1..2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_differs_is_named_and_left_alone() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    house.note(&wanted);
    let stranger = house.stranger().await.create_channel().await.expect("a channel");
    let queue = house.queue("billing", "orders", 0);
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    stranger
        .queue_declare(queue.clone().into(), options, FieldTable::default())
        .await
        .expect("it is declared");
    let worker = house.open_as_it_is(house.options(&[]));
    let error = worker.rabbit.provision(&wanted).await.expect_err("it is a classic queue");
    let crossdock_rabbitmq::RabbitError::Topology(findings) = error else { panic!("{error:?}") };
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert!(finding.detail.contains(&queue) && finding.detail.contains("inequivalent arg"), "{finding:?}");
    assert!(finding.remedy.is_some());
    stranger.queue_declare(queue.into(), options, FieldTable::default()).await.expect("it is as it was");
}

/// R12: the broker takes less than we were told. The event that it refuses stops no other one.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_for_the_broker_alone_is_refused_and_stops_nothing() {
    let server = RabbitMq::options().line("max_message_size = 100000").start().await;
    let house = House::at(server.url());
    let wanted = house.wanted(&[("orders", 2)], &[("billing", &["orders"])]);
    let worker = house.open(house.options(&[]), &wanted).await;
    let mut reader = Reader::join(&worker.rabbit, "billing", &["orders"]).await;
    let large = |number| Event { data: Bytes::from(vec![b'x'; 100_001]), ..event("a", number) };
    let page: Vec<Event> =
        (0..10).map(|number| if number == 5 { large(5) } else { event("a", number) }).collect();
    // As the relay does: what may pass is published again, with what follows it.
    let (mut left, mut refused) = (page.clone(), Vec::new());
    eventually("all but one are taken", async || {
        let answers = worker.rabbit.publish(&topic("orders"), left.clone()).await;
        let may_pass = |answer: &Result<_, PublishError>| {
            matches!(answer, Err(PublishError::Unknown | PublishError::Unavailable(_)))
        };
        let first = answers.iter().position(may_pass).unwrap_or(answers.len());
        for (event, answer) in left.drain(..first).zip(&answers) {
            if let Err(error) = answer {
                refused.push((event.id, error.clone()));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{answers:?}")) }
    })
    .await;
    let too_large = PublishError::TooLarge { bytes: 100_001, bytes_max: 100_000 };
    assert_eq!(refused, [("a-5".to_owned(), too_large.clone())]);
    reader.until(page.into_iter().filter(|event| event.id != "a-5")).await;
    assert!(reader.firsts("a").is_sorted(), "{:?}", reader.came);
    let answers = worker.rabbit.publish(&topic("orders"), vec![large(11)]).await;
    assert_eq!(answers, [Err(too_large)], "the broker is not asked again");
}

/// An exchange of another type would give every event to all shards, or to none.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_differs_is_named_and_left_alone() {
    let house = House::shared();
    let wanted = house.wanted(&[("orders", 1)], &[("billing", &["orders"])]);
    house.note(&wanted);
    let stranger = house.stranger().await.create_channel().await.expect("a channel");
    let exchange = house.exchange("orders");
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declare = async |exchange: &str| {
        let declared =
            stranger.exchange_declare(exchange.into(), ExchangeKind::Fanout, options, FieldTable::default());
        declared.await.expect("it is a fanout");
    };
    declare(&exchange).await;
    let worker = house.open_as_it_is(house.options(&[]));
    let error = worker.rabbit.provision(&wanted).await.expect_err("it is a fanout");
    let crossdock_rabbitmq::RabbitError::Topology(refused) = error else { panic!("{error:?}") };
    let found = worker.rabbit.findings(&wanted).await;
    for findings in [refused, found] {
        let wrong =
            findings.iter().find(|finding| finding.severity == Severity::Error).expect("one is wrong");
        assert!(
            wrong.detail.contains(&exchange) && wrong.detail.contains("inequivalent arg 'type'"),
            "{wrong:?}"
        );
    }
    declare(&exchange).await;
}
