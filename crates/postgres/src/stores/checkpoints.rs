//! The checkpoints port.

use async_trait::async_trait;
use crossdock_core::{Checkpoints, Group, StoreError, Topic};

use crate::{Postgres, pool::Purpose};

#[async_trait]
impl Checkpoints for Postgres {
    async fn begun(&self, group: &Group) -> Result<Vec<Topic>, StoreError> {
        let group = group.clone();
        let topics = self.call(Purpose::Delivery, "reading what groups have begun", move |connection| {
            Box::pin(async move {
                let sql = "SELECT topic FROM crossdock.checkpoints WHERE consumer_group = $1";
                let topics = sqlx::query_scalar::<_, String>(sql).bind(group.as_str());
                Ok(topics.fetch_all(connection).await?)
            })
        });
        let named =
            |topic: String| Topic::new(&topic).map_err(|error| StoreError::Damaged(error.to_string()));
        topics.await?.into_iter().map(named).collect()
    }

    async fn begin(&self, group: &Group, topics: &[Topic]) -> Result<(), StoreError> {
        let (group, topics) = (group.clone(), topics.to_vec());
        self.write("writing what groups have begun", move |connection| {
            let (group, topics) = (group.clone(), topics.clone());
            Box::pin(async move {
                let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
                // In one order, so that two workers of a group do not wait for each other in a circle.
                sqlx::query(
                    "INSERT INTO crossdock.checkpoints (consumer_group, topic)
                     SELECT DISTINCT $1, topic FROM unnest($2::text[]) AS t (topic) ORDER BY topic
                     ON CONFLICT DO NOTHING",
                )
                .bind(group.as_str())
                .bind(names)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }
}
