//! The numbers of the hub on a few lines.

use std::net::SocketAddr;

use crossdock_engine::{FlowStatus, Hub, Status};

/// The hub at one moment.
pub struct Glance {
    status: Status,
    flows: Vec<FlowStatus>,
    hub: SocketAddr,
}

impl Glance {
    /// Asks the hub.
    pub async fn take(hub: &Hub, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { status: hub.status().await?, flows: hub.flows().await?, hub: address })
    }

    /// The block that refreshes: a line for each flow, one for the hub.
    pub fn block(&self) -> Vec<String> {
        let route = |flow: &FlowStatus| {
            let from =
                flow.from.iter().map(|topic| topic.as_str().trim_start_matches("in.")).collect::<Vec<_>>();
            format!("{} ─► {} ─► {}", from.join(", "), flow.name, flow.connection)
        };
        let width = self.flows.iter().map(|flow| route(flow).chars().count()).max().unwrap_or_default();
        let line = |flow: &FlowStatus| {
            format!(
                " {:<width$}  {:<12} {:>5} delivered {:>3} in the lanes {:>3} held {:>2} dead",
                route(flow),
                flow.state.as_str(),
                flow.delivered,
                flow.pending,
                flow.held,
                flow.dead,
            )
        };
        let mut block: Vec<_> = self.flows.iter().map(line).collect();
        block.push(format!(
            " {} accepted · {} duplicates dropped · {} failed attempts · http://{} · Ctrl-C ends",
            self.status.accepted, self.status.duplicates, self.status.failed_attempts, self.hub,
        ));
        block
    }

    /// The same on one line, for where nothing can refresh.
    pub fn line(&self) -> String {
        let Status { accepted, duplicates, delivered, failed_attempts, pending, held, dead, .. } =
            &self.status;
        format!(
            "accepted {accepted}, duplicates {duplicates}, delivered {delivered}, failed attempts {failed_attempts}, in \
             the lanes {pending}, held {held}, dead {dead}"
        )
    }
}
