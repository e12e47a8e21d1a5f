//! The connectors that need no code: one folder with a `connector.yaml` each.
//!
//! A new one is a new folder: `connector.yaml`, and under `samples/` the requests that its tests send through it. What a
//! manifest can say is documented in `crossdock_sdk::manifest`. What is beyond that becomes a crate `connector-<name>`.

use std::sync::Arc;

use crossdock_sdk::{Connector, Declarative, manifest::ManifestError};

/// Every `connector.yaml` with its name in errors, in the order of the names.
const MANIFESTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/manifests.rs"));

/// Every connector that is a manifest.
pub fn connectors() -> Vec<Arc<dyn Connector>> {
    let declared = declared().expect("the manifests of this build are loaded by its tests");
    declared.into_iter().map(|connector| Arc::new(connector) as Arc<dyn Connector>).collect()
}

/// The same with their tests; `Err` is the first thing that is wrong with a manifest.
pub fn declared() -> Result<Vec<Declarative>, ManifestError> {
    MANIFESTS.iter().map(|(file, yaml)| Declarative::load(file, yaml)).collect()
}
