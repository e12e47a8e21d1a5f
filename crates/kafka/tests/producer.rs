//! What becomes of events when the broker refuses, or the producer dies.

mod house;

use std::time::Duration;

use bytes::Bytes;
use crossdock_core::{Broker, Event, PublishError, Published};
use crossdock_kafka::{Kafka, KafkaOptions};
use house::{House, assigned, event, events, eventually, flow, publish, take, topic};
use rdkafka::{
    admin::{AdminOptions, NewTopic, TopicReplication},
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

/// K4: an error that librdkafka calls fatal. What is on its way is given back, a new producer takes over, and nothing of a
/// key has overtaken what failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_producer_is_replaced_and_nothing_overtakes() {
    let mock = MockCluster::new(1).expect("a cluster of librdkafka's own");
    let options = KafkaOptions::new(&mock.bootstrap_servers());
    let house = House::with(options.clone(), &mock.bootstrap_servers());
    mock.create_topic("orders", 1, 1).expect("a topic");
    let kafka = Kafka::open(options, house.checkpoints.clone()).expect("a client can be made");
    publish(&kafka, "orders", events("k", 0..10)).await;
    let made = Kafka::producers_made();
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 3];
    mock.request_errors(RDKafkaApiKey::Produce, &errors);
    let topic = topic("orders");
    let pages: Vec<_> =
        (1..5).map(|page| kafka.publish(&topic, events("k", page * 10..page * 10 + 10))).collect();
    let answers = futures::future::join_all(pages).await;
    let all: Vec<_> = answers.into_iter().flatten().collect();
    assert_eq!(all.len(), 40, "every event has its answer");
    let failed = all.iter().position(Result::is_err).expect("the producer died");
    assert!(all[failed..].iter().all(Result::is_err), "something overtook what failed: {all:?}");
    for answer in all.into_iter().filter_map(Result::err) {
        assert!(matches!(answer, PublishError::Unknown | PublishError::Unavailable(_)), "{answer:?}");
    }
    mock.clear_request_errors(RDKafkaApiKey::Produce);
    eventually("a new producer takes over", async || {
        let answers = kafka.publish(&topic, events("k", 50..60)).await;
        answers.iter().all(Result::is_ok).then_some(())
    })
    .await;
    assert!(Kafka::producers_made() > made, "a producer was made");
    kafka.close(Duration::from_secs(5)).await;
}

/// K12: the largest event passes, as it says; one byte more is refused with both sizes, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_event_passes_and_a_larger_one_is_refused_alone() {
    let house = House::shared();
    let kafka = house.open(&["orders"], 1).await;
    let mut subscription = kafka.subscribe(&flow("reader"), &[topic("orders")]).await.expect("it is joined");
    let sized = |id: &str, bytes: usize| Event { data: Bytes::from(vec![b'x'; bytes]), ..event(id, "k") };
    let largest = house.options.event_bytes_max;
    publish(&kafka, "orders", vec![sized("largest", largest)]).await;
    assert_eq!(take(&mut subscription, 1).await[0].event.data.len(), largest);
    let beyond = house.options.record_bytes_max();
    let answers = kafka.publish(&topic("orders"), vec![sized("beyond", beyond), event("after", "k")]).await;
    let [Err(PublishError::TooLarge { bytes, bytes_max }), Ok(_)] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert!(bytes > bytes_max && *bytes_max == beyond, "{bytes} of {bytes_max}");
    drop(subscription);
    kafka.close(Duration::from_secs(5)).await;
}

/// A topic of others with a limit of its own: what fits passes, also where a batch of it would not.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_a_smaller_limit_takes_what_fits() {
    let house = House::shared();
    let name = house.name("orders");
    let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "40000");
    let made = house.admin().create_topics([&new], &AdminOptions::new()).await.expect("it is made");
    made.into_iter().for_each(|made| drop(made.expect("it is made")));
    let kafka = house.open(&["orders"], 1).await;
    let sized = |id: usize, bytes: usize| Event {
        data: Bytes::from(vec![b'x'; bytes]),
        ..event(&id.to_string(), "k")
    };
    // Together far more than a batch may have there.
    let many: Vec<_> = (0..200).map(|id| sized(id, 10_000)).collect();
    eventually("all of them are taken", async || {
        let answers = kafka.publish(&topic("orders"), many.clone()).await;
        assert!(
            !answers.iter().any(|answer| matches!(answer, Err(PublishError::TooLarge { .. }))),
            "{answers:?}"
        );
        answers.iter().all(Result::is_ok).then_some(())
    })
    .await;
    let answers = kafka.publish(&topic("orders"), vec![sized(1, 60_000), sized(2, 10)]).await;
    assert!(matches!(answers.as_slice(), [Err(PublishError::TooLarge { .. }), _]), "{answers:?}");
    kafka.close(Duration::from_secs(5)).await;
}

/// A topic that is made while the hub runs is found within a few seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_later_is_found() {
    let house = House::shared();
    let kafka = house.open(&["orders"], 1).await;
    let late = topic("late");
    let answers = kafka.publish(&late, vec![event("1", "k")]).await;
    assert_eq!(answers, [Err(PublishError::UnknownTopic(late.clone()))]);
    house.open(&["late"], 1).await.close(Duration::from_secs(5)).await;
    eventually("it is found", async || {
        let answers = kafka.publish(&late, vec![event("1", "k")]).await;
        matches!(answers.as_slice(), [Ok(Published::New(Some(_)))]).then_some(())
    })
    .await;
    kafka.close(Duration::from_secs(5)).await;
}

/// What was taken before closing is answered for, and what comes after is refused.
#[tokio::test(flavor = "multi_thread")]
async fn closing_answers_for_everything() {
    let house = House::shared();
    let kafka = house.open(&["orders"], 2).await;
    let mut subscription = kafka.subscribe(&flow("reader"), &[topic("orders")]).await.expect("it is joined");
    assigned(&mut subscription).await;
    let many: Vec<_> = (0..2_000).map(|n| event(&format!("{n}"), &format!("k{n}"))).collect();
    let topic = topic("orders");
    let publishing = kafka.publish(&topic, many);
    let closing = async {
        tokio::task::yield_now().await;
        kafka.close(Duration::from_secs(10)).await;
    };
    let (answers, ()) = futures::join!(publishing, closing);
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
    let refused = kafka.publish(&topic, vec![event("late", "k")]).await;
    assert!(matches!(refused.as_slice(), [Err(PublishError::Unavailable(_))]), "{refused:?}");
}

/// A topic that is deleted while events go to it: they are refused as such, soon, and those of other topics go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_keeps_no_other_waiting() {
    let house = House::shared();
    let mut options = house.options.clone();
    options.publish_timeout = Duration::from_secs(10);
    let kafka = house.open_with(options, &["orders", "gone"], 1).await;
    publish(&kafka, "gone", vec![event("1", "k")]).await;
    house.admin().delete_topics(&[&house.name("gone")], &AdminOptions::new()).await.expect("it is deleted");
    eventually("it is refused", async || {
        let answers = kafka.publish(&topic("gone"), vec![event("2", "k")]).await;
        matches!(answers.as_slice(), [Err(PublishError::UnknownTopic(_))]).then_some(())
    })
    .await;
    publish(&kafka, "orders", events("k", 0..10)).await;
    kafka.close(Duration::from_secs(5)).await;
}
