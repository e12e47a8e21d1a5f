//! Asks other people's code. Included by the tests that compare ours with it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Where `deploy/dev/oracles` has installed the packages.
pub fn packages() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/npm/node_modules");
    assert!(folder.is_dir(), "the packages to compare with are not there: run deploy/dev/oracles");
    folder
}

/// Runs a script of this folder with the question on its standard input; its answer is what it prints.
pub fn ask(script: &str, question: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracles").join(script);
    let mut child = Command::new("node")
        .arg(script)
        .arg(packages())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node starts: `make test` installs it");
    let mut stdin = child.stdin.take().expect("the input is piped");
    // The scripts read everything before they print anything, so neither side waits for the other.
    stdin.write_all(question.to_string().as_bytes()).expect("the script reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the script ends");
    assert!(output.status.success(), "the script failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the script answers in JSON")
}
