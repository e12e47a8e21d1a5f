//! Every manifest loads, keeps what it promises, and is named after its folder.

use std::path::Path;

use crossdock_connectors::declared;
use crossdock_sdk::Connector;

#[test]
fn every_manifest_passes_the_tests_that_it_brings() {
    let connectors = declared().unwrap_or_else(|error| panic!("{error}"));
    assert!(connectors.len() >= 4, "the manifests are found");
    for connector in connectors {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(&connector.spec().name);
        let read = |file: &str| std::fs::read(folder.join(file)).ok().map(Into::into);
        let made = connector.check(read).unwrap_or_else(|failures| {
            let failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
            panic!("{}: {}", connector.spec().name, failures.join("\n"))
        });
        assert!(made >= 4, "{}: the requests of its tests, and their faults", connector.spec().name);
    }
}
