//! Queues that confirm nothing, while the broker answers: told once, with what to do, and once more when they do again.

use std::{collections::BTreeSet, time::Duration};

use crossdock_core::Partition;

use super::flight::Landed;

/// The shards of a lane of which the broker has confirmed nothing.
#[derive(Default)]
pub(super) struct Silence(BTreeSet<Partition>);

impl Silence {
    /// Nothing of these shards was confirmed for so long. One queue that does not answer is enough: the broker confirms an event when all
    /// queues have it.
    pub(super) fn begins(
        &mut self,
        shards: BTreeSet<Partition>,
        queues: impl Fn(&Partition) -> Vec<String>,
        after: Duration,
    ) {
        let new = shards.into_iter().filter(|shard| self.0.insert(shard.clone()));
        let queues: Vec<_> = new.flat_map(|shard| queues(&shard)).collect();
        if !queues.is_empty() {
            tracing::error!(
                queues = queues.join(" "),
                after_seconds = after.as_secs(),
                "the broker answers, and one of these queues confirms nothing: it has no leader. `rabbitmq-queues quorum_status \
                 QUEUE` tells; start the nodes that it misses, or restart the node that has it. What waits for it stays in \
                 the outbox, and goes on by itself"
            );
        }
    }

    /// A job has its answers.
    pub(super) fn ends(&mut self, landed: &Landed) {
        if self.0.is_empty() {
            return;
        }
        let Landed { job, answers, .. } = landed;
        let taken = job.items.iter().zip(answers).filter(|(_, (_, answer))| answer.is_ok());
        for (item, _) in taken {
            let shard = Partition { topic: job.topic.clone(), number: item.shard };
            if self.0.remove(&shard) {
                tracing::info!(%shard, "the queues of the shard confirm again");
            }
        }
    }
}
