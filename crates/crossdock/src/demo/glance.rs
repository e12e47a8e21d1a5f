//! The numbers of the hub on a few lines.

use crossdock_engine::{FlowStatus, Hub, Status};

/// The hub at one moment.
pub struct Glance {
    status: Status,
    flows: Vec<FlowStatus>,
}

impl Glance {
    /// Asks the hub.
    pub async fn take(hub: &Hub) -> anyhow::Result<Self> {
        Ok(Self { status: hub.status().await?, flows: hub.flows().await? })
    }

    /// The block that refreshes: a line for each flow, one for the hub. Fits 80 columns.
    pub fn block(&self) -> Vec<String> {
        let route = |flow: &FlowStatus| format!("{} ─► {}", flow.name, flow.connection);
        let width = self.flows.iter().map(|flow| route(flow).chars().count()).max().unwrap_or_default();
        let line = |flow: &FlowStatus| {
            let (route, state, waiting) = (route(flow), flow.state.as_str(), flow.pending + flow.held);
            format!(
                " {route:<width$}  {state:<9} {:>5} delivered {waiting:>3} waiting {:>2} dead",
                flow.delivered, flow.dead
            )
        };
        let mut block: Vec<_> = self.flows.iter().map(line).collect();
        let Status { accepted, duplicates, failed_attempts, held, .. } = &self.status;
        block.push(format!(
            " {accepted} accepted · {duplicates} duplicates · {failed_attempts} failed attempts · {held} held · Ctrl-C ends"
        ));
        block
    }

    /// The same on one line, for where nothing can refresh.
    pub fn line(&self) -> String {
        let Status { accepted, duplicates, delivered, failed_attempts, pending, held, dead, .. } =
            &self.status;
        format!(
            "accepted {accepted}, duplicates {duplicates}, delivered {delivered}, failed attempts {failed_attempts}, waiting {pending}, held {held}, dead {dead}"
        )
    }
}

#[cfg(test)]
mod tests {
    use crossdock_core::{ConnectionName, ConnectionState, FlowName};
    use jiff::Timestamp;

    use super::*;

    fn flow(name: &str, connection: &str, delivered: u64) -> FlowStatus {
        FlowStatus {
            name: FlowName::new(name).expect("a name"),
            from: Vec::new(),
            connection: ConnectionName::new(connection).expect("a name"),
            action: "post".to_owned(),
            state: ConnectionState::Throttled,
            delivered,
            filtered: 0,
            failed_attempts: 0,
            pending: 2,
            held: 24,
            dead: 1,
            next_retry_at: None,
            lag: Vec::new(),
        }
    }

    fn glance() -> Glance {
        let status = Status {
            relay: None,
            state: "running",
            version: "0",
            started_at: Timestamp::UNIX_EPOCH,
            accepted: 10_000,
            duplicates: 3,
            delivered: 12_000,
            failed_attempts: 40,
            pending: 4,
            held: 48,
            dead: 1,
            problems: Vec::new(),
        };
        Glance {
            status,
            flows: vec![flow("orders-to-crm", "crm", 9000), flow("picks-to-warehouse", "warehouse", 3000)],
        }
    }

    #[test]
    fn the_block_fits_the_narrowest_terminal_and_stands_in_columns() {
        let block = glance().block();
        assert_eq!(block.len(), 3);
        assert!(block.iter().all(|line| line.chars().count() <= 79), "{block:#?}");
        assert_eq!(
            block[0],
            " orders-to-crm ─► crm             throttled  9000 delivered  26 waiting  1 dead"
        );
        assert_eq!(
            block[1],
            " picks-to-warehouse ─► warehouse  throttled  3000 delivered  26 waiting  1 dead"
        );
    }

    #[test]
    fn the_line_has_every_number() {
        let line =
            "accepted 10000, duplicates 3, delivered 12000, failed attempts 40, waiting 4, held 48, dead 1";
        assert_eq!(glance().line(), line);
    }
}
