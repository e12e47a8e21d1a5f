//! No case is written and then forgotten.

use std::{collections::BTreeSet, fs, path::Path};

/// Functions that are cases by their form and are run by name elsewhere.
fn cases(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("pub async fn ")?.split_once("<S: "))
        .map(|(name, _)| name)
}

fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let read = |path: std::path::PathBuf| {
        if path.is_dir() { sources(&path) } else { vec![fs::read_to_string(path).expect("a source")] }
    };
    entries.flat_map(read).collect()
}

#[test]
fn every_case_stands_in_a_suite() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let suites = fs::read_to_string(folder.join("suites.rs")).expect("the lists");
    let listed: BTreeSet<_> = suites.lines().map(str::trim).collect();
    let sources = sources(&folder);
    let found: Vec<_> = sources.iter().flat_map(|source| cases(source)).collect();
    assert!(found.len() > 80, "{} cases were found", found.len());
    for case in found {
        assert!(listed.contains(case), "{case} stands in no suite");
    }
}
