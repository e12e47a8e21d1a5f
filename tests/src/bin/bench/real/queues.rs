//! What waits in queues of RabbitMQ, asked over AMQP: `rabbitmqctl` would take a core for half a second.

use std::time::Duration;

use anyhow::Context;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that looks at queues.
pub struct Queues {
    channel: Channel,
    /// Closed when it is dropped.
    _connection: Connection,
}

impl Queues {
    pub async fn open(amqp: &str) -> anyhow::Result<Self> {
        let opened = async {
            let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
            Ok::<_, lapin::Error>((connection.create_channel().await?, connection))
        };
        let (channel, connection) = timeout(PATIENCE, opened)
            .await
            .context("RabbitMQ does not answer")?
            .context("failed to reach RabbitMQ")?;
        Ok(Self { channel, _connection: connection })
    }

    /// How many messages wait in all of them.
    pub async fn waiting(&self, names: &[String]) -> anyhow::Result<u64> {
        let mut events = 0;
        for name in names {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let looked = self.channel.queue_declare(name.as_str().into(), passive, FieldTable::default());
            let queue = timeout(PATIENCE, looked).await.context("RabbitMQ does not answer")?;
            let queue = queue.with_context(|| format!("failed to look at the queue {name}"))?;
            events += u64::from(queue.message_count());
        }
        Ok(events)
    }

    /// Deletes a queue with what is in it.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let deleted = self.channel.queue_delete(name.into(), QueueDeleteOptions::default());
        let deleted = timeout(PATIENCE, deleted).await.context("RabbitMQ does not answer")?;
        deleted.with_context(|| format!("failed to delete the queue {name}"))?;
        Ok(())
    }
}
