//! What a broker needs before a hub can use it: made now, or as soon as the broker is there.

use std::sync::Arc;

use crossdock_core::{Finding, Severity};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use super::hindrance::{Hindrance, Patience};

/// Makes what is missing, once, and tells what differs.
pub type Provision = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<Finding>, Hindrance>> + Send + Sync>;

/// Makes what is missing. While the broker is away, it is made in the background: events are taken in meanwhile, and flows
/// join their topics once they are there.
pub async fn now_or_later(
    what: &'static str,
    provision: Provision,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    match provision().await {
        Ok(findings) => {
            warn(&findings);
            Ok(None)
        }
        Err(Hindrance::Final(error)) => Err(error),
        Err(Hindrance::Away(error)) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "{what} is not available; events are taken in, and flows wait for it"
            );
            let patience = Patience::told(format!("{error:#}"));
            Ok(Some(tokio::spawn(later(what, provision, patience))))
        }
    }
}

async fn later(what: &'static str, provision: Provision, mut patience: Patience) {
    loop {
        match provision().await {
            Ok(findings) => {
                patience.rewarded(what);
                return warn(&findings);
            }
            Err(Hindrance::Away(error)) => patience.wait(what, &error).await,
            Err(Hindrance::Final(error)) => {
                let error = format!("{error:#}");
                return tracing::error!(error, "{what} cannot be used; mend it, then restart the hub");
            }
        }
    }
}

/// What differs in a broker is told at every start and never changed.
fn warn(findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
        tracing::warn!(
            subject = finding.subject,
            remedy = finding.remedy,
            "the broker differs from the configuration: {}",
            finding.detail
        );
    }
}
