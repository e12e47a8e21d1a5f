//! What a hub stands on: the store and the broker that its configuration names, opened and put together.
//!
//! ```text
//! store     broker
//! embedded  embedded   one process; the log of the broker is the outbox
//! postgres  embedded   one worker; its relay moves events from the outbox into the log
//! postgres  kafka      any number of workers
//! postgres  rabbitmq   any number of workers
//! ```

mod alone;
mod embedded;
mod hindrance;
mod kafka;
mod order;
mod postgres;
mod provision;
mod rabbitmq;
mod sent;
mod survey;
mod upkeep;

use std::{sync::Arc, time::Duration};

use crossdock_core::{Broker, Finding};
use crossdock_engine::Stores;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use embedded::ground as embedded;
pub use hindrance::{Waiting, hindrance};
pub use postgres::on_servers;
pub use sent::{depths, present};
pub use survey::{apply, database, migrate, survey};

/// A store and a broker, ready for a hub.
pub struct Ground {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The stores.
    pub stores: Stores,
    /// Cancelled when the hub must not go on, since another one has taken what it stands on.
    pub lost: CancellationToken,
    closing: Closing,
}

/// Lets go of everything, within a time.
type Closing = Box<dyn FnOnce(Duration) -> BoxFuture<'static, ()> + Send>;

/// Findings in one line, for an error.
fn told(findings: &[Finding]) -> String {
    let one = |finding: &Finding| match &finding.remedy {
        Some(remedy) => format!("{}: {}; {remedy}", finding.subject, finding.detail),
        None => format!("{}: {}", finding.subject, finding.detail),
    };
    findings.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Ground {
    /// Lets go of everything, after the hub has stopped. A broker whose members wait for others may take as long as it is given.
    pub async fn close(self, within: Duration) {
        (self.closing)(within).await;
    }
}
