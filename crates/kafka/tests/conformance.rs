//! Kafka keeps every promise of a broker. Needs a real one: `make up`.

mod house;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::Broker;
use crossdock_kafka::{Kafka, TopicShape};
use crossdock_testkit::{HasBroker, Setup, Subject};
use house::House;

struct OnKafka {
    house: Arc<House>,
    kafka: Kafka,
}

impl OnKafka {
    async fn open(house: Arc<House>, setup: &Setup) -> Self {
        let mut options = house.options.clone();
        options.event_bytes_max = setup.event_bytes_max;
        options.retention = Some(setup.retention);
        let names: Vec<_> = setup.topics.iter().map(|topic| topic.as_str()).collect();
        let kafka = house.open_with(options, &names, setup.partitions).await;
        let wanted: Vec<_> = setup.topics.iter().cloned().map(TopicShape::new).collect();
        kafka.provision(&wanted).await.expect("what is there fits");
        Self { house, kafka }
    }
}

#[async_trait]
impl Subject for OnKafka {
    async fn create(setup: &Setup) -> Self {
        Self::open(House::shared(), setup).await
    }

    async fn reopen(self, setup: &Setup) -> Self {
        self.kafka.close(Duration::from_secs(10)).await;
        Self::open(self.house, setup).await
    }

    async fn crash(self, setup: &Setup) -> Self {
        self.kafka.sever().await;
        Self::open(self.house, setup).await
    }
}

impl HasBroker for OnKafka {
    const KEEPS_GAPS: bool = true;
    const KNOWS_TOPICS: bool = true;
    const TELLS_POSITIONS: bool = true;
    const WAKE_MAX: Duration = Duration::from_millis(50);

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.kafka.clone())
    }
}

mod broker {
    crossdock_testkit::broker_suite!(super::OnKafka);
}

mod sharing {
    crossdock_testkit::sharing_suite!(super::OnKafka);
}
