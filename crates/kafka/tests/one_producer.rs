//! K14: alone in its process, so that nobody else makes producers.

mod house;

use std::time::Duration;

use crossdock_kafka::Kafka;
use futures::future::join_all;
use house::{House, event, publish};

#[tokio::test(flavor = "multi_thread")]
async fn all_calls_share_one_producer() {
    let house = House::shared();
    let kafka = house.open(&["orders", "returns"], 2).await;
    let calls = (0..200).map(|n| {
        let kafka = kafka.clone();
        let topic = if n % 2 == 0 { "orders" } else { "returns" };
        async move { publish(&kafka, topic, vec![event(&format!("{n}"), "k")]).await }
    });
    join_all(calls).await;
    assert_eq!(Kafka::producers_made(), 1);
    kafka.close(Duration::from_secs(5)).await;
}
