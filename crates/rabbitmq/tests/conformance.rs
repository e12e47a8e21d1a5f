//! RabbitMQ keeps every promise of a broker. Needs a real one: `make up`.

mod house;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_core::Broker;
use crossdock_rabbitmq::{TopicShape, Wanted};
use crossdock_testkit::{HasBroker, Setup, Subject};
use house::{House, Worker};

struct OnRabbit {
    house: Arc<House>,
    worker: Worker,
}

impl OnRabbit {
    async fn open(house: Arc<House>, setup: &Setup) -> Self {
        let mut options = house.options(&[]);
        options.event_bytes_max = setup.event_bytes_max;
        let shapes = setup.topics.iter().cloned();
        let wanted = Wanted {
            topics: shapes.map(|topic| TopicShape { topic, partitions: Some(setup.partitions) }).collect(),
            groups: setup.groups.clone(),
        };
        let worker = house.open(options, &wanted).await;
        Self { house, worker }
    }
}

#[async_trait]
impl Subject for OnRabbit {
    async fn create(setup: &Setup) -> Self {
        Self::open(Arc::new(House::shared()), setup).await
    }

    async fn reopen(self, setup: &Setup) -> Self {
        self.worker.rabbit.close(Duration::from_secs(10)).await;
        Self::open(self.house, setup).await
    }

    async fn crash(self, setup: &Setup) -> Self {
        self.worker.kill();
        Self::open(self.house, setup).await
    }
}

impl HasBroker for OnRabbit {
    const KEEPS_GAPS: bool = true;
    const KNOWS_TOPICS: bool = true;
    const TELLS_POSITIONS: bool = true;
    const WAKE_MAX: Duration = Duration::from_millis(50);

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.worker.rabbit.clone())
    }
}

mod broker {
    crossdock_testkit::broker_suite!(super::OnRabbit);
}

mod sharing {
    crossdock_testkit::sharing_suite!(super::OnRabbit);
}
