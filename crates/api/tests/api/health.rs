//! What probes are told of a worker that does not work as it should.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use crossdock_api::ApiOptions;
use crossdock_core::{
    Action, Broker, BrokerError, Connection, ConnectionName, Event, FlowName, Group, GroupLag, Item, Output,
    Partition, PublishError, Published, RetryPolicy, Signal, Subscription, SystemClock, Topic,
};
use crossdock_engine::{ConnectionPlan, FlowPlan, Hub, Order, Plan, Roles};
use crossdock_testkit::{Disk, Memory};
use tokio::sync::Notify;

use crate::{
    fake::Moody,
    harness::{PATIENCE, Server, plan, setup, stores},
};

/// A broker whose subscriptions panic on command, which none should.
struct Faulty(Arc<Notify>);

#[async_trait]
impl Broker for Faulty {
    async fn publish(&self, _: &Topic, _: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        Vec::new()
    }

    async fn subscribe(&self, _: &Group, _: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        Ok(Box::new(Self(self.0.clone())))
    }

    async fn lag(&self, _: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Subscription for Faulty {
    async fn next(&mut self) -> Result<Signal, BrokerError> {
        self.0.notified().await;
        panic!("the test wants it");
    }

    fn pause(&mut self, _: &Partition) {}

    fn resume(&mut self, _: &Partition) {}
}

/// A system that takes everything.
struct Sink;

impl Connection for Sink {
    fn action(&self, _: &str) -> Option<Arc<dyn Action>> {
        Some(Arc::new(Self))
    }
}

#[async_trait]
impl Action for Sink {
    async fn call(&self, items: &[Item]) -> Vec<Output> {
        items.iter().map(|_| Output { request: None, status: Some(200), result: Ok(()) }).collect()
    }
}

fn with_a_flow() -> Plan {
    let (plan, sink) = (plan(), ConnectionName::new("sink").unwrap());
    let flow = FlowPlan {
        name: FlowName::new("billing").unwrap(),
        topics: plan.topics.clone(),
        key: None,
        filter: None,
        map: None,
        connection: sink.clone(),
        action: "send".to_owned(),
        fields: Vec::new(),
        order: Order::Key,
        retry: RetryPolicy::default(),
    };
    let sink = ConnectionPlan {
        name: sink,
        connector: "sink".to_owned(),
        connection: Arc::new(Sink),
        concurrency: 1,
        circuit: None,
    };
    Plan { flows: vec![Arc::new(flow)], connections: vec![Arc::new(sink)], ..plan }
}

#[tokio::test]
async fn a_flow_that_ended_by_an_error_of_ours_makes_the_worker_dead_and_is_named() {
    let store = Arc::new(Moody::new(Memory::open(Disk::default(), &setup())));
    let broken = Arc::new(Notify::new());
    let broker = Arc::new(Faulty(broken.clone()));
    let hub = Hub::start(with_a_flow(), broker, stores(&store), Arc::new(SystemClock), Roles::default());
    let server = Server::of(hub.await.unwrap(), ApiOptions::default()).await;
    assert_eq!(
        (server.get("/health/live").await.status, server.get("/health/ready").await.status),
        (200, 200)
    );
    broken.notify_one();
    let dead = async || server.get("/health/live").await.status == 500;
    let until = tokio::time::Instant::now() + PATIENCE;
    while !dead().await {
        assert!(tokio::time::Instant::now() < until, "it is noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let problem = server.get("/health/live").await.problem(500, "internal");
    assert_eq!(problem["detail"], "flow billing has stopped by an error of ours");
}
