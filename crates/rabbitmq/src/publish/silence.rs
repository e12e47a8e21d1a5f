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
        vhost: &str,
        after: Duration,
    ) {
        let new = shards.into_iter().filter(|shard| self.0.insert(shard.clone()));
        let queues: Vec<_> = new.flat_map(|shard| queues(&shard)).collect();
        let Some(first) = queues.first() else { return };
        tracing::error!(
            queues = queues.join(" "),
            after_seconds = after.as_secs(),
            elect = election(vhost, first),
            "the broker answers, and one of these queues confirms nothing: it has no leader. `rabbitmq-diagnostics \
             list_unresponsive_queues` tells which; start the nodes that it misses, or, where all run, have it elect one with the \
             command here. What waits for it stays in the outbox, and goes on by itself"
        );
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

/// What to type so that a queue elects a leader. A node that was killed soon after it made a queue has it without one when it is back, and
/// does not elect one by itself, nor when it is started anew (seen with 3.10.8).
fn election(vhost: &str, queue: &str) -> String {
    format!(
        "rabbitmqctl eval '{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)), \
         ra:trigger_election(amqqueue:get_pid(Q)).'"
    )
}
