//! Exchanges, queues and bindings: asked for and made, one call after the other.

use std::sync::Arc;

use lapin::{
    BasicProperties, Channel, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use crate::link::{CALL_MAX, Link, Trouble};

/// not-found
const NOT_FOUND: u16 = 404;
/// precondition-failed: it is there, and not like that.
pub(crate) const DIFFERS: u16 = 406;

/// A channel for questions; a new one when the broker has closed it, as it does when the answer is no.
pub(crate) struct Desk {
    link: Arc<Link>,
    channel: Option<Channel>,
}

/// How a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Events that wait in it, without those that are out.
    pub(crate) ready: u64,
    /// Who consumes from it.
    pub(crate) consumers: u32,
}

/// What was made of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It has no delivery limit.
    Unlimited,
    /// It says nothing of a limit: the broker knows none (before 4.0), or the queue is older than the broker's version.
    Unsaid,
}

impl Desk {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link, channel: None }
    }

    async fn ask<T>(&mut self, call: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> Result<T, Trouble> {
        let channel = match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.link.channel().await?,
        };
        match timeout(CALL_MAX, call(&channel)).await {
            Ok(Ok(answer)) => {
                self.channel = Some(channel);
                Ok(answer)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Trouble::Silent),
        }
    }

    pub(crate) async fn has_exchange(&mut self, name: &str) -> Result<bool, Trouble> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let asked = self.ask(async |channel| {
            channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default()).await
        });
        found(asked.await).map(|found| found.is_some())
    }

    pub(crate) async fn make_exchange(&mut self, name: &str) -> Result<(), Trouble> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let asked = self.ask(async |channel| {
            channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default()).await
        });
        asked.await
    }

    pub(crate) async fn queue(&mut self, name: &str) -> Result<Option<Queue>, Trouble> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = self
            .ask(async |channel| channel.queue_declare(name.into(), options, FieldTable::default()).await);
        let queue = found(asked.await)?;
        Ok(queue
            .map(|queue| Queue { ready: queue.message_count().into(), consumers: queue.consumer_count() }))
    }

    /// Makes a queue, or finds it as it should be. One that differs is an error with the code [`DIFFERS`], which names what.
    pub(crate) async fn make_queue(&mut self, name: &str) -> Result<Made, Trouble> {
        if self.link.knows_unlimited().await? {
            match self.declare(name, arguments(true)).await {
                Ok(()) => return Ok(Made::Unlimited),
                // It was made without, by an older version.
                Err(error)
                    if error.code() == Some(DIFFERS) && error.to_string().contains("x-delivery-limit") => {}
                Err(error) => return Err(error),
            }
        }
        self.declare(name, arguments(false)).await.map(|()| Made::Unsaid)
    }

    async fn declare(&mut self, name: &str, arguments: FieldTable) -> Result<(), Trouble> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let asked = self.ask(async |channel| channel.queue_declare(name.into(), options, arguments).await);
        asked.await.map(drop)
    }

    /// Binds a queue; doing it twice changes nothing.
    pub(crate) async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Trouble> {
        let asked = self.ask(async |channel| {
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments).await
        });
        asked.await
    }

    /// A queue that goes with its connection.
    pub(crate) async fn make_temporary(&mut self, name: &str) -> Result<(), Trouble> {
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let asked = self
            .ask(async |channel| channel.queue_declare(name.into(), options, FieldTable::default()).await);
        asked.await.map(drop)
    }

    /// What a login must be allowed to do: binds, consumes and publishes, with a queue that goes with its connection. The
    /// event is for nobody.
    pub(crate) async fn try_out(&mut self, queue: &str, exchange: &str) -> Result<(), Trouble> {
        self.bind(queue, exchange, "check").await?;
        let asked = self.ask(async |channel| {
            channel
                .queue_unbind(queue.into(), exchange.into(), "check".into(), FieldTable::default())
                .await?;
            let consume = BasicConsumeOptions::default();
            drop(channel.basic_consume(queue.into(), "".into(), consume, FieldTable::default()).await?);
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let (publish, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            channel.basic_publish(exchange.into(), "check".into(), publish, b"", properties).await?.await
        });
        asked.await.map(drop)
    }
}

/// None for what is not there.
fn found<T>(asked: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the queue of a shard is like: replicated, one consumer at a time, and nothing in it is ever dropped: not the oldest
/// when it is full (the publisher is refused instead), not what was delivered often.
fn arguments(unlimited: bool) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    if unlimited {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    }
    arguments
}
