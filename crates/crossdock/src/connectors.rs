//! The explicit list of connectors.

use std::{iter, sync::Arc};

use crossdock_connector_http::Http;
use crossdock_core::Connector;

/// Every connector that this program knows.
pub fn connectors() -> Vec<Arc<dyn Connector>> {
    let http: Arc<dyn Connector> = Arc::new(Http::new());
    iter::once(http).chain(crossdock_connectors::connectors()).collect()
}
