//! Whether this worker works as it should: what probes of orchestrators go by.
//!
//! [`Hub::broken`] says that only another process can do better, so that the worker is restarted; [`Hub::unready`] that it
//! cannot do at this moment what it is there for, so that nothing is sent to it and a rollout waits. A broker, a store or a
//! receiver that is away breaks no worker: each goes on by itself once they are back.

use std::sync::atomic::Ordering;

use crate::{hub::Hub, relay::Watch};

impl Hub {
    /// What stands still although nothing keeps it, for people: partitions with events that wait, whose connection is `ok`, and
    /// of which nothing was tried or written for a minute while no call was out. Empty as long as work progresses.
    pub fn stalled(&self) -> Vec<String> {
        self.progress.stalled()
    }

    /// What has ended by an error of ours although the hub is not stopping: flows, and the relay if it ended or panics whenever
    /// it begins.
    pub(crate) fn ended(&self) -> Vec<String> {
        let flows = self.flows_ended().into_iter();
        let mut ended: Vec<_> =
            flows.map(|flow| format!("flow {flow} has stopped by an error of ours")).collect();
        if self.relay_ended() || self.relay.as_deref().is_some_and(Watch::is_broken) {
            ended.push("the relay of the outbox has stopped by an error of ours".to_owned());
        }
        ended
    }

    /// What only another process can mend, for people: flows and a relay that have ended by an error of ours, and partitions
    /// that had deliveries in memory for five minutes and tried none of them. Empty while servers are away.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.ended();
        broken.extend(self.progress.stuck());
        broken
    }

    /// Why this worker cannot do at this moment what it is there for, for people. One that takes events in can as long as the
    /// outbox takes them ([`Outbox::refusal`](crossdock_core::Outbox::refusal)), whatever else is away: they wait there. Of
    /// any other one every flow has joined its topics, nothing stands still, and the broker takes what it relays.
    pub fn unready(&self) -> Option<String> {
        if self.ingests {
            return None;
        }
        let missing = self.delivered.iter().find(|flow| !flow.joined.load(Ordering::Relaxed));
        missing
            .map(|flow| format!("flow {} has not joined its topics", flow.plan.name))
            .or_else(|| self.stalled().into_iter().next())
            .or_else(|| self.relay.as_deref().and_then(Watch::problem))
    }
}
